/** Test the report of a detector's run in headless Chromium: boxes lie where they were found, and each shows its own map. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { open, said } from "./pages.mjs";

test("a thousand photos of five boxes open, ask no host, and hostile names are texts", async () => {
  const { page, seen, close } = await open("boxes.html");
  assert.equal(await said(page), "1,000 of 1,000");
  assert.match(await page.innerText("#tiles"), /Boxes\s+4,900\s+4.9 in a photo/);
  assert.match(await page.innerText("#grid .card"), /^no box/);
  assert.equal(await page.locator("#shortcuts").isVisible(), false);
  assert.match(await page.innerText("#classes-lead"), /a page of boxes has none of them/);
  await page.fill("#search", "onerror");
  assert.match(await page.innerText("#grid .card .id"), /^0007<\/script><img src=x/);
  assert.equal(await page.locator('img[src="x"]').count(), 0);
  assert.deepEqual(seen.errors, []);
  assert.deepEqual(seen.requests.filter((url) => !/^(file|data|blob):/.test(url)), []);
  await close();
});

test("boxes lie in the photo where they were found", async () => {
  const { page, close } = await open("boxes.html");
  await page.fill("#search", "0002");
  const off = await page.evaluate(() => {
    const [row] = shown, stage = document.querySelector("#grid .stage").getBoundingClientRect();
    return Math.max(...[...document.querySelectorAll("#grid .outline")].flatMap((outline, number) => {
      const { left, top, right, bottom } = outline.getBoundingClientRect(), box = row.boxes[number].box;
      return [(left - stage.left) / stage.width - box[0], (top - stage.top) / stage.height - box[1],
        (right - stage.left) / stage.width - box[2], (bottom - stage.top) / stage.height - box[3]].map(Math.abs);
    }));
  });
  assert.ok(off < 0.01, `${off}`);
  await close();
});

test("a box that is tapped or chosen shows its own map, and the keyboard keeps its place", async () => {
  const { page, seen, close } = await open("boxes.html");
  await page.fill("#search", "0002");
  await page.locator("#grid .card").click();
  const findHottest = () => page.evaluate(() => {
    const canvas = document.querySelector("#viewer .stage canvas"), { width, height } = canvas;
    const { data } = canvas.getContext("2d").getImageData(0, 0, width, height);
    let best = 0;
    for (let pixel = 0; pixel < width * height; pixel++) if (data[4 * pixel] - data[4 * pixel + 2] > data[4 * best] - data[4 * best + 2]) best = pixel;
    return [(best % width) / width, Math.floor(best / width) / height];
  });
  const boxes = await page.evaluate(() => shown[0].boxes.map(({ box }) => box));
  const isIn = ([x, y], [left, top, right, bottom]) => x >= left && x <= right && y >= top && y <= bottom;
  assert.ok(isIn(await findHottest(), boxes[0]), "the best box is chosen first");
  await page.locator(".choices button").nth(3).focus();
  await page.keyboard.press("Enter");
  assert.ok(isIn(await findHottest(), boxes[3]));
  assert.equal(await page.evaluate(() => document.activeElement.getAttribute("aria-pressed")), "true");
  await page.evaluate(() => document.querySelectorAll("#viewer .outline")[4].click());
  assert.ok(isIn(await findHottest(), boxes[4]));
  assert.match(await page.innerText("#viewer table"), /Heat inside the box\s+90 %/);
  await page.locator(".choices button").nth(1).click();
  assert.equal(await page.locator("#viewer .stage canvas").count(), 0);
  assert.match(await page.innerText("#viewer caption"), /the map is zero everywhere/);
  assert.deepEqual(seen.errors, []);
  await close();
});

test("filters choose by class and score of one box, and by what a photo lacks", async () => {
  const { page, close } = await open("boxes.html");
  const count = (test) => page.evaluate(`CONTENT.rows.filter((row) => ${test}).length`);
  for (const [kind, test] of [["without a box", "row.boxes?.length === 0"], ["failed", "row.error"],
    ["heat mostly outside a box", "row.boxes?.some((box) => box.inside < 0.5)"], ["empty maps", "row.boxes?.some((box) => !box.map)"]]) {
    await page.selectOption("#kind", kind);
    assert.equal(await said(page), `${await count(test)} of 1,000`, kind);
    assert.ok((await count(test)) > 0, kind);
  }
  await page.selectOption("#kind", "all photos");
  await page.selectOption("#class", "=dog");
  await page.fill("#low", "80");
  const found = await count("row.boxes?.some((box) => box.class === 'dog' && box.score >= 0.8)");
  assert.equal(await said(page), `${found} of 1,000`);
  assert.ok(found > 0 && found < 980);
  assert.ok(await page.evaluate(() => [...document.querySelectorAll("#grid .card")].every((card, place) => {
    const chosen = [...card.querySelectorAll(".outline")].findIndex((outline) => outline.classList.contains("chosen"));
    return shown[place].boxes[chosen].class === "dog";
  })), "the box that fits is shown");
  await page.selectOption("#label", "=cat");
  assert.ok(Number((await said(page)).split(" ")[0]) < found);
  await close();
});

test("the table that is downloaded has a line for each box, in pixels of the photo", async () => {
  const { page, close } = await open("boxes.html");
  await page.fill("#search", "000");
  const [download] = await Promise.all([page.waitForEvent("download"), page.click("#csv")]);
  assert.equal(download.suggestedFilename(), "boxes.csv");
  const lines = readFileSync(await download.path(), "utf-8").replace(/^\ufeff/, "").trim().split("\r\n");
  assert.equal(lines[0], "id,label,box,class,score,left,top,right,bottom,inside,entropy,hottest_tenth,error");
  assert.equal(lines.length, 1 + 5 * Number((await said(page)).split(" ")[0]));
  const [left, top, right, bottom] = lines.find((line) => line.startsWith("0002.jpg")).split(",").slice(5, 9).map(Number);
  assert.ok(Math.abs(right - left - 160) < 0.3 && Math.abs(bottom - top - 120) < 0.3, lines[1]);
  await close();
});

test("boxes beyond those with a map are filtered, sorted and in the table, and a class that is not on the page shows no photo", async () => {
  const { page, seen, close } = await open("crowd.html");
  assert.equal(await said(page), "19 of 19 on this page (20 in the run)");
  assert.equal(await page.evaluate(() => CONTENT.rows[0].boxes.filter(({ map }) => map).length), 10);
  for (const [id, value, number] of [["kind", "heat mostly outside a box", 18], ["kind", "empty maps", 18], ["kind", "all photos", 19], ["class", "=dog", 18]]) {
    await page.selectOption(`#${id}`, value);
    assert.match(await said(page), new RegExp(`^${number} of 19 `), value);
  }
  assert.ok(await page.locator("#grid .card .outline.chosen").first().isVisible());
  await page.locator("#grid .card").first().click();
  assert.match(await page.innerText("#viewer caption"), /the page has no map of this box/);
  assert.match(await page.innerText("#viewer table"), /Heat inside the box\s+10 %/);
  assert.equal(await page.locator("#viewer .outline").count(), 12);
  await page.click("#close");
  const [download] = await Promise.all([page.waitForEvent("download"), page.click("#csv")]);
  assert.equal(readFileSync(await download.path(), "utf-8").trim().split("\r\n").length, 1 + 12 * 18);
  await page.selectOption("#class", "");
  await page.selectOption("#order", "most boxes first");
  assert.equal(await page.evaluate(() => shown.at(-1).id), "19.jpg");
  await page.locator("#averages button", { hasText: "owl" }).click();
  assert.match(await said(page), /^0 of 19 /);
  await page.locator("#averages button", { hasText: "cat" }).click();
  assert.match(await said(page), /^19 of 19 /);
  assert.deepEqual(seen.errors, []);
  await close();
});
