/** The photos: filters, order, and the table to download. */

const CHUNK = 60, MANY = 400;
let shown = [];
let drawn = 0;

const ORDERS = {
  "wrong and unsure first": null,
  "surest first": (a, b) => (b.score ?? -Infinity) - (a.score ?? -Infinity),
  "least sure first": (a, b) => (a.score ?? Infinity) - (b.score ?? Infinity),
  "weakest map first": (a, b) => (a.strength ?? Infinity) - (b.strength ?? Infinity),
  "strongest map first": (a, b) => (b.strength ?? -1) - (a.strength ?? -1),
  "most spread map first": (a, b) => (b.entropy ?? -1) - (a.entropy ?? -1),
  "name": (a, b) => (a.id < b.id ? -1 : a.id > b.id ? 1 : 0),
};
if (CONTENT.against) ORDERS["most moved map first"] = (a, b) => (b.other?.moved ?? -1) - (a.other?.moved ?? -1);

const KINDS = {
  "all photos": () => true,
  "wrong": (row) => row.right === WRONG && !row.error,
  "right": (row) => row.right === RIGHT,
  "without a verdict": (row) => row.right < 0 && !row.error,
  "failed": (row) => Boolean(row.error),
  "empty maps": (row) => !row.map && !row.error,
  "flipped": (row) => Boolean(row.other?.flipped),
  "moved maps": (row) => (row.other?.moved ?? 0) > 0.5,
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
    const value = read(row);
    if (value !== undefined) found.set(value, (found.get(value) || 0) + 1);
  }
  return [...found].sort((a, b) => b[1] - a[1]).map(([value, number]) => [`=${value}`, value, number]);
}

function fillFilters() {
  fillMenu("kind", "", Object.entries(KINDS).map(([kind, test]) => [kind, sayKind(kind), CONTENT.rows.filter(test).length]));
  fillMenu("class", "all", countValues((row) => row.class));
  fillMenu("label", "all", countValues((row) => row.label));
  fillMenu("order", "", Object.keys(ORDERS).map((order) => [order, order, -1]));
  byId("score-legend").textContent = CONTENT.probability ? "Confidence, in per cent" : "Score";
  if (CONTENT.probability) for (const id of ["low", "high"]) Object.assign(byId(id), { min: 0, max: 100, placeholder: id === "low" ? "0" : "100" });
}

function filterRows() {
  const kind = KINDS[byId("kind").value], [className, label] = ["class", "label"].map((id) => byId(id).value.slice(1));
  const unit = CONTENT.probability ? 100 : 1, search = byId("search").value.trim().toLowerCase();
  const [low, high] = ["low", "high"].map((id) => (byId(id).value === "" ? null : byId(id).valueAsNumber / unit));
  const rows = CONTENT.rows.filter((row) => kind(row)
    && (!byId("class").value || row.class === className)
    && (!byId("label").value || row.label === label)
    && (low === null || row.score >= low) && (high === null || row.score <= high)
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
  byId(id).value = id === "kind" ? value : `=${value}`;
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

function makeTable() {
  const columns = { id: (row) => row.id, label: (row) => row.label, prediction: (row) => row.class, explained: (row) => row.explained ?? row.class,
    score: (row) => row.score, right: (row) => (row.error || row.right < 0 ? "" : row.right === RIGHT), strength: (row) => row.strength,
    entropy: (row) => row.entropy, hottest_tenth: (row) => row.hottest_tenth, error: (row) => row.error };
  if (CONTENT.against) Object.assign(columns, { other_prediction: (row) => row.other?.class, other_score: (row) => row.other?.score,
    flipped: (row) => row.other?.flipped, moved: (row) => row.other?.moved });
  const lines = shown.map((row) => Object.values(columns).map((read) => quote(read(row))).join(","));
  return [Object.keys(columns).join(","), ...lines, ""].join("\r\n");
}

function downloadTable() {
  const url = URL.createObjectURL(new Blob(["\ufeff", makeTable()], { type: "text/csv" }));
  make("a", { href: url, download: "photos.csv" }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
