/** The parts of the page above the photos: figures, suspicious groups, the other run, classes, strengths. */

const FIRST_CLUSTERS = 3, FIRST_CLASSES = 24, FIRST_MEMBERS = 40;

function makeTile(name, value, detail = "") {
  return make("div", {}, make("dt", {}, name), make("dd", {}, value, detail && make("small", {}, detail)));
}

function showHead() {
  byId("title").textContent = CONTENT.title;
  const { name, method, model, sha256 } = CONTENT.artifact;
  byId("subtitle").textContent = [name, method && model ? `${method} of ${model}` : method || model, sha256 && `SHA-256 ${sha256.slice(0, 12)}…`]
    .filter(Boolean).join(" · ");
  const share = CONTENT.accuracy;
  byId("tiles").append(...[
    makeTile("Photos", count(CONTENT.photos)),
    share && makeTile("Right", percent(share[0] / share[1]), `95 % interval: ${percent(share[2])} to ${percent(share[3])}`),
    share && makeTile("Wrong", count(share[1] - share[0]), `of ${count(share[1])} with a label`),
    DETECTION && makeTile("Boxes", count(DETECTION.boxes), `${(DETECTION.boxes / Math.max(CONTENT.photos - CONTENT.failed, 1)).toFixed(1)} in a photo`),
    DETECTION && makeTile("Without a box", count(DETECTION.bare), DETECTION.bare ? "choose “without a box” below" : "every photo has one"),
    DETECTION && makeTile("Heat mostly outside", count(DETECTION.outside), "boxes whose map lies elsewhere"),
    CONTENT.unsure !== null && makeTile("Unsure", count(CONTENT.unsure), "probability below 50 %"),
    makeTile("Failed", count(CONTENT.failed), CONTENT.failed ? "choose “failed” below" : "every photo has an answer"),
    CONTENT.empty > 0 && makeTile("Empty maps", count(CONTENT.empty), "zero everywhere"),
  ].filter(Boolean));
  byId("notes").append(...CONTENT.notes.map((note) => make("li", {}, note)));
  byId("notes").hidden = CONTENT.notes.length === 0;
}

function showClusters() {
  if (!CONTENT.clusters.length) return;
  byId("shortcuts").hidden = false;
  const alarms = CONTENT.clusters.filter((cluster) => cluster.alarm).length;
  byId("verdict").textContent = alarms
    ? `${plural(alarms, "group")} of maps ${alarms === 1 ? "looks" : "look"} at one small place that the other classes do not look at. ` +
      "That may be a mark that comes with the class, or a subject that always lies there: look at the photos."
    : "No alarm: no class looks at one small place off the middle more often than the others do. These are the groups of similar maps, the oddest first.";
  showFirst(CONTENT.clusters, makeCluster, byId("clusters"), alarms ? Math.min(alarms, 12) + 1 : FIRST_CLUSTERS, byId("more-clusters"));
}

function makeCluster(cluster, number) {
  const { name, share } = cluster;
  const facts = [
    ["Hottest there: of the group", showShare(cluster.agreement)],
    ["Hottest there: of the class", showShare(cluster.here)],
    ["Hottest there: of other classes", cluster.elsewhere && showShare(cluster.elsewhere)],
    ["Right in the group", cluster.accuracy && showShare(cluster.accuracy)],
    ["Right in the rest of the class", cluster.rest && showShare(cluster.rest)],
    ["Difference", cluster.difference && sayDifference(cluster.difference)],
  ].filter(([, value]) => value);
  const members = cluster.members.slice(0, FIRST_MEMBERS);
  const button = make("button", { type: "button" }, cluster.members.length < share[0]
    ? `Show ${count(cluster.members.length)} of these ${plural(share[0], "photo")}` : `Show these ${plural(share[0], "photo")}`);
  button.addEventListener("click", () => showOnly("kind", `group ${number}`));
  return make("li", { className: cluster.alarm ? "cluster alarm" : "cluster" },
    drawMap(cluster),
    make("div", {},
      make("div", { className: "head" },
        make("h3", {}, `${number + 1}. ${name}: ${count(share[0])} of ${plural(share[1], "map")}, ${cluster.place}`),
        cluster.alarm ? make("span", { className: "badge alarm" }, "possible shortcut") : null,
        cluster.sure ? make("span", { className: "badge sure" }, `${cluster.difference[0] < 0 ? "less" : "more"} often right`) : null),
      make("dl", { className: "facts" }, ...facts.map(([term, value]) => make("div", {}, make("dt", {}, term), make("dd", {}, value)))),
      members.length ? make("p", { className: "act" }, button) : null),
    make("ul", { className: "members short" }, ...members.slice(0, 10).map((place) => makeThumbnail(CONTENT.rows[place]))));
}

function sayDifference([value, low, high]) {
  const points = (share) => {
    const rounded = Math.round(100 * share);
    return `${rounded > 0 ? "+" : rounded < 0 ? "−" : ""}${Math.abs(rounded)}`;
  };
  return `${points(value)} points (${points(low)} to ${points(high)})`;
}

/** Make the first items of a list; a button makes the others, since each draws maps. */
function showFirst(records, makeItem, list, number, button) {
  list.append(...records.slice(0, number).map(makeItem));
  button.hidden = records.length <= number;
  button.addEventListener("click", () => {
    const rest = records.slice(number).map((record, place) => makeItem(record, number + place));
    list.append(...rest);
    button.hidden = true;
    rest[0].querySelector("button")?.focus();
  });
}

function showAgainst() {
  const { against } = CONTENT;
  if (!against) return;
  byId("against").hidden = false;
  byId("against-lead").textContent = `A is this run, B the other${against.artifact ? `, of ${against.artifact}` : ""}. ` +
    `Both have ${plural(against.photos, "photo")}; ${plural(against.answered, "photo")} ${against.answered === 1 ? "has" : "have"} an answer in both.` +
    (against.only[0] + against.only[1] ? ` ${count(against.only[0])} are in A alone, ${count(against.only[1])} in B alone.` : "") +
    (against.changed ? ` ${plural(against.changed, "photo")} changed between the runs and ${against.changed === 1 ? "is" : "are"} left out.` : "");
  byId("against-tiles").append(...[
    makeTile("Flipped classes", count(against.flipped[0]), showShare(against.flipped)),
    makeTile("Moved maps", count(against.moved[0]), "more than half of the heat lies elsewhere"),
    against.median !== null && makeTile("Heat that moved", percent(against.median), "median of the photos"),
    against.first && makeTile("Right in A", percent(against.first[0] / against.first[1]), showShare(against.first)),
    against.second && makeTile("Right in B", percent(against.second[0] / against.second[1]), showShare(against.second)),
    against.first && makeTile("Right in one alone", `${count(against.lost)} / ${count(against.won)}`, "in A / in B"),
  ].filter(Boolean));
  byId("flips-region").hidden = against.flips.length === 0;
  byId("flips").append(...against.flips.map(([from, to, photos]) =>
    make("tr", {}, make("td", {}, from), make("td", {}, to), make("td", { className: "number" }, count(photos)))));
}

function showClasses() {
  byId("classes").hidden = CONTENT.classes.length === 0;
  if (DETECTION) showBoxTexts();
  showFirst(CONTENT.classes, DETECTION ? makeBoxClass : makeAverage, byId("averages"), FIRST_CLASSES, byId("more-classes"));
}

function makeAverage(one) {
  const button = make("button", { type: "button" },
    one.map ? drawMap(one) : make("span", { className: "none" }, "maps are zero"),
    make("span", { className: "name" }, one.name),
    make("span", {}, plural(one.photos, "photo")),
    one.accuracy ? make("span", {}, `right: ${showShare(one.accuracy)}`) : null,
    make("span", {}, `mean ${CONTENT.probability ? "confidence" : "score"} ${showScore(one.score)}`),
    make("span", {}, `strength ${one.strength.toPrecision(2)}`),
    one.empty ? make("span", {}, plural(one.empty, "empty map")) : null);
  button.addEventListener("click", () => showOnly("class", one.name));
  return make("li", {}, button);
}

function showStrengths() {
  const { strengths } = CONTENT;
  if (!strengths) return;
  byId("strengths").hidden = false;
  const [right, wrong, unknown] = strengths.counts, bins = right.length;
  const most = Math.max(...right.map((number, bin) => number + wrong[bin] + unknown[bin]), 1);
  const makeSvg = (tag, attributes) => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    return element;
  };
  const svg = makeSvg("svg", { viewBox: `0 0 ${bins} 100`, preserveAspectRatio: "none", role: "img",
    "aria-label": `Histogram of ${DETECTION ? "the heat inside the boxes" : "the maps' strength"}, from ${strengths.low.toPrecision(2)} to ${strengths.high.toPrecision(2)} in ${bins} bins` });
  for (let bin = 0; bin < bins; bin++) {
    let y = 100;
    for (const [kind, counts] of [["right", right], ["unknown", unknown], ["wrong", wrong]]) {
      const height = (92 * counts[bin]) / most;
      y -= height;
      if (height > 0) svg.append(makeSvg("rect", { class: kind, x: bin + 0.06, y, width: 0.88, height }));
    }
  }
  const total = (counts) => counts.reduce((a, b) => a + b, 0);
  const keys = [["right", right], ["wrong", wrong], [DETECTION ? "boxes" : "without a verdict", unknown]].filter(([, counts]) => total(counts));
  byId("histogram").append(svg, make("p", {}, make("span", {}, strengths.low.toPrecision(2)),
    make("span", {}, ...keys.map(([name, counts]) => make("span", { className: `key ${name.split(" ")[0]}` }, `${name}: ${count(total(counts))}`))),
    make("span", {}, strengths.high.toPrecision(2))));
}
