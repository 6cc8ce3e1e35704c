/** Test detectors on the page: each box with its own heatmap, as in Python, and the box that is tapped is explained. */

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { expected, findLargestDifference, locate, readFloats } from "./support/expected.mjs";
import { drop, getAnswer, launch, openPage, replaceModel, serve } from "./support/browser.mjs";

const TOLERANCE = 1e-3; // of maps and scores
const PIXELS = 0.1; // of edges
const PICTURES = process.env.PICTURES; // a folder for screenshots

let server;
let browser;

before(async () => {
  server = await serve();
  browser = await launch();
});

after(async () => {
  await browser?.close();
  server?.stop();
});

function checkBoxes(answer, want) {
  assert.deepEqual(answer.boxes.map((found) => found.classIdx), want.map((found) => found.class_idx));
  for (const [rank, found] of answer.boxes.entries()) {
    assert.ok(Math.abs(found.score - want[rank].score) < TOLERANCE, `score ${found.score} of box ${rank}`);
    const off = findLargestDifference(found.box, want[rank].box);
    assert.ok(off < PIXELS, `box ${rank} is off by ${off} pixels`);
  }
}

function checkMap(answer, want, rank) {
  assert.equal(answer.selected, rank);
  assert.deepEqual(answer.size, want[rank].size);
  const off = findLargestDifference(answer.cam, readFloats(want[rank].map));
  assert.ok(off < TOLERANCE, `the map of box ${rank} differs by ${off}`);
}

/** Whether a box of the page lies where the answer says. */
async function checkPlace(page, rank, box) {
  const places = await page.evaluate((wanted) => {
    const photo = document.getElementById("photo").getBoundingClientRect();
    const found = document.querySelector(`.found[data-rank="${wanted}"]`).getBoundingClientRect();
    const natural = document.getElementById("photo").naturalWidth;
    const scale = natural / photo.width;
    return [(found.left - photo.left) * scale, (found.top - photo.top) * scale, (found.right - photo.left) * scale,
      (found.bottom - photo.top) * scale];
  }, rank);
  assert.ok(findLargestDifference(places, box) < 2, `${places} instead of ${box}`);
}

for (const [artifact, photos] of Object.entries(expected.boxes)) {
  test(`${artifact}: the boxes of each photo, and the map of the box that is tapped`, async (context) => {
    const { page, seen, close } = await openPage(browser, server.url, { before: replaceModel(artifact) });
    for (const [photo, want] of Object.entries(photos)) {
      const answer = await getAnswer(page, () => drop(page, photo));
      checkBoxes(answer, want);
      assert.equal(await page.locator(".found").count(), want.length);
      assert.equal(await page.isVisible("#reveal"), false);
      if (!want.length) {
        assert.match(await page.innerText("#classes"), /finds nothing that it knows/);
        assert.equal(await page.isVisible("#heatmap"), false);
        continue;
      }
      checkMap(answer, want, 0);
      for (let rank = want.length - 1; rank >= 0; rank--) {
        await checkPlace(page, rank, want[rank].box);
        const tapped = await getAnswer(page, () => page.locator(`.found[data-rank="${rank}"]`).click());
        checkMap(tapped, want, rank);
        assert.equal(tapped.runMs, answer.runMs, "the network runs once for a photo");
        assert.equal(await page.getAttribute(`.found[data-rank="${rank}"]`, "aria-pressed"), "true");
        assert.equal(await page.inputValue("#classes :checked"), String(rank));
      }
      context.diagnostic(`${photo}: ${want.length} boxes, ${Math.round(answer.runMs)} ms`);
      if (PICTURES) await page.screenshot({ path: `${PICTURES}/${artifact}-${photo}` });
    }
    assert.deepEqual(seen.errors, []);
    await close();
  });
}

test("boxes are chosen in the list, by keyboard, and are gone with the next network", async () => {
  const { page, close } = await openPage(browser, server.url, { before: replaceModel("cells.onnx") });
  const want = expected.boxes["cells.onnx"]["squares.png"];
  await getAnswer(page, () => drop(page, "squares.png"));
  assert.match(await page.innerText("#classes label:first-child"), /^green\s*\d+ %/);
  await page.focus("#classes :checked");
  checkMap(await getAnswer(page, () => page.keyboard.press("ArrowDown")), want, 1);
  await page.waitForFunction(() => document.activeElement.value === "1");
  await page.focus('.found[data-rank="2"]');
  checkMap(await getAnswer(page, () => page.keyboard.press("Enter")), want, 2);
  await page.waitForFunction(() => document.activeElement.dataset.rank === "2");
  const saved = page.waitForEvent("download");
  await page.click("[data-action=save]");
  assert.equal((await saved).suggestedFilename(), "squares-overlay.png");
  const classes = await getAnswer(page, () => page.setInputFiles("#model-file", locate("second.onnx")));
  assert.equal(classes.boxes, undefined);
  assert.equal(await page.locator(".found").count(), 0);
  await close();
});

test("a detector whose boxes are not the recorded ones is refused", async () => {
  const { page, close } = await openPage(browser, server.url);
  await drop(page, "moved.onnx");
  await page.waitForSelector("#alert:not([hidden])");
  assert.match(await page.innerText("#alert-text"), /moved.onnx does not run here.*boxes and scores differ by/);
  await close();
});
