/** The photos: filters, order, and the table to download. */

const CHUNK = 60, MANY = 400;
let shown = [];
let drawn = 0;

const ORDERS = DETECTION ? { ...BOX_ORDERS, "name": sortByName } : {
  "wrong and unsure first": null,
  "surest first": (a, b) => (b.score ?? -Infinity) - (a.score ?? -Infinity),
  "least sure first": (a, b) => (a.score ?? Infinity) - (b.score ?? Infinity),
  "weakest map first": (a, b) => (a.strength ?? Infinity) - (b.strength ?? Infinity),
  "strongest map first": (a, b) => (b.strength ?? -1) - (a.strength ?? -1),
  "most spread map first": (a, b) => (b.entropy ?? -1) - (a.entropy ?? -1),
  "name": sortByName,
};
function sortByName(a, b) {
  return a.id < b.id ? -1 : a.id > b.id ? 1 : 0;
}
if (CONTENT.against) ORDERS["most moved map first"] = (a, b) => (b.other?.moved ?? -1) - (a.other?.moved ?? -1);

const KINDS = {
  "all photos": () => true,
  ...(DETECTION ? BOX_KINDS : {
  "wrong": (row) => row.right === WRONG && !row.error,
  "right": (row) => row.right === RIGHT,
  "without a verdict": (row) => row.right < 0 && !row.error,
  "failed": (row) => Boolean(row.error),
  "empty maps": (row) => !row.map && !row.error,
  "flipped": (row) => Boolean(row.other?.flipped),
  "moved maps": (row) => (row.other?.moved ?? 0) > 0.5,
  }),
};
CONTENT.clusters.forEach((cluster, number) => {
  const members = new Set(cluster.members.map((place) => CONTENT.rows[place]));
  KINDS[`group ${number}`] = (row) => members.has(row);
});
const sayKind = (kind) => kind.replace(/^group (\d+)$/, (_, number) => `group ${Number(number) + 1}: ${CONTENT.clusters[number].name}`);

/** Fill a menu with values and how many photos each has; values without photos are left out. */
function fillMenu(id, all, values) {
  const options = values.filter(([, , number]) => number).slice(0, MANY)
    .map(([value, text, number]) => make("option", { value }, number < 0 ? text : `${text} (${count(number)})`));
  byId(id).replaceChildren(...(all ? [make("option", { value: "" }, all)] : []), ...options);
  byId(id).disabled = options.length === 0;
}

function countValues(read) {
  const found = new Map();
  for (const row of CONTENT.rows) {
    for (const value of new Set([read(row)].flat())) if (value !== undefined) found.set(value, (found.get(value) || 0) + 1);
  }
  return [...found].sort((a, b) => b[1] - a[1]).map(([value, number]) => [`=${value}`, value, number]);
}

function fillFilters() {
  fillMenu("kind", "", Object.entries(KINDS).map(([kind, test]) => [kind, sayKind(kind), CONTENT.rows.filter(test).length]));
  fillMenu("class", "all", countValues((row) => (row.boxes ? row.boxes.map((box) => box.class) : row.class)));
  fillMenu("label", "all", countValues((row) => row.label));
  fillMenu("order", "", Object.keys(ORDERS).map((order) => [order, order, -1]));
  byId("score-legend").textContent = CONTENT.probability ? "Confidence, in per cent" : "Score";
  if (CONTENT.probability) for (const id of ["low", "high"]) Object.assign(byId(id), { min: 0, max: 100, placeholder: id === "low" ? "0" : "100" });
}

/** Whether an answer, or a box, has the class and the score of the filters; every photo fits where none is set. */
let fits = () => true, isFiltered = false;
const findFitting = (row) => Math.max(0, row.boxes?.findIndex((box) => fits(box)) ?? 0);

function filterRows() {
  const kind = KINDS[byId("kind").value], [className, label] = ["class", "label"].map((id) => byId(id).value.slice(1));
  const unit = CONTENT.probability ? 100 : 1, search = byId("search").value.trim().toLowerCase();
  const [low, high] = ["low", "high"].map((id) => (byId(id).value === "" ? null : byId(id).valueAsNumber / unit));
  fits = (answer) => (!byId("class").value || answer.class === className)
    && (low === null || answer.score >= low) && (high === null || answer.score <= high);
  isFiltered = Boolean(byId("class").value) || low !== null || high !== null;
  const rows = CONTENT.rows.filter((row) => kind(row)
    && (row.boxes ? !isFiltered || row.boxes.some(fits) : fits(row))
    && (!byId("label").value || row.label === label)
    && (!search || row.id.toLowerCase().includes(search)));
  const order = ORDERS[byId("order").value];
  return order ? [...rows].sort(order) : rows;
}

function showPhotos() {
  shown = filterRows();
  drawn = 0;
  byId("grid").replaceChildren();
  byId("grid").classList.toggle("wide", Boolean(CONTENT.against));
  const all = CONTENT.rows.length < CONTENT.photos ? `${count(CONTENT.rows.length)} on this page (${count(CONTENT.photos)} in the run)` : count(CONTENT.rows.length);
  byId("count").textContent = `${count(shown.length)} of ${all}`;
  showMore();
}

function showMore() {
  byId("grid").append(...shown.slice(drawn, drawn + CHUNK).map(makeCard));
  drawn = Math.min(drawn + CHUNK, shown.length);
  byId("more").hidden = drawn >= shown.length;
}

/** Set one filter, clear the others, and go to the photos. */
function showOnly(id, value) {
  byId("filters").reset();
  const menu = byId(id), wanted = id === "kind" ? value : `=${value}`;
  if (![...menu.options].some((option) => option.value === wanted)) menu.append(make("option", { value: wanted }, value)); // in the run, but not on the page
  menu.disabled = false;
  menu.value = wanted;
  setOpacity();
  showPhotos();
  byId("photos").scrollIntoView();
  byId("photos").focus({ preventScroll: true });
}

function setOpacity() {
  document.documentElement.style.setProperty("--opacity", byId("opacity").value / 100);
}

/** A cell of the table; a text that a spreadsheet would compute begins with an apostrophe. */
function quote(value) {
  if (value === undefined || value === null) return "";
  const text = typeof value === "string" && /^[=+\-@\t\r]/.test(value) ? `'${value}` : String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

function writeTable(columns, lines) {
  const texts = lines.map((line) => Object.values(columns).map((read) => quote(read(line))).join(","));
  return [Object.keys(columns).join(","), ...texts, ""].join("\r\n");
}

function makeTable() {
  if (DETECTION) return writeTable(BOX_COLUMNS, listLines(shown));
  const columns = { id: (row) => row.id, label: (row) => row.label, prediction: (row) => row.class, explained: (row) => row.explained ?? row.class,
    score: (row) => row.score, right: (row) => (row.error || row.right < 0 ? "" : row.right === RIGHT), strength: (row) => row.strength,
    entropy: (row) => row.entropy, hottest_tenth: (row) => row.hottest_tenth, error: (row) => row.error };
  if (CONTENT.against) Object.assign(columns, { other_prediction: (row) => row.other?.class, other_score: (row) => row.other?.score,
    flipped: (row) => row.other?.flipped, moved: (row) => row.other?.moved });
  return writeTable(columns, shown);
}

function downloadTable() {
  const url = URL.createObjectURL(new Blob(["\ufeff", makeTable()], { type: "text/csv" }));
  make("a", { href: url, download: DETECTION ? "boxes.csv" : "photos.csv" }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
