/** An artifact of explainable_model in this browser: photo in; classes and heatmap, or boxes and a heatmap for each, out. */

import { PREDICTED, askBest } from "./ask.js";
import { listBoxes } from "./boxes.js";
import { UserError } from "./errors.js";
import { readMetadata } from "./metadata.js";
import { prepare } from "./prepare.js";
import { computeProbabilities, readScores } from "./probabilities.js";
import { findReferenceFailure } from "./reference.js";
import { listBackends, openSession } from "./runtime.js";

const TOP = 5;

/**
 * Open an artifact with the first backend that gives the recorded answer.
 *
 * @param {Uint8Array} model the ONNX file
 * @param {string} name the file's name, for messages
 * @param {{backend?: string | null, threads?: number | null}} options see `listBackends` and `openSession`
 * @returns {Promise<{metadata, label, note, explain, close}>}
 */
export async function openArtifact(model, name, { backend = null, threads = null } = {}) {
  const metadata = readMetadata(model, name);
  const failures = [];
  for (const candidate of await listBackends(backend)) {
    const { session, reason } = await tryBackend(candidate, model, metadata, threads);
    if (session) {
      const explain = (metadata.detection ? makeBoxExplainer : makeClassExplainer)(session.run, metadata);
      return { metadata, label: session.label, note: failures.join(" "), explain, close: session.release };
    }
    failures.push(`${candidate === "webgpu" ? "WebGPU" : "WebAssembly"} was not used: ${reason}.`);
  }
  throw new UserError(`${name} does not run here. ${failures.join(" ")}`);
}

/** Open a session that gives the recorded answer, or return the reason why the backend fails or is wrong. */
async function tryBackend(candidate, model, metadata, threads) {
  let session;
  let reason;
  try {
    session = await openSession(candidate, model, threads, metadata.input_names?.image ?? "image");
    reason = await findReferenceFailure(metadata, session.run);
  } catch (error) {
    // onnxruntime-web also throws bare numbers: addresses of exceptions inside WebAssembly.
    reason = (error instanceof Error && error.message.split("\n")[0].slice(0, 200)) || "it does not start";
  }
  if (!reason) return { session };
  await session?.release();
  return { reason };
}

function timeCall(compute) {
  const start = performance.now();
  const result = compute();
  return { ...result, ms: performance.now() - start };
}

function makeClassExplainer(run, metadata) {
  const inputs = new WeakMap(); // by photo: another class uses the same input
  return (photo, classIdx = PREDICTED) => {
    if (!inputs.has(photo)) inputs.set(photo, timeCall(() => prepare(photo, metadata)));
    return explainClass(run, metadata, inputs.get(photo), classIdx);
  };
}

/** One call finds all boxes and their maps; another box of the same photo needs none. */
function makeBoxExplainer(run, metadata) {
  const found = new WeakMap(); // by photo
  return async (photo, rank = PREDICTED) => {
    if (!found.has(photo)) {
      const { image, box, place, ms } = timeCall(() => prepare(photo, metadata));
      const start = performance.now();
      const outputs = await run(image, askBest(metadata));
      const runMs = performance.now() - start;
      found.set(photo, { boxes: listBoxes(outputs, { image, place, photo }), box, prepareMs: ms, runMs });
    }
    const answer = found.get(photo);
    const selected = Math.max(rank, 0);
    const { classIdx = PREDICTED, cam = null } = answer.boxes[selected] ?? {};
    return { ...answer, selected, classIdx, cam };
  };
}

async function explainClass(run, metadata, { image, box, ms }, classIdx) {
  const start = performance.now();
  const { logits, explained_class_idx: explained, cam } = await run(image, askBest(metadata, classIdx));
  const runMs = performance.now() - start;
  const [height, width] = cam.dims.slice(-2);
  const probabilities = computeProbabilities(logits, metadata);
  const scores = readScores(logits);
  const ranking = probabilities ?? scores;
  return {
    classIdx: Number(explained.data[0]),
    probabilities,
    scores,
    top: ranking ? findBest(ranking) : [Number(explained.data[0])],
    logits: logits.data,
    cam: { values: cam.data.slice(0, height * width), height, width },
    box,
    prepareMs: ms,
    runMs,
  };
}

function findBest(values) {
  return Array.from(values.keys()).sort((a, b) => values[b] - values[a] || a - b).slice(0, TOP);
}
