"use strict";
/** Draws maps: values are interpolated first, then colored, as the library does. */

const CONTENT = JSON.parse(document.getElementById("content").textContent);
const decode = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
const PALETTES = CONTENT.palettes.map(decode);
const FINENESS = 112; // pixels of the longest side of a drawn map

/** The cells and weights that make each pixel of a row: cubic, as Pillow enlarges; cells beyond the edge count nothing. */
function weighCells(cells, pixels) {
  return Array.from({ length: pixels }, (_, pixel) => {
    const center = ((pixel + 0.5) * cells) / pixels - 0.5, first = Math.floor(center) - 1;
    const taps = [0, 1, 2, 3].map((tap) => [first + tap, cubic(Math.abs(center - first - tap))]).filter(([cell]) => cell >= 0 && cell < cells);
    const total = taps.reduce((sum, [, weight]) => sum + weight, 0);
    return taps.map(([cell, weight]) => [cell, weight / total]);
  });
}

/** The kernel of Keys 1981, a = -1/2. */
const cubic = (x) => (x < 1 ? (1.5 * x - 2.5) * x * x + 1 : x < 2 ? ((-0.5 * x + 2.5) * x - 4) * x + 2 : 0);

/** Enlarge levels to pixels. */
function enlarge(levels, height, width, rows, columns) {
  const across = weighCells(width, columns), down = weighCells(height, rows);
  const wide = new Float32Array(height * columns), large = new Float32Array(rows * columns);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < columns; x++) for (const [cell, weight] of across[x]) wide[y * columns + x] += weight * levels[y * width + cell];
  }
  for (let y = 0; y < rows; y++) {
    for (const [cell, weight] of down[y]) for (let x = 0; x < columns; x++) large[y * columns + x] += weight * wide[cell * columns + x];
  }
  return large;
}

/** Draw a map on a new canvas. Level `zero` is no evidence; a map with levels below has the palette of signed maps. */
function drawMap({ map, grid: [height, width], zero = 0 }) {
  const levels = decode(map), colors = PALETTES[zero ? 1 : 0];
  const scale = Math.max(1, FINENESS / Math.max(height, width));
  const canvas = document.createElement("canvas");
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(height * scale);
  canvas.setAttribute("aria-hidden", "true");
  const context = canvas.getContext("2d");
  const image = context.createImageData(canvas.width, canvas.height);
  enlarge(levels, height, width, canvas.height, canvas.width).forEach((level, pixel) => {
    const unit = zero ? ((level - zero) / (255 - zero) + 1) / 2 : level / 255;
    const color = 3 * Math.min(255, Math.max(0, Math.floor(unit * 256)));
    image.data.set(colors.subarray(color, color + 3), 4 * pixel);
    image.data[4 * pixel + 3] = 255;
  });
  context.putImageData(image, 0, 0);
  return canvas;
}

/** Make an element: `make("p", {className: "lead"}, "text", child)`. Texts never become HTML. */
function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== ""));
  return element;
}

const byId = (id) => document.getElementById(id);
const count = (number) => number.toLocaleString("en-US");
const percent = (share) => (share > 0 && share < 0.005 ? "< 1 %" : share < 1 && share >= 0.995 ? "> 99 %" : `${Math.round(100 * share)} %`);
const plural = (number, one, many = `${one}s`) => `${count(number)} ${number === 1 ? one : many}`;
const showScore = (score) => (score === null || score === undefined ? "" : CONTENT.probability ? percent(score) : score.toPrecision(3));
/** [count, total, low, high] as text. */
const showShare = (share) => (share && share[1] ? `${percent(share[0] / share[1])} (${percent(share[2])} to ${percent(share[3])})` : "unknown");
