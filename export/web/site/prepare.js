/** Prepare the network's input from a photo, by the artifact's metadata: equal to `explainable_model.Preprocess`. */

import { resample } from "./resample.js";

/**
 * @param {{width: number, height: number, rows: Function}} photo RGB rows, as from `openPhoto`
 * @param {object} metadata the artifact's metadata
 * @returns {{image: {type: string, values: Float32Array, shape: number[]}, box: number[], place: number[] | null}} the
 *   network's input, the part of the photo in it, and where the photo lies in an input with a border
 */
export function prepare(photo, metadata) {
  if (metadata.pixels) return copyLevels(photo, metadata.pixels);
  const { preprocess } = metadata;
  const channels = preprocess.mean.length;
  const box = findBox(preprocess, photo.width, photo.height);
  const place = preprocess.pad == null ? null : findPlace(preprocess.size, photo.width, photo.height);
  const source = channels === 1 ? convertToGray(photo) : photo;
  const size = place ? [place[3], place[2]] : preprocess.size;
  const levels = resample(source, box, size, preprocess.interpolation, channels);
  const values = normalize(place ? addBorder(levels, place, preprocess, channels) : levels, preprocess);
  return { image: { type: "float32", values, shape: [1, channels, ...preprocess.size] }, box, place };
}

/** Find where the photo lies in an input with a border: left, top, columns, rows. */
export function findPlace([height, width], photoWidth, photoHeight) {
  const rows = Math.max(1, Math.min(height, divide(photoHeight * width, photoWidth)));
  const columns = Math.max(1, Math.min(width, divide(photoWidth * height, photoHeight)));
  return [Math.floor((width - columns) / 2), Math.floor((height - rows) / 2), columns, rows];
}

/** Divide whole numbers and round, a half to the even neighbor. */
function divide(numerator, denominator) {
  const whole = Math.floor((2 * numerator + denominator) / (2 * denominator));
  return (2 * numerator + denominator) % (2 * denominator) === 0 ? whole - whole % 2 : whole;
}

function addBorder(levels, [left, top, columns, rows], { size: [height, width], pad }, channels) {
  const whole = new Uint8Array(height * width * channels).fill(roundHalfEven(255 * pad));
  for (let row = 0; row < rows; row++) {
    const line = levels.subarray(row * columns * channels, (row + 1) * columns * channels);
    whole.set(line, ((top + row) * width + left) * channels);
  }
  return whole;
}

/** Copy the photo's pixels, for an artifact that prepares photos. */
function copyLevels(photo, pixels) {
  const { width, height } = photo;
  const box = [0, 0, width, height];
  const place = null;
  const rgb = photo.rows(0, height);
  if (pixels === "NHWC") return { image: { type: "uint8", values: Uint8Array.from(rgb), shape: [1, height, width, 3] }, box, place };
  const values = new Uint8Array(rgb.length);
  const area = width * height;
  for (let at = 0; at < rgb.length; at++) values[at % 3 * area + Math.floor(at / 3)] = rgb[at];
  return { image: { type: "uint8", values, shape: [1, 3, height, width] }, box, place };
}

/** The part of a photo that the network sees: left, top, right, bottom. */
export function findBox({ size, resize }, width, height) {
  if (resize === null) return [0, 0, width, height];
  if (Math.max(...size) > resize) return shrinkBox(size, resize, width, height);
  const shorter = Math.min(width, height);
  const [rows, columns] = [height, width].map((length) => Math.floor(resize * length / shorter));
  const [top, left] = [roundHalfEven((rows - size[0]) / 2), roundHalfEven((columns - size[1]) / 2)];
  const [right, bottom] = [left + size[1], top + size[0]];
  return [left * width / columns, top * height / rows, right * width / columns, bottom * height / rows];
}

/** Shrink a crop that is larger than the resized photo until it fits, so that the photo is never distorted. */
function shrinkBox(size, resize, width, height) {
  const scale = Math.min(width, height) / resize;
  let [cropHeight, cropWidth] = [size[0] * scale, size[1] * scale];
  const shrink = Math.min(1, height / cropHeight, width / cropWidth);
  [cropHeight, cropWidth] = [Math.min(cropHeight * shrink, height), Math.min(cropWidth * shrink, width)];
  const [left, top] = [(width - cropWidth) / 2, (height - cropHeight) / 2];
  return [left, top, left + cropWidth, top + cropHeight];
}

/** Round as Python does: a half goes to the even neighbor. */
function roundHalfEven(value) {
  const floor = Math.floor(value);
  return value - floor === 0.5 ? floor + floor % 2 : Math.round(value);
}

/** Normalize levels (H, W, C) to values (C, H, W), rounding each operation to single precision as NumPy does. */
function normalize(levels, { mean, std }) {
  const channels = mean.length;
  const area = levels.length / channels;
  const values = new Float32Array(levels.length);
  for (let channel = 0; channel < channels; channel++) {
    const [center, spread] = [Math.fround(mean[channel]), Math.fround(std[channel])];
    const table = Float32Array.from({ length: 256 }, (_, level) =>
      Math.fround(Math.fround(level / 255) - center) / spread);
    for (let n = 0; n < area; n++) values[channel * area + n] = table[levels[n * channels + channel]];
  }
  return values;
}

/** Compute the luma of ITU-R BT.601 in 16-bit fixed point, as in Pillow's mode L. */
function convertToGray(photo) {
  const rows = (top, count) => {
    const rgb = photo.rows(top, count);
    const luma = new Uint8Array(rgb.length / 3);
    for (let n = 0, at = 0; n < luma.length; n++, at += 3) {
      luma[n] = (rgb[at] * 19595 + rgb[at + 1] * 38470 + rgb[at + 2] * 7471 + 0x8000) >> 16;
    }
    return luma;
  };
  return { width: photo.width, height: photo.height, rows };
}
