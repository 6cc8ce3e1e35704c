/** The boxes of a detector: their places in the photo, their colors, and their row in the list. */

const HUES = [0, 0.33, 0.58, 0.15, 0.83, 0.5, 0.08, 0.72, 0.25, 0.92]; // as in the Python library
const find = (id) => document.getElementById(id);

/**
 * Read the boxes of one image in pixels of the photo, best first.
 *
 * @param {object} outputs boxes, scores, labels, valid and cam, as onnxruntime-web returns them
 * @param {{image: object, place: number[] | null, photo: object}} how the image was made, see `prepare`
 * @returns {{box: number[], score: number, classIdx: number, cam: object}[]}
 */
export function listBoxes({ boxes, scores, labels, valid, cam }, { image, place, photo }) {
  const [height, width] = cam.dims.slice(-2);
  const area = height * width;
  const [rows, columns] = image.type === "uint8" ? [photo.height, photo.width] : image.shape.slice(2);
  const [left, top, across, down] = place ?? [0, 0, columns, rows];
  const toPhoto = (value, n) => n % 2
    ? Math.min(photo.height, Math.max(0, (value - top) * photo.height / down))
    : Math.min(photo.width, Math.max(0, (value - left) * photo.width / across));
  const found = [];
  for (let rank = 0; rank < scores.data.length; rank++) {
    if (!valid.data[rank]) continue;
    const whole = { values: cam.data.slice(rank * area, (rank + 1) * area), height, width };
    found.push({
      box: Array.from(boxes.data.slice(4 * rank, 4 * rank + 4), toPhoto),
      score: scores.data[rank],
      classIdx: Number(labels.data[rank]),
      cam: place ? cropMap(whole, place) : whole,
    });
  }
  return found;
}

/** Cut the border from a map. */
function cropMap({ values, width: whole }, [left, top, width, height]) {
  const cut = new Float32Array(width * height);
  for (let row = 0; row < height; row++) {
    cut.set(values.subarray((top + row) * whole + left, (top + row) * whole + left + width), row * width);
  }
  return { values: cut, width, height };
}

/** The color of the box with this rank; neighbors differ. */
export function chooseColor(rank) {
  return `hsl(${Math.round(360 * HUES[rank % HUES.length])} 100% ${rank < HUES.length ? 57.5 : 75}%)`;
}

/** A box in words. */
export function describeBox({ classIdx, score }, { class_names: names }) {
  const [name, ...others] = (names?.[classIdx] ?? `class ${classIdx}`).split(", ");
  return { name, others: others.join(", "), share: `${Math.round(100 * score)} %` };
}

/** Show the boxes over the photo and in the list; the selected one is explained. */
export function showBoxes({ boxes, selected }, metadata, { width, height }, select) {
  find("search-row").hidden = true;
  const focused = [find("classes"), find("boxes")].find((place) => place.contains(document.activeElement));
  find("boxes").replaceChildren(...boxes
    .map((found, rank) => makeButton(found, rank, rank === selected, metadata, { width, height }, select))
    .sort((one, other) => other.dataset.area - one.dataset.area)); // the smaller lies above the larger
  find("classes").replaceChildren(...boxes.map((found, rank) => makeRow(found, rank, rank === selected, metadata)));
  const kept = focused === find("boxes") ? ".found[aria-pressed=true]" : ":checked";
  focused?.querySelector(kept)?.focus();
  const { name, share } = boxes.length ? describeBox(boxes[selected], metadata) : {};
  find("spoken").textContent = boxes.length ? `Explained: ${name}, ${share}` : "The network finds nothing that it knows.";
  if (!boxes.length) find("classes").append(makeSpan("muted", find("spoken").textContent));
}

export function hideBoxes() {
  find("boxes").replaceChildren();
}

function makeButton(found, rank, isSelected, metadata, { width, height }, select) {
  const { name, share } = describeBox(found, metadata);
  const [left, top, right, bottom] = found.box;
  const button = Object.assign(document.createElement("button"), { type: "button", className: "found" });
  button.dataset.rank = rank;
  button.dataset.area = (right - left) * (bottom - top);
  button.setAttribute("aria-pressed", String(isSelected));
  button.append(makeSpan("tag", `${name} ${share}`));
  Object.assign(button.style, {
    left: `${(100 * left) / width}%`,
    top: `${(100 * top) / height}%`,
    width: `${(100 * (right - left)) / width}%`,
    height: `${(100 * (bottom - top)) / height}%`,
  });
  button.style.setProperty("--color", chooseColor(rank));
  button.classList.toggle("low", top < 0.08 * height); // no room for the tag above
  button.addEventListener("click", () => select(rank));
  return button;
}

function makeRow(found, rank, isSelected, metadata) {
  const { name, others, share } = describeBox(found, metadata);
  const row = document.createElement("label");
  const radio = Object.assign(document.createElement("input"), { type: "radio", name: "class", value: rank });
  radio.checked = isSelected;
  row.append(radio, makeSpan("name", name), makeSpan("others", others), makeSpan("share", share), makeSpan("bar", ""));
  row.style.setProperty("--share", found.score);
  row.style.setProperty("--accent", chooseColor(rank));
  return row;
}

function makeSpan(className, textContent) {
  return Object.assign(document.createElement("span"), { className, textContent });
}
