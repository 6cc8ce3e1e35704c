/** Take files that are chosen, dropped anywhere on the page, or pasted. */

import { UserError } from "./errors.js";

/** @param {(file: File) => void} take is called with each file */
export function listenForFiles(take) {
  for (const id of ["file", "model-file"]) {
    const input = document.getElementById(id);
    input.addEventListener("change", () => {
      if (input.files.length) take(input.files[0]);
      input.value = ""; // so that the same file can be chosen again
    });
  }
  let depth = 0; // the event of entering a child comes before that of leaving its parent
  const hover = (change) => {
    depth = Math.max(0, depth + change);
    document.body.classList.toggle("hover", depth > 0);
  };
  addEventListener("dragenter", () => hover(1));
  addEventListener("dragleave", () => hover(-1));
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", (event) => {
    event.preventDefault();
    hover(-depth);
    if (event.dataTransfer.files.length) take(event.dataTransfer.files[0]);
  });
  addEventListener("paste", (event) => {
    if (event.clipboardData?.files.length) take(event.clipboardData.files[0]);
  });
}

/**
 * @param {string} url the URL of a file beside the page
 * @param {(share: number, loaded: number) => void} onProgress the loaded share, NaN where the size is unknown, and
 *   the loaded bytes
 * @returns {Promise<Uint8Array>}
 */
export async function download(url, onProgress = () => {}) {
  const response = await fetch(url).catch((error) => ({ ok: false, status: error.message }));
  if (!response.ok) {
    throw new UserError(`${url} cannot be loaded (${response.status}): make.py puts it beside the page.`);
  }
  const total = Number(response.headers.get("Content-Length"));
  const parts = [];
  let loaded = 0;
  for (const reader = response.body.getReader(); ;) {
    const { done, value } = await reader.read();
    if (done) break;
    parts.push(value);
    loaded += value.length;
    onProgress(total ? loaded / total : NaN, loaded);
  }
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}
