/** Load a network from another origin, in a worker. */

import { downloadModel } from "./download.js";
import { UserError } from "./errors.js";

/**
 * Load the network that `?model=` names.
 *
 * The page's policy forbids other origins, so that nothing on the page can send a photo away. The worker is not bound by
 * that policy, and knows nothing but the address.
 *
 * @param {string} address absolute, or relative to the page
 * @param {(share: number, loaded: number) => void} onProgress see `download`
 * @returns {Promise<{bytes: Uint8Array, name: string, from: string | null}>} `from` is the other origin's host
 */
export async function loadNamedModel(address, onProgress) {
  const url = parseAddress(address);
  const name = decodeURIComponent(url.pathname.split("/").at(-1)) || url.host;
  if (url.origin === location.origin) return { bytes: await downloadModel(url.href, { onProgress }), name, from: null };
  return { bytes: await downloadInWorker(url.href, onProgress), name, from: url.host };
}

function parseAddress(address) {
  try {
    const url = new URL(address, location.href);
    if (/^https?:$/.test(url.protocol)) return url;
  } catch {
    // as for another protocol
  }
  throw new UserError(`?model=${address} is no address that this page can load; expected https://… or a file beside the page.`);
}

function downloadInWorker(url, onProgress) {
  const worker = new Worker(new URL("./loader.js", import.meta.url), { type: "module" });
  return new Promise((resolve, reject) => {
    worker.onmessage = ({ data: { progress, bytes, refusal } }) => {
      if (progress) onProgress(...progress);
      else if (bytes) resolve(bytes);
      else reject(new UserError(refusal));
    };
    worker.onerror = () => reject(new UserError(`${url} cannot be loaded: the page's loader does not start.`));
    worker.postMessage(url);
  }).finally(() => worker.terminate());
}
