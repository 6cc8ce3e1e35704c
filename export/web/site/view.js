/** Show answers in the page's elements. The state is the page itself and the current sweep. */

import { hideBoxes, showBoxes } from "./boxes.js";
import { showClasses } from "./classes.js";
import { drawHeatmap } from "./heatmap.js";

const SWEEP_MS = 900;
const find = (id) => document.getElementById(id);
let frame = 0; // the animation frame of the current sweep

export function setState(name, value) {
  document.body.dataset[name] = value;
}

export function showError(message) {
  find("alert-text").textContent = message;
  find("alert").hidden = !message;
}

/** @param {number | null} share the loaded share; null where it is unknown or loading is done */
export function showModel(text, share = null) {
  find("model-state").textContent = text;
  const bar = find("model-progress");
  if (share === null) bar.removeAttribute("value");
  else bar.value = share;
}

/** @param {string | null} from the host of a network from elsewhere */
export function describeArtifact({ metadata, label, note }, from) {
  const { model, method, target_layer: layer } = metadata;
  return [`${model}, ${method} at ${layer}`, from && `from ${from}`, label, note].filter(Boolean).join(" · ");
}

/** @param {{url: string, width: number, height: number}} photo */
export function showPhoto({ url, width, height }) {
  find("photo").src = url;
  find("picture").style.setProperty("--ratio", width / height);
  find("heatmap").style.visibility = "hidden";
  hideBoxes();
  cancelAnimationFrame(frame);
  setReveal(0);
}

/**
 * @param {object} answer of `explain`, for a photo of width x height
 * @param {Function} select explains the box of a rank
 */
export function showAnswer(answer, metadata, { width, height }, look, select) {
  const canvas = find("heatmap");
  setState("task", metadata.detection ? "detection" : "classes");
  if (answer.cam) drawHeatmap(canvas, answer.cam, look);
  const [left, top, right, bottom] = answer.box;
  const formatShare = (part, whole) => `${(100 * part) / whole}%`;
  Object.assign(canvas.style, {
    left: formatShare(left, width),
    top: formatShare(top, height),
    width: formatShare(right - left, width),
    height: formatShare(bottom - top, height),
    visibility: answer.cam ? "visible" : "hidden",
  });
  find("latency").textContent = Math.round(answer.runMs);
  find("latency-parts").textContent = `after ${Math.max(1, Math.round(answer.prepareMs))} ms to resize the photo`;
  if (metadata.detection) {
    showBoxes(answer, metadata, { width, height }, select);
    return;
  }
  hideBoxes();
  showClasses(answer, metadata);
}

// The heatmap covers the photo from the left up to the divider.

export function setReveal(percent) {
  find("reveal").value = percent;
  find("picture").style.setProperty("--reveal", `${percent}%`);
}

/** Slide the heatmap over the photo once. */
export function sweep() {
  cancelAnimationFrame(frame);
  if (matchMedia("(prefers-reduced-motion: reduce)").matches) {
    setReveal(100);
    return;
  }
  const start = performance.now();
  const step = (now) => {
    const share = Math.min(1, Math.max(0, now - start) / SWEEP_MS);
    setReveal(100 * (1 - (1 - share) ** 3));
    if (share < 1) frame = requestAnimationFrame(step);
  };
  frame = requestAnimationFrame(step);
}

/** Stop the sweep where the user moves the divider. */
export function onReveal() {
  cancelAnimationFrame(frame);
  setReveal(Number(find("reveal").value));
}

export function onStrength() {
  find("picture").style.setProperty("--strength", Number(find("strength").value) / 100);
}

/** Show the colors of the heatmap, from the lowest value to the highest. */
export function showScale({ palette, diverging }) {
  const values = palette.map((_, n) => n / 255);
  drawHeatmap(find("scale"), { values, height: 1, width: palette.length }, { palette, diverging: false });
  find("scale-low").textContent = diverging ? "against the class" : "little influence";
  find("scale-high").textContent = diverging ? "for the class" : "most influence";
}

/** @param {{name: string, file: string}[]} examples photos beside the page */
export function showExamples(examples, choose) {
  find("examples").hidden = examples.length === 0;
  find("example-list").replaceChildren(...examples.map(({ name, file }) => {
    const image = Object.assign(new Image(), { src: file, alt: name });
    const button = Object.assign(document.createElement("button"), { type: "button", title: name });
    button.append(image);
    button.addEventListener("click", () => choose(file));
    const item = document.createElement("li");
    item.append(button);
    return item;
  }));
}
