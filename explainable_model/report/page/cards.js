/** The photo under its map, its words, and the viewer of one photo. */

const RIGHT = 1, WRONG = 0;

/** Draw a photo under its map, or what there is of the two. */
function drawFrame(row, answer, side = "", outlines = []) {
  const frame = make("span", { className: "frame" });
  const [width, height] = row.size || [4, 3];
  const stage = make("span", { className: "stage" });
  stage.style.aspectRatio = `${width} / ${height}`;
  stage.style[width * 3 >= height * 4 ? "width" : "height"] = "100%";
  if (row.picture) stage.append(make("img", { src: row.picture, alt: "", decoding: "async" }));
  else stage.classList.add("bare");
  if (answer.map) {
    const canvas = drawMap(answer);
    const [left, top, right, bottom] = answer.crop.map((share) => 100 * share);
    Object.assign(canvas.style, { left: `${left}%`, top: `${top}%`, width: `${right - left}%`, height: `${bottom - top}%` });
    stage.append(canvas);
  }
  stage.append(...outlines);
  frame.append(stage);
  if (side) frame.append(make("span", { className: "side" }, side));
  return frame;
}

function drawFrames(row, chosen = 0, choose = null) {
  if (row.boxes) {
    return make("span", { className: "frames" }, drawFrame(row, chooseAnswer(row, chosen), "", drawOutlines(row, chosen, choose)));
  }
  const frames = make("span", { className: "frames" }, drawFrame(row, row, row.other ? "A" : ""));
  if (row.other) frames.append(drawFrame(row, row.other, "B"));
  return frames;
}

/** Say what the network answered: `tabby 83 %`. */
const sayAnswer = (answer) => (answer.error ? "failed" : answer.boxes ? sayBoxes(answer) : sayBox(answer));

function sayVerdict(row) {
  if (row.label === undefined) return null;
  if (row.error || row.right < 0) return make("span", {}, `label: ${row.label}`);
  if (row.other?.right >= 0 && row.other.right !== row.right) {
    const [one, two] = row.right === RIGHT ? ["✓ right", "✗ wrong"] : ["✗ wrong", "✓ right"];
    return make("span", { className: "bad" }, `A ${one}, B ${two}, label: ${row.label}`);
  }
  return row.right === RIGHT
    ? make("span", { className: "good" }, "✓ right")
    : make("span", { className: "bad" }, `✗ wrong, label: ${row.label}`);
}

function sayMove(row) {
  if (!row.other) return null;
  const parts = [];
  if (row.other.flipped) parts.push("flipped");
  if (row.other.moved !== null) parts.push(`${percent(row.other.moved)} of the heat moved`);
  return make("span", { className: row.other.flipped ? "bad" : "" }, parts.join(", "));
}

function makeCard(row) {
  const words = make("span", { className: "words" },
    make("span", { className: "what" }, row.other ? `A: ${sayAnswer(row)} · B: ${sayAnswer(row.other)}` : sayAnswer(row)),
    row.explained ? make("span", {}, `map of ${row.explained}`) : null,
    row.error ? make("span", { className: "bad" }, row.error) : sayVerdict(row),
    sayMove(row),
    make("span", { className: "id" }, row.id));
  const card = make("button", { type: "button", className: row.right === WRONG || row.error ? "card wrong" : "card" });
  const chosen = findFitting(row);
  if (!row.error) card.append(drawFrames(row, chosen));
  card.append(words);
  card.addEventListener("click", () => openViewer(row, chosen));
  return make("li", {}, card);
}

/** A small button with the photo alone. */
function makeThumbnail(row) {
  const button = make("button", { type: "button", title: row.id }, drawFrame(row, row));
  button.setAttribute("aria-label", `${row.id}: ${sayAnswer(row)}`);
  button.addEventListener("click", () => openViewer(row));
  return make("li", {}, button);
}

function listFacts(row, chosen) {
  const facts = row.boxes ? listBoxFacts(row, chosen) : [["Prediction", sayAnswer(row)], ["Label", row.label], ["Map of", row.explained], ["Error", row.error],
    ["Other run", row.other && sayAnswer(row.other)], ["Heat that moved", row.other && row.other.moved !== null && percent(row.other.moved)],
    ["Map strength", row.strength?.toPrecision(3)], ["Spread (0 one cell, 1 even)", row.entropy?.toFixed(2)],
    ["Heat in the hottest tenth", row.hottest_tenth !== undefined && row.hottest_tenth !== null && percent(row.hottest_tenth)],
    ["Photo", row.size && `${row.size[0]} × ${row.size[1]} pixels`], ["Picture", row.missing]];
  const body = make("tbody", {}, ...facts.filter(([, value]) => value).map(([name, value]) =>
    make("tr", {}, make("th", { scope: "row" }, name), make("td", {}, String(value)))));
  for (const [name, score] of row.top || []) {
    body.append(make("tr", {}, make("th", { scope: "row" }, name), make("td", {}, showScore(score))));
  }
  return make("table", {}, make("caption", {}, sayCaption(row, row.boxes?.[chosen])), body);
}

function sayCaption(row, box) {
  if (row.boxes?.length && !box.map && !box.empty) return "Answer (the page has no map of this box, but the rows of the run do)";
  return row.map || row.error || box?.map || row.boxes?.length === 0 ? "Answer" : "Answer (the map is zero everywhere)";
}

function openViewer(row, chosen = findFitting(row)) {
  const viewer = byId("viewer"), place = shown.indexOf(row);
  byId("viewer-title").textContent = row.id;
  byId("viewer-body").className = row.other ? "pair" : "";
  byId("viewer-body").replaceChildren(...(row.error ? [] : [drawFrames(row, chosen, choose)]),
    ...(row.boxes?.length ? [make("div", {}, listBoxes(row, chosen, choose), listFacts(row, chosen))] : [listFacts(row)]));
  byId("position").textContent = place < 0 ? "" : `${count(place + 1)} of ${count(shown.length)}`;
  byId("previous").disabled = place < 1;
  byId("next").disabled = place < 0 || place + 1 >= shown.length;
  byId("previous").onclick = () => step(-1);
  byId("next").onclick = () => step(1);
  viewer.onkeydown = (event) => {
    const way = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (way && place >= 0) step(way);
  };
  function choose(number) {
    openViewer(row, number);
  }
  function step(way) {
    if (shown[place + way]) openViewer(shown[place + way]);
  }
  if (!viewer.open) viewer.showModal();
}
