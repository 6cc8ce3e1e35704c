/** The page's elements, and how an answer is shown in them. No state but the page itself and the sweep under way. */

import { drawHeatmap } from "./heatmap.js";

const SWEEP_MS = 900;
const element = (id) => document.getElementById(id);
let frame = 0; // of the sweep that is under way

export function setState(name, value) {
  document.body.dataset[name] = value;
}

export function showError(message) {
  element("alert-text").textContent = message;
  element("alert").hidden = !message;
}

/** @param {number | null} share how much is loaded; null when unknown or done */
export function showModel(text, share = null) {
  element("model-state").textContent = text;
  const bar = element("model-progress");
  if (share === null) bar.removeAttribute("value");
  else bar.value = share;
}

export function describeArtifact({ metadata, label, note }) {
  const { model, method, target_layer: layer } = metadata;
  return [`${model}, ${method} at ${layer}`, label, note].filter(Boolean).join(" · ");
}

/** @param {{url: string, width: number, height: number}} photo */
export function showPhoto({ url, width, height }) {
  element("photo").src = url;
  element("picture").style.setProperty("--ratio", width / height);
  element("heatmap").style.visibility = "hidden";
  cancelAnimationFrame(frame);
  setReveal(0);
}

/** @param {object} answer of `explain`, for a photo of width x height */
export function showAnswer(answer, metadata, { width, height }, look) {
  const canvas = element("heatmap");
  drawHeatmap(canvas, answer.cam, look);
  const [left, top, right, bottom] = answer.box;
  const percent = (part, whole) => `${(100 * part) / whole}%`;
  Object.assign(canvas.style, {
    left: percent(left, width),
    top: percent(top, height),
    width: percent(right - left, width),
    height: percent(bottom - top, height),
    visibility: "visible",
  });
  element("latency").textContent = Math.round(answer.runMs);
  element("latency-parts").textContent = `after ${Math.max(1, Math.round(answer.prepareMs))} ms to resize the photo`;
  showClasses(answer, metadata);
}

/** The top five stay in place while one of them is explained after the other. */
function showClasses({ top, classIdx, probabilities }, { class_names: names }) {
  const rows = top.includes(classIdx) ? top : [...top, classIdx];
  const labels = rows.map((index) => classRow(index, index === classIdx, names?.[index], probabilities?.[index]));
  const list = element("classes");
  const focused = list.contains(document.activeElement);
  list.replaceChildren(...labels);
  if (focused) list.querySelector(":checked").focus();
  element("spoken").textContent = `Explained: ${list.querySelector("label:has(:checked)").innerText}`;
}

function classRow(index, chosen, fullName = `class ${index}`, probability = undefined) {
  const [name, ...others] = fullName.split(", ");
  const row = document.createElement("label");
  const radio = Object.assign(document.createElement("input"), { type: "radio", name: "class", value: index });
  radio.checked = chosen;
  row.append(radio, span("name", name), span("others", others.join(", ")));
  if (probability !== undefined) {
    row.append(span("share", percentage(probability)), span("bar", ""));
    row.style.setProperty("--share", probability);
  }
  return row;
}

function span(className, text) {
  return Object.assign(document.createElement("span"), { className, textContent: text });
}

function percentage(probability) {
  const percent = 100 * probability;
  if (percent < 0.1) return "< 0.1 %";
  return `${percent.toFixed(percent < 10 ? 1 : 0)} %`;
}

// The heatmap covers the photo from the left up to the divider.

export function setReveal(percent) {
  element("reveal").value = percent;
  element("picture").style.setProperty("--reveal", `${percent}%`);
}

/** Slide the heatmap over the photo, once. */
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

/** A hand on the divider stops the sweep. */
export function onReveal() {
  cancelAnimationFrame(frame);
  setReveal(Number(element("reveal").value));
}

export function onStrength() {
  element("picture").style.setProperty("--strength", Number(element("strength").value) / 100);
}

/** The colors of the heatmap, from the lowest value to the highest. */
export function showScale({ palette, diverging }) {
  const values = palette.map((_, n) => n / 255);
  drawHeatmap(element("scale"), { values, height: 1, width: palette.length }, { palette, diverging: false });
  element("scale-low").textContent = diverging ? "against the class" : "little influence";
  element("scale-high").textContent = diverging ? "for the class" : "most influence";
}

/** @param {{name: string, file: string}[]} examples photos beside the page */
export function showExamples(examples, choose) {
  element("examples").hidden = examples.length === 0;
  element("example-list").replaceChildren(...examples.map(({ name, file }) => {
    const image = Object.assign(new Image(), { src: file, alt: name });
    const button = Object.assign(document.createElement("button"), { type: "button", title: name });
    button.append(image);
    button.addEventListener("click", () => choose(file));
    const item = document.createElement("li");
    item.append(button);
    return item;
  }));
}
