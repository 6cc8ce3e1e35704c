/** Compare this device's answer to a fixed image with the artifact's recorded answer. */

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
  const { logits, cam } = await run(makeReferenceImage(metadata), reference.class_idx[0]);
  const off = sampleLogits(logits.data).map((value, n) => Math.abs(value - reference.logits[0][n]));
  const offLogits = Math.max(...off) / Math.max(1, ...reference.logits.flat().map(Math.abs));
  if (!(offLogits <= reference.logits_tolerance)) return `logits differ by ${offLogits.toExponential(1)}`;
  const cells = averageCells(cam.data, cam.dims[1], cam.dims[2]);
  const offCam = Math.max(...cells.map((cell, n) => Math.abs(cell - reference.cam[0][n])));
  const scale = Math.max(1, ...reference.cam.flat());
  return offCam <= reference.cam_tolerance * scale ? "" : `the heatmap differs by ${offCam.toExponential(1)}`;
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

/** Average a map over 8 x 8 cells, fewer where the map is smaller. */
function averageCells(map, height, width) {
  const [down, across] = [computeEdges(height), computeEdges(width)];
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

function computeEdges(length) {
  const parts = Math.min(length, GRID);
  return Array.from({ length: parts + 1 }, (_, n) => roundHalfEven((n * length) / parts));
}

function roundHalfEven(value) {
  const floor = Math.floor(value);
  return value - floor === 0.5 ? floor + (floor % 2) : Math.round(value);
}
