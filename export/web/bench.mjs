/**
 * Time the plain and the explained network in turn, in one process on one thread; `python -m benchmarks` calls this.
 *
 * node bench.mjs '{"plain", "explained": files, "images": flat float32, "shape": [N, C, H, W],
 *   "classes": shape of class_idx, "effort"}' > samples.json
 */

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

import * as ort from "onnxruntime-web";

const { plain, explained, images, shape, classes, effort } = JSON.parse(process.argv[2]);
const { version } = createRequire(import.meta.url)("./node_modules/onnxruntime-web/package.json");
ort.env.wasm.numThreads = 1;
ort.env.logLevel = "error";

/** Time one call: wall clock and processor time in ms, and the result. */
async function timeCall(call) {
  const [start, before] = [performance.now(), process.cpuUsage()];
  const result = await call();
  const { user, system } = process.cpuUsage(before);
  return { wall: performance.now() - start, cpu: (user + system) / 1000, result };
}

const open = (path) => ort.InferenceSession.create(new Uint8Array(readFileSync(path)), { logSeverityLevel: 3 });

const pixels = new Float32Array(new Uint8Array(readFileSync(images)).buffer);
const [count, ...one] = shape;
const each = pixels.length / count;
const predicted = new ort.Tensor("int64", new BigInt64Array(classes.reduce((a, b) => a * b)).fill(-1n), classes);
const feeds = Array.from({ length: count }, (_, n) => {
  const image = new ort.Tensor("float32", pixels.subarray(n * each, (n + 1) * each), [1, ...one]);
  return { plain: { image }, explained: { image, class_idx: predicted } };
});

await (await open(plain)).release(); // starts WebAssembly, which belongs to the load time of neither
const sessions = {};
const start = {};
for (const [name, path] of Object.entries({ plain, explained })) {
  const load = await timeCall(() => open(path));
  sessions[name] = load.result;
  const first = await timeCall(() => sessions[name].run(feeds[0][name]));
  start[name] = {
    load_ms: load.wall, load_cpu_ms: load.cpu, first_call_ms: first.wall, first_call_cpu_ms: first.cpu,
  };
}

const answers = { plain: [], explained: [] };
for (const feed of feeds) {
  for (const name of ["plain", "explained"]) {
    const { logits, cam } = await sessions[name].run(feed[name]);
    answers[name].push({ logits: Array.from(logits.data), cam: cam && Array.from(cam.data) });
  }
}

const pairs = [];
let began;
for (let n = -effort.warm_up; n < effort.most; n++) {
  if (n === 0) began = performance.now();
  if (n >= effort.least && performance.now() - began > effort.seconds * 1000) break;
  // The order alternates, so that a machine that slows down slows both.
  const pair = {};
  for (const name of n % 2 ? ["explained", "plain"] : ["plain", "explained"]) {
    const { wall, cpu } = await timeCall(() => sessions[name].run(feeds[0][name]));
    pair[name] = [wall, cpu];
  }
  if (n >= 0) pairs.push([pair.plain, pair.explained]);
}

process.stdout.write(JSON.stringify({
  version: `onnxruntime-web ${version}, Node ${process.version}`, start, answers, pairs,
}));
