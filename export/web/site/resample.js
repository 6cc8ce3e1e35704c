/** Resize 8-bit pictures as `Image.resize` of Pillow 13: separable, antialiased, rounded after each direction. */

const FRACTION_BITS = 22; // the precision of Pillow's fixed-point weights
const UNIT = 2 ** FRACTION_BITS;
const BAND = 256; // how many rows are read at a time, so that a large photo is never unpacked whole

const sinc = (t) => (t === 0 ? 1 : Math.sin(Math.PI * t) / (Math.PI * t));

/** The weight at distance t from the center, and the distance of zero weight, in pixels of the smaller picture. */
const FILTERS = {
  bilinear: { support: 1, weight: (t) => Math.max(0, 1 - Math.abs(t)) },
  bicubic: { support: 2, weight: keys },
  lanczos: { support: 3, weight: (t) => (Math.abs(t) < 3 ? sinc(t) * sinc(t / 3) : 0) },
};

/** The cubic of Keys (1981) with a = -1/2. */
function keys(t) {
  const d = Math.abs(t);
  if (d < 1) return (1.5 * d - 2.5) * d * d + 1;
  return d < 2 ? (((d - 5) * d + 8) * d - 4) * -0.5 : 0;
}

/**
 * Resize a part of a picture.
 *
 * @param {{width: number, height: number, rows: (top: number, count: number) => Uint8Array}} source
 *   `rows` returns `count` rows from row `top` on, with `channels` bytes per pixel
 * @param {number[]} box left, top, right, bottom of the part, in pixels of the source
 * @param {number[]} size [height, width] of the result
 * @param {string} interpolation nearest, bilinear, bicubic or lanczos
 * @param {number} channels bytes per pixel, in and out
 * @returns {Uint8Array} (height, width, channels)
 */
export function resample(source, box, size, interpolation, channels) {
  const [left, top, right, bottom] = box.map(Math.fround); // Pillow keeps the box in single precision
  const [height, width] = size;
  const across = makeWindows(source.width, left, right, width, interpolation);
  const down = makeWindows(source.height, top, bottom, height, interpolation);
  // Rounding in between makes the order matter. Pillow before 13 always resamples within rows first.
  const columnsFirst = height < source.height && source.height - height > 2 * (source.width - width);
  const rowLength = (columnsFirst ? source.width : width) * channels;
  const sums = new Float64Array(height * rowLength);
  const first = Math.min(...down.map((window) => window.start));
  const last = Math.max(...down.map((window) => window.start + window.weights.length));
  for (let row = first; row < last; row += BAND) {
    const count = Math.min(BAND, last - row);
    const pixels = source.rows(row, count);
    const band = columnsFirst ? pixels : resampleRows(pixels, source.width, across, channels);
    addBand(sums, band, row, count, down, rowLength);
  }
  const levels = new Uint8Array(sums.length);
  for (let n = 0; n < sums.length; n++) levels[n] = roundToLevel(sums[n]);
  return columnsFirst ? resampleRows(levels, source.width, across, channels) : levels;
}

/** For each pixel of the result, find the first source pixel of its window, and the weights from there on. */
function makeWindows(length, from, to, count, interpolation) {
  const scale = Math.fround(to - from) / count;
  if (interpolation === "nearest") return makeNearestWindows(from, scale, count);
  const { support, weight } = FILTERS[interpolation];
  const stretch = Math.max(1, scale); // when the picture shrinks, the filter grows, which antialiases
  return Array.from({ length: count }, (_, n) => {
    const center = from + (n + 0.5) * scale;
    const start = Math.max(0, Math.trunc(center - support * stretch + 0.5));
    const end = Math.min(length, Math.trunc(center + support * stretch + 0.5));
    const raw = Array.from({ length: end - start }, (__, k) => weight((k + start - center + 0.5) * (1 / stretch)));
    const sum = raw.reduce((a, b) => a + b, 0);
    return { start, weights: Float64Array.from(raw, (w) => toFixedPoint(sum === 0 ? w : w / sum)) };
  });
}

function makeNearestWindows(from, scale, count) {
  const chosen = [];
  for (let n = 0, at = from + scale * 0.5; n < count; n++, at += scale) {
    chosen.push({ start: Math.floor(at), weights: Float64Array.of(UNIT) });
  }
  return chosen;
}

/** Round half away from zero, as C's cast of (w ± 0.5) does. */
function toFixedPoint(weight) {
  return Math.trunc(weight * UNIT + (weight < 0 ? -0.5 : 0.5));
}

/** Round a sum to a level. Sums of bytes times 22-bit weights stay far below 2^53, so that doubles are exact. */
function roundToLevel(sum) {
  const level = Math.floor((sum + UNIT / 2) * (1 / UNIT));
  return level < 0 ? 0 : level > 255 ? 255 : level;
}

/** Resample every row of `pixels` to its new width. */
function resampleRows(pixels, width, across, channels) {
  const count = pixels.length / (width * channels);
  const resampled = new Uint8Array(count * across.length * channels);
  let out = 0;
  for (let row = 0; row < count; row++) {
    for (let column = 0; column < across.length; column++) {
      const { start, weights } = across[column];
      const from = (row * width + start) * channels;
      for (let channel = 0; channel < channels; channel++) {
        let sum = 0;
        for (let k = 0, at = from + channel; k < weights.length; k++, at += channels) sum += pixels[at] * weights[k];
        resampled[out++] = roundToLevel(sum);
      }
    }
  }
  return resampled;
}

/** Add the source's rows `top` to `top + count` to the rows of the result, by their weights. */
function addBand(sums, band, top, count, down, rowLength) {
  down.forEach(({ start, weights }, row) => {
    const target = sums.subarray(row * rowLength, (row + 1) * rowLength);
    const end = Math.min(start + weights.length, top + count);
    for (let source = Math.max(start, top); source < end; source++) {
      const weight = weights[source - start];
      const from = (source - top) * rowLength;
      for (let n = 0; n < rowLength; n++) target[n] += band[from + n] * weight;
    }
  });
}
