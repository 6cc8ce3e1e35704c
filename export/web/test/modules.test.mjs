/** Test the modules that need no browser: resizing against Pillow, and reading an artifact's metadata. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { UserError } from "../site/errors.js";
import { readMetadata } from "../site/metadata.js";
import { computeProbabilities } from "../site/probabilities.js";
import { resample } from "../site/resample.js";
import { readBytes, expected, findLargestDifference } from "./support/expected.mjs";

function makeSource(pixels, [height, width], channels) {
  const rowLength = width * channels;
  return { width, height, rows: (top, count) => pixels.subarray(top * rowLength, (top + count) * rowLength) };
}

for (const interpolation of ["nearest", "bilinear", "bicubic", "lanczos"]) {
  const cases = expected.resamplings.filter((entry) => entry.interpolation === interpolation);
  test(`${interpolation} resizing equals Pillow's, ${cases.length} random pictures`, () => {
    assert.ok(cases.length >= 20);
    for (const { stem, shape, size, box, channels } of cases) {
      const got = resample(makeSource(readBytes(`${stem}.in`), shape, channels), box, size, interpolation, channels);
      assert.equal(findLargestDifference(got, readBytes(`${stem}.out`)), 0, `${stem}: ${shape} to ${size}, box ${box}`);
    }
  });
}

test("probabilities of every kind of output are Python's", () => {
  for (const { kind, logits, odds } of expected.probabilities) {
    const output = { data: Float32Array.from(logits), dims: [1, logits.length] };
    const computed = computeProbabilities(output, { output_kind: kind, classes: logits.length });
    if (odds === null) assert.equal(computed, null);
    else assert.ok(findLargestDifference(computed, odds) < 1e-7, kind);
  }
  const single = { data: Float32Array.of(0.25), dims: [1, 1] };
  assert.deepEqual([...computeProbabilities(single, { output_kind: "binary", classes: 2 })], [0.75, 0.25]);
});

test("the metadata are read from the artifact", () => {
  const metadata = readMetadata(readBytes("second.onnx"), "second.onnx");
  assert.deepEqual(metadata.image_shape, [null, 1, 48, 40]);
  assert.equal(metadata.preprocess.interpolation, "bicubic");
  assert.equal(metadata.class_names, null);
});

for (const [name, message] of [
  ["newer.onnx", /schema 99; this page expects up to 1/],
  ["window.onnx", /through a window, and a browser reads 8 bits; this page expects no window/],
  ["gray.onnx", /takes gray photos \(NHW\); this page expects RGB, NCHW or NHWC/],
  ["foreign.onnx", /without the record of explainable_model/],
  ["cut.onnx", /not an ONNX model, or it is damaged/],
  ["text.onnx", /not an ONNX model, or it is damaged/],
]) {
  test(`${name} is refused`, () => {
    assert.throws(() => readMetadata(readBytes(name), name), (error) => error instanceof UserError && message.test(error.message));
  });
}
