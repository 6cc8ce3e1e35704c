/** A picture file as RGB rows: decoded by the browser, upright, on white where it is transparent. */

import { UserError } from "./errors.js";

export const MAX_PIXELS = 100_000_000;
export const MAX_BYTES = 200_000_000;

/**
 * @param {File} file
 * @returns {Promise<{width, height, rows, url, close}>} `rows(top, count)` gives RGB bytes, `url` shows the photo,
 *   `close()` frees both
 */
export async function openPhoto(file) {
  const name = file.name || "The picture";
  if (file.size === 0) throw new UserError(`${name} is empty.`);
  if (file.size > MAX_BYTES) {
    throw new UserError(`${name} has ${megabytes(file.size)}; at most ${megabytes(MAX_BYTES)} are taken.`);
  }
  const url = URL.createObjectURL(file);
  try {
    const { naturalWidth: width, naturalHeight: height } = await sized(url);
    if (width * height > MAX_PIXELS) {
      throw new UserError(`${name} has ${width} × ${height} pixels; at most ${MAX_PIXELS / 1e6} million are taken.`);
    }
    // The bytes as they are stored: color profiles are left alone, as they were in training.
    const bitmap = await createImageBitmap(file, { imageOrientation: "from-image", colorSpaceConversion: "none" });
    const close = () => {
      bitmap.close();
      URL.revokeObjectURL(url);
    };
    return { width: bitmap.width, height: bitmap.height, rows: rowReader(bitmap), url, close };
  } catch (error) {
    URL.revokeObjectURL(url);
    if (error instanceof UserError) throw error;
    throw new UserError(`${name} cannot be read: it is damaged, or not a picture this browser knows. ` +
      "JPEG, PNG, WebP and GIF work.");
  }
}

/** An image whose header is read, and whose pixels are not decoded yet. */
async function sized(url) {
  const image = new Image();
  await new Promise((resolve, reject) => {
    image.onload = resolve;
    image.onerror = () => reject(new Error("not a picture"));
    image.src = url;
  });
  return image;
}

/** Rows are copied one to one, a band at a time; the canvas never scales. */
function rowReader(bitmap) {
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

export function megabytes(bytes) {
  return `${(bytes / 1e6).toFixed(1)} MB`;
}
