/** The modules that need no browser: resizing against Pillow, and the record inside an artifact. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { UserError } from "../site/errors.js";
import { readMetadata } from "../site/metadata.js";
import { resample } from "../site/resample.js";
import { bytes, expected, largestDifference } from "./support/expected.mjs";

function source(pixels, [height, width], channels) {
  const rowLength = width * channels;
  return { width, height, rows: (top, count) => pixels.subarray(top * rowLength, (top + count) * rowLength) };
}

for (const interpolation of ["nearest", "bilinear", "bicubic", "lanczos"]) {
  const cases = expected.resamplings.filter((each) => each.interpolation === interpolation);
  test(`${interpolation} resizing equals Pillow's, ${cases.length} random pictures`, () => {
    assert.ok(cases.length >= 20);
    for (const { stem, shape, size, box, channels } of cases) {
      const got = resample(source(bytes(`${stem}.in`), shape, channels), box, size, interpolation, channels);
      assert.equal(largestDifference(got, bytes(`${stem}.out`)), 0, `${stem}: ${shape} to ${size}, box ${box}`);
    }
  });
}

test("the record is read from the artifact itself", () => {
  const metadata = readMetadata(bytes("second.onnx"), "second.onnx");
  assert.deepEqual(metadata.image_shape, [null, 1, 48, 40]);
  assert.equal(metadata.preprocess.interpolation, "bicubic");
  assert.equal(metadata.class_names, null);
});

for (const [name, message] of [
  ["newer.onnx", /schema 99; this page expects up to 1/],
  ["foreign.onnx", /without the record of explainable_model/],
  ["cut.onnx", /not an ONNX model, or it is damaged/],
  ["text.onnx", /not an ONNX model, or it is damaged/],
]) {
  test(`${name} is refused`, () => {
    assert.throws(() => readMetadata(bytes(name), name), (error) => error instanceof UserError && message.test(error.message));
  });
}
