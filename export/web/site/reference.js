/** Compare this device's answer to a fixed image with the artifact's recorded answer. */

import { askBest } from "./ask.js";

const GRID = 8;
const SAMPLES = 16;

/**
 * @param {object} metadata the artifact's metadata
 * @param {Function} run a session's function
 * @returns {Promise<string>} the difference, or an empty string
 */
export async function findReferenceFailure(metadata, run) {
  const { reference } = metadata;
  if (!reference) return "";
  const image = reference.photo ? expandPhoto(metadata) : makeReferenceImage(metadata);
  const asked = metadata.detection ? askBest(metadata) : reference.class_idx[0];
  const outputs = await run(image, asked);
  const labels = metadata.detection ? Array.from(outputs.labels.data, Number) : [];
  if (labels.some((label, n) => label !== reference.class_idx[0][n])) return `it finds boxes of the classes ${labels}`;
  const sampled = metadata.detection ? sampleBoxes(outputs, image.shape) : sampleLogits(outputs.logits.data);
  const off = sampled.map((value, n) => Math.abs(value - reference.logits[0][n]));
  const offLogits = Math.max(...off) / Math.max(1, ...reference.logits.flat().map(Math.abs));
  const name = metadata.detection ? "boxes and scores" : "logits";
  if (!(offLogits <= reference.logits_tolerance)) return `${name} differ by ${offLogits.toExponential(1)}`;
  const { data, dims } = outputs.cam;
  const cells = averageCells(data, dims.slice(1));
  const offCam = Math.max(...cells.map((cell, n) => Math.abs(cell - reference.cam[0][n])));
  const scale = Math.max(1, ...reference.cam.flat());
  return offCam <= reference.cam_tolerance * scale ? "" : `the heatmap differs by ${offCam.toExponential(1)}`;
}

/** Make the image of the record's coarse photo, whose squares have one color each. */
export function expandPhoto({ pixels, dtype, image_shape: [, ...shape], reference: { photo, size } }) {
  const rest = [...size];
  const full = shape.map((length) => length ?? rest.shift());
  const [rowAxis, columnAxis] = pixels === "NHWC" ? [0, 1] : [1, 2];
  const small = full.map((length, axis) => [rowAxis, columnAxis].includes(axis) ? Math.ceil(length / photo.side) : length);
  const levels = Uint8Array.from(atob(photo.values), (letter) => letter.charCodeAt(0));
  const place = (index, axis) => [rowAxis, columnAxis].includes(axis) ? Math.floor(index / photo.side) : index;
  const values = new (pixels ? Uint8Array : Float32Array)(full[0] * full[1] * full[2]);
  let at = 0;
  for (let a = 0; a < full[0]; a++) {
    for (let b = 0; b < full[1]; b++) {
      const start = (place(a, 0) * small[1] + place(b, 1)) * small[2];
      for (let c = 0; c < full[2]; c++) {
        values[at++] = photo.low + levels[start + place(c, 2)] * ((photo.high - photo.low) / 255);
      }
    }
  }
  return { type: pixels ? "uint8" : dtype, values, shape: [1, ...full] };
}

/** Five values for each box: its edges as shares of the image's size, and its score. */
function sampleBoxes({ boxes, scores }, shape) {
  const [height, width] = shape.at(-1) === 3 ? shape.slice(1, 3) : shape.slice(2);
  return Array.from(scores.data).flatMap((score, n) =>
    [...Array.from(boxes.data.slice(4 * n, 4 * n + 4), (edge, side) => edge / (side % 2 ? height : width)), score]);
}

/** Make the fixed image: the sine of each element's number; in levels from 0 to 255 where the artifact takes photos. */
function makeReferenceImage({ pixels, dtype, reference, image_shape: [, ...open] }) {
  const sizes = [...reference.size ?? []];
  const shape = open.map((length) => length ?? sizes.shift());
  const waves = { length: shape.reduce((a, b) => a * b) };
  const values = pixels
    ? Uint8Array.from(waves, (_, n) => roundHalfEven(127.5 + 127.5 * Math.sin(n)))
    : Float32Array.from(waves, (_, n) => Math.sin(n));
  return { type: pixels ? "uint8" : dtype, values, shape: [1, ...shape] };
}

/** Sample up to 16 of the logits, at equal distances. */
function sampleLogits(logits) {
  const count = Math.min(logits.length, SAMPLES);
  const step = count > 1 ? (logits.length - 1) / (count - 1) : 0;
  return Array.from({ length: count }, (_, n) => logits[roundHalfEven(n * step)]);
}

/** Average maps of one image over 8 x 8 cells, fewer where they are smaller; of several maps, over eight groups. */
function averageCells(maps, dims) {
  const [height, width] = dims.slice(-2);
  const [through, down, across] = [dims.length > 2 ? dims[0] : 1, height, width].map(computeEdges);
  const cells = [];
  for (let m = 0; m + 1 < through.length; m++) {
    for (let r = 0; r + 1 < down.length; r++) {
      for (let c = 0; c + 1 < across.length; c++) {
        const [whole, rows, columns] = [[through, m], [down, r], [across, c]].map(([edges, n]) => edges[n + 1] - edges[n]);
        let sum = 0;
        for (let map = through[m]; map < through[m + 1]; map++) {
          for (let row = down[r]; row < down[r + 1]; row++) {
            const start = (map * height + row) * width;
            for (let column = across[c]; column < across[c + 1]; column++) sum += maps[start + column];
          }
        }
        cells.push(sum / (whole * rows * columns));
      }
    }
  }
  return cells;
}

function computeEdges(length) {
  const parts = Math.min(length, GRID);
  return Array.from({ length: parts + 1 }, (_, n) => roundHalfEven((n * length) / parts));
}

function roundHalfEven(value) {
  const floor = Math.floor(value);
  return value - floor === 0.5 ? floor + (floor % 2) : Math.round(value);
}
