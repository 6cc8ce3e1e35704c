/** The artifact's own test: its recorded answer to a fixed image, against what this device computes. */

const GRID = 8;
const SAMPLES = 16;

/**
 * @param {object} metadata of the artifact
 * @param {Function} run of a session
 * @returns {Promise<string>} what differs, or an empty string
 */
export async function referenceFailure(metadata, run) {
  const { reference } = metadata;
  if (!reference) return "";
  const { logits, cam } = await run(referenceImage(metadata), reference.class_idx[0]);
  const off = sampled(logits.data).map((value, n) => Math.abs(value - reference.logits[0][n]));
  const offLogits = Math.max(...off) / Math.max(1, ...reference.logits.flat().map(Math.abs));
  if (!(offLogits <= reference.logits_tolerance)) return `logits differ by ${offLogits.toExponential(1)}`;
  const cells = reduced(cam.data, cam.dims[1], cam.dims[2]);
  const offCam = Math.max(...cells.map((cell, n) => Math.abs(cell - reference.cam[0][n])));
  const scale = Math.max(1, ...reference.cam.flat());
  return offCam <= reference.cam_tolerance * scale ? "" : `the heatmap differs by ${offCam.toExponential(1)}`;
}

/** The sine of each element's number; of photos that, from 0 to 255, in whole levels. */
function referenceImage({ pixels, dtype, reference, image_shape: [, ...open] }) {
  const sizes = [...reference.size ?? []];
  const shape = open.map((length) => length ?? sizes.shift());
  const waves = { length: shape.reduce((a, b) => a * b) };
  const values = pixels
    ? Uint8Array.from(waves, (_, n) => roundHalfEven(127.5 + 127.5 * Math.sin(n)))
    : Float32Array.from(waves, (_, n) => Math.sin(n));
  return { type: pixels ? "uint8" : dtype, values, shape: [1, ...shape] };
}

/** Up to 16 of the logits, at equal distances. */
function sampled(logits) {
  const count = Math.min(logits.length, SAMPLES);
  const step = count > 1 ? (logits.length - 1) / (count - 1) : 0;
  return Array.from({ length: count }, (_, n) => logits[roundHalfEven(n * step)]);
}

/** A map's means over 8 x 8 cells, fewer where it is smaller. */
function reduced(map, height, width) {
  const [down, across] = [edges(height), edges(width)];
  const cells = [];
  for (let r = 0; r + 1 < down.length; r++) {
    for (let c = 0; c + 1 < across.length; c++) {
      let sum = 0;
      for (let row = down[r]; row < down[r + 1]; row++) {
        for (let column = across[c]; column < across[c + 1]; column++) sum += map[row * width + column];
      }
      cells.push(sum / ((down[r + 1] - down[r]) * (across[c + 1] - across[c])));
    }
  }
  return cells;
}

function edges(length) {
  const parts = Math.min(length, GRID);
  return Array.from({ length: parts + 1 }, (_, n) => roundHalfEven((n * length) / parts));
}

function roundHalfEven(value) {
  const floor = Math.floor(value);
  return value - floor === 0.5 ? floor + (floor % 2) : Math.round(value);
}
