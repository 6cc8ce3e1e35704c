/** The picture to save or to share: the photo under its heatmap, with a caption. */

import { chooseColor, describeBox } from "./boxes.js";
import { describeClass } from "./classes.js";

const MAX_SIDE = 2048;
const MIN_WIDTH = 480; // so that the caption of a small photo can be read

/**
 * @param {{photo: HTMLImageElement, heatmap: HTMLCanvasElement, scale: HTMLCanvasElement}} elements of the page
 * @param {object} answer of `explain`
 * @param {object} metadata the artifact's
 * @param {number} strength of the heatmap, from 0 to 1
 * @returns {Promise<Blob>} a PNG
 */
export async function composePicture({ photo, heatmap, scale }, answer, metadata, strength) {
  const { naturalWidth, naturalHeight } = photo;
  const larger = Math.max(1, MIN_WIDTH / naturalWidth);
  const zoom = Math.min(larger, MAX_SIDE / Math.max(naturalWidth, naturalHeight));
  const [width, height] = [naturalWidth, naturalHeight].map((side) => Math.max(1, Math.round(side * zoom)));
  const unit = Math.max(14, Math.min(width / 26, 44)); // the size of the caption's letters
  const canvas = Object.assign(document.createElement("canvas"), { width, height: Math.round(height + 3.4 * unit) });
  const context = canvas.getContext("2d");
  context.fillStyle = "white";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.imageSmoothingQuality = "high";
  context.drawImage(photo, 0, 0, width, height);
  const [left, top, right, bottom] = answer.box.map((side) => side * zoom);
  context.globalAlpha = strength;
  if (answer.cam) context.drawImage(heatmap, left, top, right - left, bottom - top);
  context.globalAlpha = 1;
  if (answer.boxes) drawBoxes(context, answer, zoom, unit);
  drawCaption(context, { top: height, width, unit }, scale, answer, metadata);
  return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
}

/** Draw every box in its color; the explained one is thick. */
function drawBoxes(context, { boxes, selected }, zoom, unit) {
  for (const [rank, { box }] of [...boxes.entries()].reverse()) {
    const [left, top, right, bottom] = box.map((side) => side * zoom);
    context.lineWidth = rank === selected ? unit / 4 : unit / 10;
    context.strokeStyle = chooseColor(rank);
    context.strokeRect(left, top, right - left, bottom - top);
  }
}

function describeAnswer(answer, metadata) {
  if (!answer.boxes) return describeClass(answer.classIdx, answer, metadata);
  return answer.boxes.length ? describeBox(answer.boxes[answer.selected], metadata) : { name: "no box" };
}

function drawCaption(context, { top, width, unit }, scale, answer, metadata) {
  const { name, share } = describeAnswer(answer, metadata);
  const { model, method, target_layer: layer } = metadata;
  const room = width - 2 * unit;
  const bar = Math.min(8 * unit, room / 3);
  context.textBaseline = "alphabetic";
  context.fillStyle = "#1c1b22";
  context.font = `600 ${unit}px system-ui, sans-serif`;
  context.fillText(fitText(context, [name, share].filter(Boolean).join(", "), room - bar - unit), unit, top + 1.5 * unit);
  context.fillStyle = "#66636f";
  context.font = `${0.72 * unit}px system-ui, sans-serif`;
  context.fillText(fitText(context, `${model}, ${method} at ${layer}`, room), unit, top + 2.7 * unit);
  context.drawImage(scale, width - unit - bar, top + unit, bar, 0.5 * unit);
}

/** Cut the text to the room, in pixels. */
function fitText(context, text, room) {
  let cut = [...text];
  if (context.measureText(text).width <= room) return text;
  while (cut.length && context.measureText(`${cut.join("")}…`).width > room) cut = cut.slice(0, -1);
  return `${cut.join("")}…`;
}

/** Whether this browser can share a picture with other programs. */
export function canShare() {
  return Boolean(navigator.canShare?.({ files: [new File([""], "a.png", { type: "image/png" })] }));
}

/** @param {File} file */
export function savePicture(file) {
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(file), download: file.name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000); // once the browser has surely read it
}

/** @param {File} file */
export async function sharePicture(file) {
  try {
    await navigator.share({ files: [file], title: file.name });
  } catch (error) {
    if (error.name !== "AbortError") throw error; // the user closed the system's window
  }
}
