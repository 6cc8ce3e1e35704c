/** From a photo to the network's input, by the artifact's own record: equal to `explainable_model.Preprocess`. */

import { resample } from "./resample.js";

/**
 * @param {{width: number, height: number, rows: Function}} photo RGB, as from `openPhoto`
 * @param {object} metadata of the artifact
 * @returns {{image: {type: string, values: Float32Array, shape: number[]}, box: number[]}} the network's input, and which
 *   part of the photo it shows
 */
export function prepare(photo, metadata) {
  if (metadata.pixels) return asDecoded(photo, metadata.pixels);
  const { preprocess } = metadata;
  const channels = preprocess.mean.length;
  const box = seenBox(preprocess, photo.width, photo.height);
  const source = channels === 1 ? gray(photo) : photo;
  const levels = resample(source, box, preprocess.size, preprocess.interpolation, channels);
  const values = normalized(levels, preprocess);
  return { image: { type: "float32", values, shape: [1, channels, ...preprocess.size] }, box };
}

/** The photo as it is, for an artifact that prepares it. */
function asDecoded(photo, pixels) {
  const { width, height } = photo;
  const box = [0, 0, width, height];
  const rgb = photo.rows(0, height);
  if (pixels === "NHWC") return { image: { type: "uint8", values: Uint8Array.from(rgb), shape: [1, height, width, 3] }, box };
  const values = new Uint8Array(rgb.length);
  const area = width * height;
  for (let at = 0; at < rgb.length; at++) values[at % 3 * area + Math.floor(at / 3)] = rgb[at];
  return { image: { type: "uint8", values, shape: [1, 3, height, width] }, box };
}

/** The part of a photo that the network sees: left, top, right, bottom. */
export function seenBox({ size, resize }, width, height) {
  if (resize === null) return [0, 0, width, height];
  if (Math.max(...size) > resize) return shrunkBox(size, resize, width, height);
  const shorter = Math.min(width, height);
  const [rows, columns] = [height, width].map((length) => Math.floor(resize * length / shorter));
  const [top, left] = [halfToEven((rows - size[0]) / 2), halfToEven((columns - size[1]) / 2)];
  const [right, bottom] = [left + size[1], top + size[0]];
  return [left * width / columns, top * height / rows, right * width / columns, bottom * height / rows];
}

/** A crop that would leave the resized photo, shrunk until it fits, so that the photo is never distorted. */
function shrunkBox(size, resize, width, height) {
  const scale = Math.min(width, height) / resize;
  let [cropHeight, cropWidth] = [size[0] * scale, size[1] * scale];
  const shrink = Math.min(1, height / cropHeight, width / cropWidth);
  [cropHeight, cropWidth] = [Math.min(cropHeight * shrink, height), Math.min(cropWidth * shrink, width)];
  const [left, top] = [(width - cropWidth) / 2, (height - cropHeight) / 2];
  return [left, top, left + cropWidth, top + cropHeight];
}

/** Python's `round` of a half: to the even neighbor. */
function halfToEven(value) {
  const floor = Math.floor(value);
  return value - floor === 0.5 ? floor + floor % 2 : Math.round(value);
}

/** (H, W, C) levels to (C, H, W) values, each operation rounded to single precision as NumPy does. */
function normalized(levels, { mean, std }) {
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

/** Luma of ITU-R BT.601 in 16-bit fixed point, as Pillow's mode L. */
function gray(photo) {
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
