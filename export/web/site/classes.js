/** The list of classes: the likeliest ones, or those that a search finds. */

const PRESENT = 0.5; // the smallest probability of a class that is present, in artifacts that name none
const MOST = 30; // rows of a search
const find = (id) => document.getElementById(id);
let shown = null; // the answer and the metadata in the list

/** Show the top classes, which stay in place when another of them is explained. */
export function showClasses(answer, metadata) {
  if (shown?.metadata !== metadata) find("search").value = "";
  shown = { answer, metadata };
  find("search-row").hidden = metadata.classes <= answer.top.length;
  find("search").placeholder = `Search all ${metadata.classes} classes`;
  listRows();
  const checked = find("classes").querySelector("label:has(:checked)");
  find("spoken").textContent = `Explained: ${(checked ?? makeRow(answer.classIdx)).innerText}`;
}

/** Show the classes that fit the search, or the top classes where it is empty. */
export function onSearch() {
  listRows();
}

function listRows() {
  const { answer: { top, classIdx } } = shown;
  const wanted = normalize(find("search").value);
  const all = wanted ? searchClasses(wanted) : top.includes(classIdx) ? top : [...top, classIdx];
  const list = find("classes");
  const focused = list.contains(document.activeElement);
  list.replaceChildren(...all.slice(0, MOST).map(makeRow));
  if (focused) list.querySelector(":checked")?.focus();
  find("found").textContent = wanted ? describeCount(all.length) : "";
}

function describeCount(count) {
  if (!count) return "No class has that in its name.";
  if (count > MOST) return `The ${MOST} likeliest of ${count} classes`;
  return count === 1 ? "1 class" : `${count} classes`;
}

/** The classes whose name or number fits, the likeliest first. */
function searchClasses(wanted) {
  const { answer: { probabilities, scores }, metadata: { classes, class_names: names } } = shown;
  const ranking = probabilities ?? scores ?? [];
  const fits = (index) => String(index) === wanted || normalize(names?.[index] ?? `class ${index}`).includes(wanted);
  return Array.from({ length: classes }, (_, index) => index)
    .filter(fits)
    .sort((a, b) => (ranking[b] ?? 0) - (ranking[a] ?? 0) || a - b);
}

function normalize(text) {
  return text.trim().normalize("NFKC").toLowerCase();
}

/** The class in words: its name, with "no" before the absent class of a binary output, and its probability or score. */
export function describeClass(index, { probabilities, scores }, metadata) {
  const { class_names: names, output_kind: kind, classes, threshold = PRESENT } = metadata;
  const [known, ...others] = (names?.[index] ?? `class ${index}`).split(", ");
  const probability = probabilities?.[index];
  const absent = kind?.startsWith("binary") && classes === 1 && probability < threshold;
  const score = scores?.[index];
  const share = probability === undefined ? score === undefined ? "" : `score ${score.toPrecision(3)}` : formatPercentage(probability);
  return { name: absent ? `no ${known}` : known, others: others.join(", "), probability, share };
}

function makeRow(index) {
  const { answer, metadata } = shown;
  const { name, others, probability, share } = describeClass(index, answer, metadata);
  const row = document.createElement("label");
  const radio = Object.assign(document.createElement("input"), { type: "radio", name: "class", value: index });
  radio.checked = index === answer.classIdx;
  row.append(radio, makeSpan("name", name), makeSpan("others", others));
  if (share) row.append(makeSpan("share", share));
  if (probability !== undefined) {
    row.append(makeSpan("bar", ""));
    row.style.setProperty("--share", probability);
  }
  return row;
}

function makeSpan(className, textContent) {
  return Object.assign(document.createElement("span"), { className, textContent });
}

function formatPercentage(probability) {
  const percent = 100 * probability;
  if (percent < 0.1) return "< 0.1 %";
  return `${percent.toFixed(percent < 10 ? 1 : 0)} %`;
}
