/** The boxes of a detector: their outlines over the photo, their words, and the choice of one. */

const DETECTION = CONTENT.detection ?? null;
const HUES = [0, 119, 209, 54, 299, 180, 29, 259, 90, 331]; // as the library colors boxes, here by class
const FIRST_WORDS = 3, FIRST_OUTLINES = 10; // of a small picture
const places = new Map(CONTENT.classes.map(({ name }, place) => [name, place]));
const colorOf = (name) => `hsl(${HUES[(places.get(name) ?? 0) % HUES.length]} 90% 62%)`;

const sayBox = (box) => `${box.class} ${showScore(box.score)}`.trim();
function sayBoxes({ boxes, more = 0 }) {
  const first = boxes.slice(0, FIRST_WORDS), rest = boxes.length + more - first.length;
  return `${first.map(sayBox).join(", ") || "no box"}${rest ? ` and ${count(rest)} more` : ""}`;
}

/** What is drawn over a photo: the map of the chosen box, or nothing. */
const chooseAnswer = (row, chosen) => ({ ...row.boxes[chosen], crop: row.crop });
const countBoxes = ({ boxes, more = 0 }) => (boxes ? boxes.length + more : -1);
const bestScore = (row) => (row.boxes ? row.boxes[0]?.score : row.score);
const leastInside = (row) => Math.min(...(row.boxes ?? []).map((box) => box.inside ?? Infinity));

/** Draw the outline of each box, of a small picture those of the best ones; smaller boxes lie on top, so that each can be tapped. */
function drawOutlines(row, chosen, choose) {
  const drawn = row.boxes.map((box, number) => [box, number]).filter(([, number]) => choose || number < FIRST_OUTLINES || number === chosen);
  return drawn.map(([box, number]) => {
    const [left, top, right, bottom] = box.box.map((share) => 100 * share);
    const outline = make("span", { className: number === chosen ? "outline chosen" : "outline", title: choose ? sayBox(box) : "" });
    Object.assign(outline.style, { left: `${left}%`, top: `${top}%`, width: `${right - left}%`, height: `${bottom - top}%`,
      color: colorOf(box.class), zIndex: 1 + Math.round(1000 * (1 - ((right - left) * (bottom - top)) / 10_000)) });
    if (choose) outline.addEventListener("click", () => choose(number));
    return outline;
  });
}

/** The boxes of a photo as buttons, of which the chosen one is pressed. */
function listBoxes(row, chosen, choose) {
  const items = row.boxes.map((box, number) => {
    const mark = make("span", { className: "mark" });
    mark.style.background = colorOf(box.class);
    const button = make("button", { type: "button" }, mark, sayBox(box));
    button.setAttribute("aria-pressed", String(number === chosen));
    button.addEventListener("click", () => {
      choose(number);
      byId("viewer-body").querySelector("[aria-pressed=true]")?.focus();
    });
    return make("li", {}, button);
  });
  if (row.more) items.push(make("li", { className: "muted" }, `and ${count(row.more)} more, which the rows of the run hold`));
  return make("ul", { className: "choices" }, ...items);
}

function listBoxFacts(row, chosen) {
  const box = row.boxes[chosen];
  return [["Box", box ? sayBox(box) : "none was found"], ["Label of the photo", row.label],
    ["Heat inside the box", box?.inside != null && percent(box.inside)],
    ["Heat in the hottest tenth", box?.hottest_tenth != null && percent(box.hottest_tenth)],
    ["Spread (0 one cell, 1 even)", box?.entropy?.toFixed(2)],
    ["Photo", `${row.size[0]} × ${row.size[1]} pixels`], ["Picture", row.missing]];
}

function makeBoxClass(one) {
  const mark = make("span", { className: "mark" });
  mark.style.background = colorOf(one.name);
  const button = make("button", { type: "button" },
    make("span", { className: "name" }, mark, one.name),
    make("span", {}, `${plural(one.boxes, "box", "boxes")} in ${plural(one.photos, "photo")}`),
    make("span", {}, `mean confidence ${showScore(one.score)}`),
    one.inside === null ? null : make("span", {}, `heat inside the box: ${percent(one.inside)} (median)`),
    one.empty ? make("span", {}, plural(one.empty, "empty map")) : null);
  button.addEventListener("click", () => showOnly("class", one.name));
  return make("li", {}, button);
}

/** Say on a page of boxes what its parts are, and which parts it lacks. */
function showBoxTexts() {
  byId("classes-title").textContent = "Classes of the boxes";
  byId("classes-lead").textContent = "How often each class was found. Right and wrong, groups of similar maps and average maps need " +
    "one answer for each photo, so a page of boxes has none of them.";
  byId("strengths-title").textContent = "Heat inside the box";
  byId("strengths-lead").textContent = "The share of each map that lies inside its box. Where it is little, the network looked at the surroundings, " +
    "or at a mark beside the box: look at the photo.";
}

const BOX_ORDERS = {
  "no box and least sure first": null,
  "surest first": (a, b) => (bestScore(b) ?? -Infinity) - (bestScore(a) ?? -Infinity),
  "least heat inside a box first": (a, b) => leastInside(a) - leastInside(b) || 0,
  "most boxes first": (a, b) => countBoxes(b) - countBoxes(a),
};
const BOX_KINDS = {
  "without a box": (row) => row.boxes?.length === 0,
  "failed": (row) => Boolean(row.error),
  "heat mostly outside a box": (row) => leastInside(row) < 0.5,
  "empty maps": (row) => Boolean(row.boxes?.some((box) => box.empty)),
};

/** Columns of the table to download, which has a line for each box. */
const BOX_COLUMNS = {
  id: ({ row }) => row.id, label: ({ row }) => row.label, box: ({ number }) => number, class: ({ box }) => box.class, score: ({ box }) => box.score,
  ...Object.fromEntries(["left", "top", "right", "bottom"].map((side, place) =>
    [side, ({ row, box }) => box.box && Math.round(10 * box.box[place] * row.size[place % 2]) / 10])),
  inside: ({ box }) => box.inside, entropy: ({ box }) => box.entropy, hottest_tenth: ({ box }) => box.hottest_tenth, error: ({ row }) => row.error,
};
const listLines = (rows) => rows.flatMap((row) =>
  row.boxes?.length ? row.boxes.map((box, number) => ({ row, box, number })) : [{ row, box: {}, number: "" }]);
