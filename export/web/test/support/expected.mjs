/** Read in Node what `expected.py` wrote. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";

export const folder = process.env.EXPECTED;
assert.ok(folder, "EXPECTED must name the folder that test/expected.py wrote; smoke.sh runs both");

export const expected = JSON.parse(readFileSync(join(folder, "expected.json"), "utf8"));

export const locate = (name) => join(folder, name);

export const readBytes = (name) => new Uint8Array(readFileSync(locate(name)));

export const readFloats = (name) => new Float32Array(readBytes(name).buffer);

export function findLargestDifference(got, want) {
  assert.equal(got.length, want.length);
  let largest = 0;
  for (let n = 0; n < want.length; n++) {
    assert.ok(Number.isFinite(got[n]), `value ${n} is ${got[n]}`);
    largest = Math.max(largest, Math.abs(got[n] - want[n]));
  }
  return largest;
}
