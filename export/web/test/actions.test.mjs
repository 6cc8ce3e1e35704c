/** Test what a visitor does with an answer: search a class, save the picture, share it. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, test } from "node:test";

import { expected, findLargestDifference, readFloats } from "./support/expected.mjs";
import { drop, getAnswer, getError, launch, openPage, replaceModel, serve } from "./support/browser.mjs";

let server;
let browser;
let site;

before(async () => {
  server = await serve();
  browser = await launch();
  site = await openPage(browser, server.url);
});

after(async () => {
  await browser?.close();
  server?.stop();
});

const listNames = (page) => page.locator("#classes .name").allInnerTexts();

test("every class is found by its name or its number, and explained", async () => {
  const { page } = site;
  await getAnswer(page, () => drop(page, "chelsea.png"));
  const top = await listNames(page);
  await page.fill("#search", "TABBY");
  assert.deepEqual(await listNames(page), ["tabby"]);
  assert.equal(await page.innerText("#found"), "1 class");
  await page.fill("#search", "espresso");
  assert.deepEqual((await listNames(page)).sort(), ["espresso", "espresso maker"]);
  await page.fill("#search", "967");
  assert.deepEqual(await listNames(page), ["espresso"]);
  const answer = await getAnswer(page, () => page.keyboard.press("Tab").then(() => page.keyboard.press("Space")));
  assert.equal(answer.classIdx, 967);
  assert.equal(await page.inputValue("#search"), "967", "the search stays");
  assert.ok(await page.isChecked('#classes input[value="967"]'));
  await page.fill("#search", "a");
  assert.match(await page.innerText("#found"), /^The 30 likeliest of \d{3} classes$/);
  assert.equal((await listNames(page)).length, 30);
  await page.fill("#search", "unicorn");
  assert.deepEqual([await listNames(page), await page.innerText("#found")], [[], "No class has that in its name."]);
  await page.fill("#search", "");
  assert.deepEqual((await listNames(page)).slice(0, 5), top);
});

test("a network of few classes has no search", async () => {
  const { page, close } = await openPage(browser, server.url, { before: replaceModel("second.onnx") });
  await getAnswer(page, () => drop(page, "photo.jpg"));
  assert.ok(await page.isHidden("#search-row"));
  await close();
});

/** The size of a PNG, which the page decodes, and its color at a share of its width and in a row. */
function readColor(page, bytes, place) {
  return page.evaluate(async ([base64, [x, y]]) => {
    const content = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
    const bitmap = await createImageBitmap(new Blob([content], { type: "image/png" }));
    const context = Object.assign(document.createElement("canvas"), { width: bitmap.width, height: bitmap.height }).getContext("2d");
    context.drawImage(bitmap, 0, 0);
    const [column, row] = [Math.floor(x * bitmap.width), y];
    return { size: [bitmap.width, bitmap.height], color: [...context.getImageData(column, row, 1, 1).data].slice(0, 3) };
  }, [Buffer.from(bytes).toString("base64"), place]);
}

async function save(page) {
  const [download] = await Promise.all([page.waitForEvent("download"), page.click("[data-action=save]")]);
  return { name: download.suggestedFilename(), bytes: readFileSync(await download.path()) };
}

test("the saved picture is the photo under its heatmap, with the class", async () => {
  const { page } = site;
  await getAnswer(page, () => drop(page, "chelsea.png"));
  const colors = [];
  for (const strength of [10, 100]) {
    await page.locator("#strength").fill(String(strength));
    const { name, bytes } = await save(page);
    assert.equal(name, "chelsea-overlay.png");
    const { size, color } = await readColor(page, bytes, [0.5, 100]);
    assert.equal(size[0], 480, "a photo of 451 pixels is enlarged, so that its caption can be read");
    assert.ok(size[1] > 319 && size[1] < 420, `the caption is below the photo: ${size}`);
    colors.push(color);
  }
  const heatmap = await page.evaluate(() => {
    const canvas = document.getElementById("heatmap");
    const [x, y] = [Math.floor(0.5 * canvas.width), Math.floor((100 / (300 * 480 / 451)) * canvas.height)];
    return [...canvas.getContext("2d").getImageData(x, y, 1, 1).data].slice(0, 3);
  });
  assert.ok(findLargestDifference(colors[1], heatmap) < 20, `${colors[1]} is the heatmap's ${heatmap}`);
  assert.ok(findLargestDifference(colors[0], heatmap) > 40, "a weak heatmap shows the photo");
});

test("a picture is shared where the system can, and a closed window is no error", async () => {
  assert.ok(await site.page.isHidden("#share"), "this browser cannot share");
  const before = async (page) => {
    await replaceModel("second.onnx")(page);
    await page.addInitScript(() => {
      navigator.canShare = ({ files }) => files[0].type === "image/png";
      navigator.share = async ({ files }) => {
        globalThis.shared = [...(globalThis.shared ?? []), { name: files[0].name, size: files[0].size }];
        if (globalThis.shared.length > 1) throw new DOMException("closed", "AbortError");
      };
    });
  };
  const { page, seen, close } = await openPage(browser, server.url, { before });
  await getAnswer(page, () => drop(page, "coffee.png"));
  for (const count of [1, 2]) {
    await page.click("#share");
    await page.waitForFunction((wanted) => globalThis.shared?.length === wanted, count);
  }
  const [{ name, size }] = await page.evaluate(() => globalThis.shared);
  assert.equal(name, "coffee-overlay.png");
  assert.ok(size > 10_000);
  assert.ok(await page.isHidden("#alert"));
  assert.deepEqual(seen.errors, []);
  await close();
});

test("a photo without a network has no picture to save", async () => {
  const before = (page) => page.route("**/model.onnx", (route) => route.fulfill({ status: 404 }));
  const { page, close } = await openPage(browser, server.url, { before, model: "missing" });
  await page.click("#alert-close");
  assert.match(await getError(page, () => drop(page, "coffee.png")), /The photo waits for a network/);
  await page.click("#alert-close");
  assert.match(await getError(page, () => page.click("[data-action=save]")), /There is no heatmap yet/);
  await close();
});

test("a screen reader hears the class and what a search found", async () => {
  const { page } = site;
  const want = expected.photos["coffee.png"];
  const answer = await getAnswer(page, () => drop(page, "coffee.png"));
  assert.ok(findLargestDifference(answer.logits, readFloats(want.logits)) < 1e-2);
  assert.match(await page.innerText("#spoken"), /^Explained: espresso/);
  assert.equal(await page.getByRole("searchbox", { name: "Search the classes" }).count(), 1);
  assert.equal(await page.getByRole("radio", { checked: true }).count(), 1);
  for (const name of ["Save the picture", "Another photo", "Use the camera"]) {
    assert.ok(await page.getByRole("button", { name }).first().isVisible(), name);
  }
});
