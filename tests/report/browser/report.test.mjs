/** Test reports in headless Chromium: they open quickly, ask no host, filter, and work from the keyboard and in the dark. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { open, said } from "./pages.mjs";

const MOST_CPU_SECONDS = 2;

test("a thousand photos open in less than two seconds, and ask no host", async (context) => {
  const { page, seen, seconds, close } = await open("alone.html");
  context.diagnostic(`${seconds.toFixed(2)} s of the processor`);
  assert.ok(seconds < MOST_CPU_SECONDS, `${seconds} s`);
  assert.equal(await said(page), "1,000 of 1,000");
  await page.locator("#grid .card").first().scrollIntoViewIfNeeded();
  await page.waitForFunction(() => [...document.querySelectorAll("#grid img")].slice(0, 6).every((image) => image.naturalWidth > 0));
  assert.deepEqual(seen.errors, []);
  assert.deepEqual(seen.requests.filter((url) => !/^(file|data|blob):/.test(url)), []);
  await close();
});

test("hostile names are texts", async () => {
  const { page, seen, close } = await open("alone.html");
  await page.fill("#search", "onerror");
  assert.equal(await said(page), "1 of 1,000");
  assert.match(await page.innerText("#grid .card .id"), /^0007<\/script><img src=x onerror=alert\(1\)>=1\+1\.jpg$/);
  assert.equal(await page.locator('img[src="x"]').count(), 0);
  assert.deepEqual(seen.errors, []);
  await close();
});

test("wrong ones come first, and the filters agree with the rows", async () => {
  const { page, close } = await open("alone.html");
  const rows = await page.evaluate(() => CONTENT.rows.map(({ right, error, class: name, label, score }) => ({ right, error, name, label, score })));
  const wrong = rows.filter(({ right, error }) => right === 0 && !error);
  assert.ok(wrong.length > 50);
  assert.ok(rows.slice(0, wrong.length).every(({ right }) => right === 0));
  assert.match(await page.textContent("#grid .card"), /wrong, label/);
  await page.selectOption("#kind", "wrong");
  assert.equal(await said(page), `${wrong.length} of 1,000`);
  await page.selectOption("#kind", "all photos");
  await page.selectOption("#class", "=dog");
  await page.fill("#low", "60");
  await page.fill("#high", "80");
  assert.equal(await said(page), `${rows.filter(({ name, score }) => name === "dog" && score >= 0.6 && score <= 0.8).length} of 1,000`);
  await page.selectOption("#label", "=cat");
  const both = rows.filter(({ name, label, score }) => name === "dog" && label === "cat" && score >= 0.6 && score <= 0.8);
  assert.equal(await said(page), `${both.length} of 1,000`);
  await page.click("text=Clear filters");
  await page.waitForFunction(() => document.getElementById("count").textContent === "1,000 of 1,000");
  await page.selectOption("#kind", "failed");
  assert.equal(await said(page), "10 of 1,000");
  assert.match(await page.innerText("#grid .card"), /truncated/);
  await close();
});

test("the suspicious group is first, and its photos can be shown", async () => {
  const { page, close } = await open("alone.html");
  const first = page.locator("#clusters > li").first();
  assert.match(await first.innerText(), /possible shortcut/);
  assert.match(await first.locator("h3").innerText(), /^1\. <img src=x .*bottom right corner$/);
  await first.locator("text=/^Show these/").click();
  const members = await page.evaluate(() => CONTENT.clusters[0].members.length);
  assert.equal(await said(page), `${members} of 1,000`);
  await close();
});

test("all groups are shown on request", async () => {
  const { page, seen, close } = await open("alone.html");
  const all = await page.evaluate(() => CONTENT.clusters.length);
  const more = page.locator("#more-clusters");
  assert.equal(await more.isVisible(), (await page.locator("#clusters > li").count()) < all);
  if (await more.isVisible()) await more.click();
  assert.equal(await page.locator("#clusters > li").count(), all);
  assert.deepEqual(seen.errors, []);
  await close();
});

test("the averages of classes stand in a row, however long their names are", async () => {
  const { page, close } = await open("alone.html");
  const tops = await page.evaluate(() => [...document.querySelectorAll("#averages canvas")].slice(0, 3)
    .map((canvas) => canvas.getBoundingClientRect().top - canvas.closest("button").getBoundingClientRect().top));
  assert.equal(tops.length, 3);
  assert.ok(Math.max(...tops) < 3, `${tops}`);
  await close();
});

test("heat lies where the map is hot, and its slider changes it", async () => {
  const { page, close } = await open("alone.html");
  await page.selectOption("#kind", "group 0");
  const corners = await page.evaluate(() => {
    const canvas = document.querySelector("#grid .stage canvas"), context = canvas.getContext("2d");
    return [[2, 2], [canvas.width - 3, canvas.height - 3]].map(([x, y]) => [...context.getImageData(x, y, 1, 1).data]);
  });
  assert.ok(corners[0][0] < 80 && corners[0][2] > 50, `cold is dark blue: ${corners[0]}`);
  assert.ok(corners[1][0] > 100 && corners[1][2] < 60, `hot is red: ${corners[1]}`);
  await page.locator("#opacity").fill("100");
  assert.equal(await page.evaluate(() => getComputedStyle(document.querySelector("#grid .stage canvas")).opacity), "1");
  await close();
});

test("the table that is downloaded has the rows that are shown", async () => {
  const { page, close } = await open("alone.html");
  await page.fill("#search", "000");
  const [download] = await Promise.all([page.waitForEvent("download"), page.click("#csv")]);
  const text = readFileSync(await download.path(), "utf-8");
  const lines = text.replace(/^\ufeff/, "").trim().split("\r\n");
  assert.equal(lines[0], "id,label,prediction,explained,score,right,strength,entropy,hottest_tenth,error");
  assert.equal(lines.length, 1 + Number((await said(page)).split(" ")[0]));
  assert.deepEqual(await page.evaluate(() => [quote("=1+1"), quote("@x"), quote('a"b'), quote(-1.5)]), ["'=1+1", "'@x", '"a""b"', "-1.5"]);
  await close();
});

test("everything works from the keyboard", async () => {
  const { page, close } = await open("alone.html");
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate(() => document.activeElement.textContent), "Skip to the photos");
  await page.keyboard.press("Enter");
  await page.locator("#grid .card").first().focus();
  await page.keyboard.press("Enter");
  assert.ok(await page.evaluate(() => document.getElementById("viewer").open));
  assert.equal(await page.innerText("#position"), "1 of 1,000");
  await page.keyboard.press("ArrowRight");
  assert.equal(await page.innerText("#position"), "2 of 1,000");
  await page.keyboard.press("Escape");
  assert.ok(!(await page.evaluate(() => document.getElementById("viewer").open)));
  assert.equal(await page.evaluate(() => document.activeElement.className.split(" ")[0]), "card", "the focus is where it was");
  await close();
});

test("every control has a name, every picture a text or none, and ids are unique", async () => {
  for (const name of ["alone.html", "pair.html", "bare.html", "boxes.html"]) {
    const { page, seen, close } = await open(name);
    const problems = await page.evaluate(() => [
      ...[...document.querySelectorAll("select, input")].filter((control) => !control.labels.length).map((control) => control.id),
      ...[...document.querySelectorAll("button, a")].filter((one) => !(one.getAttribute("aria-label") || one.textContent.trim())).map((one) => one.outerHTML),
      ...[...document.querySelectorAll("img")].filter((image) => image.getAttribute("alt") === null).map(() => "img"),
      ...[...document.querySelectorAll("canvas")].filter((canvas) => canvas.getAttribute("aria-hidden") !== "true").map(() => "canvas"),
      ...[...document.querySelectorAll("[id]")].map((one) => one.id).filter((id, at, all) => all.indexOf(id) !== at),
    ]);
    assert.deepEqual(problems, []);
    assert.deepEqual(seen.errors, []);
    await close();
  }
});

/** The least contrast of texts with their grounds, by WCAG 2. */
const findLeastContrast = () => {
  const parse = (color) => (color.match(/[\d.]+/g) || []).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((x) => x / 255).map((x) => (x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4))
    .reduce((sum, x, n) => sum + x * [0.2126, 0.7152, 0.0722][n], 0);
  const ground = (one) => {
    for (let at = one; at; at = at.parentElement) {
      const color = parse(getComputedStyle(at).backgroundColor);
      if (color.length === 3 || color[3] > 0.9) return color;
    }
    return parse(getComputedStyle(document.documentElement).backgroundColor);
  };
  let least = [99, ""];
  for (const one of document.querySelectorAll("body *")) {
    const own = [...one.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    if (!own || !one.checkVisibility?.() || one.closest(".side, button:disabled, script")) continue;
    const [a, b] = [light(parse(getComputedStyle(one).color)), light(ground(one))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < least[0]) least = [ratio, `${one.tagName}.${one.className} ${one.textContent.slice(0, 40)}`];
  }
  return least;
};

for (const colorScheme of ["light", "dark"]) {
  for (const width of [360, 1280]) {
    test(`${colorScheme}, ${width} pixels wide: enough contrast, and nothing runs out of the page`, async () => {
      for (const name of ["alone.html", "pair.html", "boxes.html"]) {
        const { page, close } = await open(name, { colorScheme, viewport: { width, height: 800 } });
        const [ratio, where] = await page.evaluate(findLeastContrast);
        assert.ok(ratio >= 4.5, `${ratio} at ${where}`);
        assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), "no scrolling sideways");
        const dark = await page.evaluate(() => getComputedStyle(document.documentElement).backgroundColor);
        assert.equal(Number(dark.match(/\d+/)[0]) < 60, colorScheme === "dark");
        await close();
      }
    });
  }
}

test("two runs stand side by side", async () => {
  const { page, close } = await open("pair.html");
  const { flipped } = await page.evaluate(() => CONTENT.against);
  await page.selectOption("#kind", "flipped");
  assert.equal(await said(page), `${flipped[0]} of 1,000`);
  assert.ok(flipped[0] > 150);
  const card = page.locator("#grid .card").first();
  assert.equal(await card.locator(".stage canvas").count(), 2);
  assert.match(await card.textContent(), /A: .* · B: [^]*flipped/);
  assert.match(await page.textContent("#grid"), /A ✓ right, B ✗ wrong, label: |A ✗ wrong, B ✓ right, label: /);
  await page.selectOption("#order", "most moved map first");
  const moved = await page.evaluate(() => shown.map((row) => row.other.moved ?? -1));
  assert.ok(moved.every((value, at) => !at || moved[at - 1] >= value));
  await close();
});

test("failed photos and empty maps alone are a page, too", async () => {
  const { page, seen, close } = await open("bare.html");
  assert.equal(await said(page), "2 of 2");
  assert.match(await page.innerText("#grid"), /broken/);
  assert.deepEqual(seen.errors, []);
  await close();
});
