/** Read the artifact's metadata from the ONNX file, since onnxruntime-web does not expose them. */

import { UserError } from "./errors.js";

const METADATA_KEY = "explainable_model.json";
const SCHEMA_VERSION = 1;
const PIXELS = [null, "NCHW", "NHWC"];
const METADATA_PROPS = 14; // field of onnx.ModelProto: repeated StringStringEntryProto {key = 1, value = 2}
const LENGTH_DELIMITED = 2;
const FIXED_BYTES = { 1: 8, 5: 4 }; // wire types of fixed length

/**
 * @param {Uint8Array} model the ONNX file
 * @param {string} name the file's name, for messages
 * @returns {object} the metadata, of an artifact that this page can run
 */
export function readMetadata(model, name) {
  const text = findRecord(model, name);
  if (text === undefined) {
    throw new UserError(`${name} is an ONNX model without the record of explainable_model: export it with ` +
      "explainable_model.export(…), which adds the heatmap.");
  }
  return checkMetadata(parseRecord(text, name), name);
}

function findRecord(model, name) {
  try {
    for (const [field, entry] of readFields(model)) {
      if (field !== METADATA_PROPS) continue;
      const pair = new Map([...readFields(entry)].map(([key, value]) => [key, new TextDecoder().decode(value)]));
      if (pair.get(1) === METADATA_KEY) return pair.get(2);
    }
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw new UserError(`${name} is not an ONNX model, or it is damaged (${error.message}).`);
  }
  return undefined;
}

/** Yield the length-delimited fields of a protobuf message as `[number, bytes]`; skip the others. */
function* readFields(message) {
  let at = 0;
  const readVarint = () => {
    let value = 0;
    for (let scale = 1; ; scale *= 128) {
      if (at >= message.length) throw new RangeError("it ends within a number");
      const byte = message[at++];
      value += (byte & 127) * scale;
      if (byte < 128) return value;
    }
  };
  while (at < message.length) {
    const tag = readVarint();
    const [field, wire] = [Math.floor(tag / 8), tag % 8];
    if (wire === 0) readVarint();
    else if (wire in FIXED_BYTES) at += FIXED_BYTES[wire];
    else if (wire !== LENGTH_DELIMITED) throw new RangeError(`unknown wire type ${wire}`);
    else {
      const end = readVarint() + at; // reading the length moves `at`
      if (end > message.length) throw new RangeError("it ends within a field");
      yield [field, message.subarray(at, end)];
      at = end;
    }
  }
}

function parseRecord(text, name) {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new UserError(`${name} has a record that cannot be read (${error.message}); export it again.`);
  }
}

function checkMetadata(metadata, name) {
  const refuse = (got, expected) => new UserError(`${name} ${got}; this page expects ${expected}.`);
  if (!(metadata.schema_version <= SCHEMA_VERSION)) {
    throw refuse(`has a record of schema ${metadata.schema_version}`, `up to ${SCHEMA_VERSION}: use a newer page`);
  }
  if (!PIXELS.includes(metadata.pixels ?? null)) throw refuse(`takes gray photos (${metadata.pixels})`, "RGB, NCHW or NHWC");
  const [batch, channels] = metadata.image_shape;
  if (metadata.image_shape.length !== 4) throw refuse(`takes images of shape (${metadata.image_shape})`, "(N, C, H, W)");
  if (batch !== null && batch !== 1) throw refuse(`takes exactly ${batch} images`, "one, or any number");
  if (metadata.dtype !== "float32") throw refuse(`computes in ${metadata.dtype}`, "float32");
  if (metadata.extra_inputs?.length) throw refuse(`takes ${metadata.extra_inputs.length} more input(s)`, "the photo alone");
  if (metadata.preprocess?.window) {
    throw refuse("reads pictures of more than 8 bits through a window, and a browser reads 8 bits", "no window");
  }
  if (metadata.pixels) return metadata; // the artifact takes unprepared photos
  if (!metadata.preprocess) {
    throw refuse("does not say how a photo becomes its input", "an export with preprocess=Preprocess(…)");
  }
  if (metadata.preprocess.mean.length !== channels) {
    throw refuse(`prepares ${metadata.preprocess.mean.length} channel(s) and takes ${channels}`, "the same number");
  }
  return metadata;
}
