/** What an artifact is asked to explain. */

export const PREDICTED = -1;

/** The class, or the rank of the box, and the best ones after it where the artifact explains several. */
export function askBest({ top_k: count }, first = PREDICTED) {
  return count ? [first, ...Array(count - 1).fill(PREDICTED)] : first;
}
