/** Download files: those beside the page, and a network from elsewhere. */

import { UserError } from "./errors.js";
import { formatMegabytes } from "./photo.js";

export const MAX_MODEL_BYTES = 500_000_000;

/**
 * @param {string} url of a file beside the page
 * @param {{bytes?: number, onProgress?: (share: number, loaded: number) => void}} options `bytes` is the file's size;
 *   the share is NaN where it is unknown
 * @returns {Promise<Uint8Array>}
 */
export async function download(url, { bytes = NaN, onProgress } = {}) {
  const response = await fetch(url).catch((error) => ({ ok: false, status: error.message }));
  if (!response.ok) {
    throw new UserError(`${url} cannot be loaded (${response.status}): make.py puts it beside the page.`);
  }
  return readBody(response, { bytes, onProgress });
}

/**
 * Download a network from any address; nothing but the address is sent.
 *
 * @param {string} url
 * @param {{onProgress?: Function, limit?: number}} options see `download`; `limit` is the largest size
 */
export async function downloadModel(url, { onProgress, limit = MAX_MODEL_BYTES } = {}) {
  const response = await fetch(url, { credentials: "omit", referrerPolicy: "no-referrer" }).catch(() => {
    throw new UserError(`${url} cannot be loaded: there is no such server, or it does not let this page read the file ` +
      "(it must send the header Access-Control-Allow-Origin).");
  });
  if (!response.ok) throw new UserError(`${url} cannot be loaded: its server answers ${response.status}.`);
  const encoded = response.headers.has("Content-Encoding");
  const bytes = encoded ? NaN : Number(response.headers.get("Content-Length") ?? NaN);
  return readBody(response, { bytes, onProgress, limit });
}

async function readBody(response, { bytes, onProgress = () => {}, limit = Infinity }) {
  const parts = [];
  let loaded = 0;
  for (const reader = response.body.getReader(); ;) {
    if (loaded > limit || bytes > limit) {
      await reader.cancel();
      throw new UserError(`${response.url} has more than ${formatMegabytes(limit)}, the most that this page loads.`);
    }
    const { done, value } = await reader.read();
    if (done) break;
    parts.push(value);
    loaded += value.length;
    onProgress(Math.min(1, loaded / bytes), loaded);
  }
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}
