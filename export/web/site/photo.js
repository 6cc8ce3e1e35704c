/** Decode a picture file to RGB rows: upright, and on white where it is transparent. */

import { UserError } from "./errors.js";

export const MAX_PIXELS = 100_000_000;
export const MAX_BYTES = 200_000_000;

/**
 * @param {File} file
 * @returns {Promise<{name, width, height, rows, url, close}>} `rows(top, count)` returns RGB bytes, `url` shows the
 *   photo, `close()` frees both
 */
export async function openPhoto(file) {
  const name = file.name || "The picture";
  if (file.size === 0) throw new UserError(`${name} is empty.`);
  if (file.size > MAX_BYTES) {
    throw new UserError(`${name} has ${formatMegabytes(file.size)}; expected at most ${formatMegabytes(MAX_BYTES)}.`);
  }
  const url = URL.createObjectURL(file);
  try {
    const { naturalWidth: width, naturalHeight: height } = await readHeader(url);
    if (width * height > MAX_PIXELS) {
      throw new UserError(`${name} has ${width} × ${height} pixels; expected at most ${MAX_PIXELS / 1e6} million.`);
    }
    // Color profiles are ignored, as in training.
    const bitmap = await createImageBitmap(file, { imageOrientation: "from-image", colorSpaceConversion: "none" });
    const close = () => {
      bitmap.close();
      URL.revokeObjectURL(url);
    };
    return { name, width: bitmap.width, height: bitmap.height, rows: makeRowReader(bitmap), url, close };
  } catch (error) {
    URL.revokeObjectURL(url);
    if (error instanceof UserError) throw error;
    throw new UserError(`${name} cannot be read: it is damaged, or not a picture that this browser can read. ` +
      "JPEG, PNG, WebP and GIF work.");
  }
}

/** Read the header of an image, whose pixels stay encoded. */
async function readHeader(url) {
  const image = new Image();
  await new Promise((resolve, reject) => {
    image.onload = resolve;
    image.onerror = () => reject(new Error("not a picture"));
    image.src = url;
  });
  return image;
}

/** Copy rows one to one, a band at a time; the canvas never scales. */
function makeRowReader(bitmap) {
  const band = document.createElement("canvas");
  const context = band.getContext("2d", { willReadFrequently: true, alpha: false });
  return (top, count) => {
    [band.width, band.height] = [bitmap.width, count]; // also clears the band
    context.fillStyle = "white";
    context.fillRect(0, 0, band.width, count);
    context.drawImage(bitmap, 0, top, bitmap.width, count, 0, 0, bitmap.width, count);
    const rgba = context.getImageData(0, 0, bitmap.width, count).data;
    const rgb = new Uint8Array(bitmap.width * count * 3);
    for (let from = 0, to = 0; from < rgba.length; from += 4) {
      rgb[to++] = rgba[from];
      rgb[to++] = rgba[from + 1];
      rgb[to++] = rgba[from + 2];
    }
    return rgb;
  };
}

export function formatMegabytes(bytes) {
  return `${(bytes / 1e6).toFixed(1)} MB`;
}
