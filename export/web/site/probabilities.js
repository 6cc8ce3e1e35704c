/** What an artifact's output says about each class. */

/**
 * The probability of each class.
 *
 * @param {{data: Float32Array, dims: number[]}} logits the output for one photo, one value per class
 * @param {{output_kind?: string | null, classes: number}} metadata of the artifact
 * @returns {Float64Array | null} null for an output that has no probabilities, or does not say how it is read
 */
export function computeProbabilities({ data, dims }, { output_kind: kind = null, classes }) {
  const values = Float64Array.from(data);
  if (kind === null || kind === "scores" || (dims.length > 1 && values.length !== dims[1])) return null;
  if (kind === "logits") {
    const highest = values.reduce((a, b) => Math.max(a, b));
    const odds = values.map((value) => Math.exp(value - highest));
    const total = odds.reduce((a, b) => a + b, 0);
    return odds.map((odd) => odd / total);
  }
  const odds = kind.endsWith("_logits") ? values.map((value) => 0.5 * (1 + Math.tanh(value / 2))) : values;
  return odds.length === 1 && classes === 2 ? Float64Array.of(1 - odds[0], odds[0]) : odds; // absent, present
}

/** The network's own output for each class; null where it is not one value per class. */
export function readScores({ data, dims }) {
  return dims.length < 2 || data.length === dims[1] ? Float64Array.from(data) : null;
}
