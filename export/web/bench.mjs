/** Plain and explained network in turn, in one process: `bench.py` makes the files and calls this. */

import { readFileSync, statSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { cpus } from "node:os";

import * as ort from "onnxruntime-web";

const WARM_UP = 5;
const [plainPath, explainedPath, folder, pairs, ...photos] = process.argv.slice(2);

ort.env.wasm.numThreads = 1;
ort.env.logLevel = "error";

async function open(path) {
  const start = performance.now();
  const session = await ort.InferenceSession.create(new Uint8Array(readFileSync(path)), { logSeverityLevel: 3 });
  return { session, loadMs: performance.now() - start, bytes: statSync(path).size };
}

const floats = (name) => new Float32Array(new Uint8Array(readFileSync(join(folder, name))).buffer);
const largest = (got, want) => got.reduce((most, value, n) => Math.max(most, Math.abs(value - want[n])), 0);
const classIdx = new ort.Tensor("int64", BigInt64Array.of(-1n), [1]);

function feeds(photo) {
  const image = new ort.Tensor("float32", floats(`${photo}.image`), [1, 3, 224, 224]);
  return { plain: { image }, explained: { image, class_idx: classIdx } };
}

/** Wall clock and processor time of one call, in ms. */
async function timed(session, feed) {
  const [start, before] = [performance.now(), process.cpuUsage()];
  await session.run(feed);
  const { user, system } = process.cpuUsage(before);
  return { wall: performance.now() - start, cpu: (user + system) / 1000 };
}

function quantile(values, share) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))];
}

function summary(values) {
  const [p25, p50, p75] = [0.25, 0.5, 0.75].map((share) => Number(quantile(values, share).toFixed(4)));
  return { p50, p25, p75 };
}

await (await open(plainPath)).session.release(); // starting WebAssembly itself is no part of either's load time
const plain = await open(plainPath);
const explained = await open(explainedPath);
const parity = {};
for (const photo of photos) {
  const feed = feeds(photo);
  const bare = await plain.session.run(feed.plain);
  const full = await explained.session.run(feed.explained);
  const logits = floats(`${photo}.logits`);
  parity[photo] = {
    cam: largest(full.cam.data, floats(`${photo}.cam`)),
    logits: largest(full.logits.data, logits),
    plain_logits: largest(bare.logits.data, logits),
  };
}

const feed = feeds(photos[0]);
const rows = [];
for (let n = -WARM_UP; n < Number(pairs); n++) {
  // Who goes first changes each time, so that a machine that slows down slows both.
  const order = n % 2 ? ["plain", "explained"] : ["explained", "plain"];
  const row = {};
  for (const name of order) row[name] = await timed({ plain, explained }[name].session, feed[name]);
  if (n >= 0) rows.push(row);
}

const ratio = (clock) => summary(rows.map((row) => row.explained[clock] / row.plain[clock]));
const clocks = (name) => ({ wall_ms: summary(rows.map((row) => row[name].wall)), cpu_ms: summary(rows.map((row) => row[name].cpu)) });
const { version } = createRequire(import.meta.url)("./node_modules/onnxruntime-web/package.json");
process.stdout.write(JSON.stringify({
  runtime: `onnxruntime-web ${version}, WebAssembly, Node ${process.version}`,
  processor: cpus()[0].model,
  threads: 1,
  pairs: rows.length,
  ratio_cpu: ratio("cpu"),
  ratio_wall: ratio("wall"),
  plain: { ...clocks("plain"), load_ms: plain.loadMs, bytes: plain.bytes },
  explained: { ...clocks("explained"), load_ms: explained.loadMs, bytes: explained.bytes },
  difference_from_eager: parity,
}));
