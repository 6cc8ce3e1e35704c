/** Test the page in headless Chromium: its answers for dropped photos equal the network's in Python. */

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { expected, readFloats, findLargestDifference, locate } from "./support/expected.mjs";
import { SOFTWARE_GPU, getAnswer, drop, getError, launch, openPage, serve, replaceModel } from "./support/browser.mjs";

const MAP_TOLERANCE = 1e-3; // of a map in [0, 1]
const LOGIT_TOLERANCE = 1e-3; // of the largest logit

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

function checkAnswer(answer, want, classIdx, context) {
  assert.equal(answer.classIdx, Number(classIdx));
  assert.deepEqual(answer.top, want.top);
  const logits = readFloats(want.logits);
  assert.ok(readFloats(want.maps[classIdx]).some((value) => value > 0.5), "the map to compare with is not empty");
  const scale = logits.reduce((a, b) => Math.max(a, Math.abs(b)), 0);
  const off = {
    map: findLargestDifference(answer.cam, readFloats(want.maps[classIdx])),
    logits: findLargestDifference(answer.logits, logits) / scale,
  };
  context.diagnostic(`class ${classIdx}: map ${off.map.toExponential(1)}, logits ${off.logits.toExponential(1)}`);
  assert.ok(off.map <= MAP_TOLERANCE, `the map differs by ${off.map}`);
  assert.ok(off.logits <= LOGIT_TOLERANCE, `the logits differ by ${off.logits} of the largest`);
}

for (const [photo, want] of Object.entries(expected.photos)) {
  test(`${photo} is explained as in Python`, async (context) => {
    const answer = await getAnswer(site.page, () => drop(site.page, photo));
    checkAnswer(answer, want, want.class_idx, context);
    assert.ok(findLargestDifference(answer.probabilities, want.probabilities) < MAP_TOLERANCE);
  });
}

test("another class of the top five has another map", async (context) => {
  const { page } = site;
  const want = expected.photos["chelsea.png"];
  const first = await getAnswer(page, () => drop(page, "chelsea.png"));
  for (const classIdx of want.top.slice(1, 4)) {
    const answer = await getAnswer(page, () => page.locator(`#classes input[value="${classIdx}"]`).check({ force: true }));
    checkAnswer(answer, want, classIdx, context);
    assert.ok(findLargestDifference(answer.cam, first.cam) > 0.05, "the map is another one");
  }
});

test("the page shows the computed answer", async () => {
  const { page } = site;
  await getAnswer(page, () => drop(page, "coffee.png"));
  assert.match(await page.innerText("#classes label:first-child"), /^espresso\s*90 %/);
  assert.match(await page.innerText("#latency"), /^\d+$/);
  assert.ok((await page.evaluate(() => globalThis.answers.at(-1).runMs)) > 0);
  await page.waitForFunction(() => document.getElementById("reveal").value === "100");
  const covered = await page.evaluate(() => {
    const [photo, heatmap] = ["photo", "heatmap"].map((id) => document.getElementById(id).getBoundingClientRect());
    return ["left", "top", "width", "height"].every((side) => Math.abs(photo[side] - heatmap[side]) < 1);
  });
  assert.ok(covered, "the heatmap lies over the whole photo");
  const [hottest, coldest] = await page.evaluate(() => {
    const { cam, size: [, width] } = globalThis.answers.at(-1);
    const context = document.getElementById("heatmap").getContext("2d");
    const at = (n) => [...context.getImageData(n % width, Math.floor(n / width), 1, 1).data];
    return [at(cam.indexOf(Math.max(...cam))), at(cam.indexOf(Math.min(...cam)))];
  });
  assert.ok(hottest[0] > 100 && hottest[2] < 60, `hottest is red: ${hottest}`);
  assert.ok(coldest[0] < 80 && coldest[1] < 60, `coldest is dark: ${coldest}`);
});

test("classes are chosen by keyboard, and the focus stays", async () => {
  const { page } = site;
  const first = await getAnswer(page, () => drop(page, "chelsea.png"));
  await page.focus("#classes :checked");
  for (const place of [1, 2]) {
    const answer = await getAnswer(page, () => page.keyboard.press("ArrowDown"));
    assert.equal(answer.classIdx, first.top[place]);
    await page.waitForFunction((value) => document.activeElement.value === value, String(answer.classIdx));
  }
});

test("the divider follows the pointer and the keyboard", async () => {
  const { page } = site;
  const box = await page.locator("#picture").boundingBox();
  await page.mouse.click(box.x + 0.25 * box.width, box.y + 10);
  assert.ok(Math.abs(Number(await page.inputValue("#reveal")) - 25) < 2);
  await page.locator("#reveal").press("End");
  assert.equal(await page.inputValue("#reveal"), "100");
});

for (const [file, message] of [
  ["text.jpg", /text.jpg cannot be read: it is damaged, or not a picture/],
  ["truncated.jpg", /truncated.jpg cannot be read: it is damaged/],
  ["truncated.png", /truncated.png cannot be read: it is damaged/],
  ["empty.png", /empty.png is empty/],
  ["huge.png", /huge.png has 12000 × 12000 pixels; expected at most 100 million/],
  ["text.onnx", /text.onnx is not an ONNX model, or it is damaged/],
  ["foreign.onnx", /foreign.onnx is an ONNX model without the record/],
  ["wrong.onnx", /wrong.onnx does not run here. WebAssembly was not used: the heatmap differs by/],
  ["newer.onnx", /schema 99; this page expects up to 1/],
]) {
  test(`${file} is refused in place, and the next photo works`, async (context) => {
    const { page } = site;
    assert.match(await getError(page, () => drop(page, file)), message);
    const want = expected.photos["chelsea.png"];
    const answer = await getAnswer(page, () => drop(page, "chelsea.png"));
    checkAnswer(answer, want, want.class_idx, context);
    assert.ok(await page.isHidden("#alert"), "the message is gone");
  });
}

test("a chosen file and an example are explained too", async () => {
  const { page } = site;
  const chosen = await getAnswer(page, () => page.setInputFiles("#file", locate("gray.png")));
  assert.equal(chosen.classIdx, expected.photos["gray.png"].class_idx);
  await page.reload();
  const example = await getAnswer(page, () => page.click("#example-list button[title=coffee]"));
  assert.equal(example.classIdx, expected.photos["coffee.png"].class_idx);
});

test("the camera's picture is explained", async () => {
  const { page } = site;
  await page.click(".result [data-action=camera]");
  await page.waitForSelector("body[data-state=camera]");
  const answer = await getAnswer(page, () => page.click("[data-action=shoot]"));
  assert.equal(answer.top.length, 5);
  assert.equal(await page.evaluate(() => document.getElementById("video").srcObject), null, "the camera is off");
});

test("a site that is not complete says so, and where the files come from", async () => {
  const before = (page) => page.route("**/site.json", (route) => route.fulfill({ status: 404 }));
  const { page, close } = await openPage(browser, server.url, { before, model: "missing" });
  await page.waitForSelector("#alert:not([hidden])");
  assert.match(await page.innerText("#alert-text"), /site.json cannot be loaded \(404\): make.py/);
  await close();
});

test("another artifact: gray, cropped, without names", async (context) => {
  const { page, close } = await openPage(browser, server.url);
  await drop(page, "second.onnx");
  await page.waitForFunction(() => /OnnxNetwork/.test(document.getElementById("model-state").textContent));
  for (const [photo, want] of Object.entries(expected.second)) {
    const answer = await getAnswer(page, () => drop(page, photo));
    checkAnswer(answer, want, want.class_idx, context);
    assert.deepEqual(answer.size, [48, 40]);
  }
  assert.match(await page.innerText("#classes label:first-child"), /^class \d\s*\d+/);
  await close();
});

for (const pixels of ["NCHW", "NHWC"]) {
  test(`an artifact that takes photos itself, ${pixels}`, async (context) => {
    const { page, close } = await openPage(browser, server.url);
    await drop(page, `${pixels}.onnx`);
    await page.waitForFunction(() => /Sequential/.test(document.getElementById("model-state").textContent));
    for (const [photo, want] of Object.entries(expected[pixels])) {
      const answer = await getAnswer(page, () => drop(page, photo));
      checkAnswer(answer, want, want.class_idx, context);
      assert.deepEqual(answer.size, want.size);
    }
    await close();
  });
}

async function explainSecond(page, context) {
  const want = expected.second["photo.jpg"];
  checkAnswer(await getAnswer(page, () => drop(page, "photo.jpg")), want, want.class_idx, context);
  return page.innerText("#model-state");
}

test("WebAssembly runs on several threads, and on one without the isolating headers", async (context) => {
  const query = "?backend=wasm&threads=2";
  const isolated = await openPage(browser, server.url, { query, before: replaceModel("second.onnx") });
  assert.match(await explainSecond(isolated.page, context), /WebAssembly, 2 threads$/);
  await isolated.close();
  const before = async (page) => {
    await replaceModel("second.onnx")(page);
    await page.route(`${server.url}?*`, async (route) => {
      const { "cross-origin-opener-policy": opener, ...headers } = (await route.fetch()).headers();
      assert.equal(opener, "same-origin");
      await route.fulfill({ response: await route.fetch(), headers });
    });
  };
  const plain = await openPage(browser, server.url, { query, before });
  assert.equal(await plain.page.evaluate(() => crossOriginIsolated), false);
  assert.match(await explainSecond(plain.page, context), /WebAssembly, 1 thread$/);
  await plain.close();
});

test("WebGPU that fails is replaced by WebAssembly, and the page says so", async (context) => {
  const before = async (page) => {
    await replaceModel("second.onnx")(page);
    await page.addInitScript(() => {
      GPU.prototype.requestAdapter = async () => ({
        info: {},
        features: new Set(),
        limits: {},
        requestDevice: async () => { throw new Error("no device"); },
      });
    });
  };
  const { page, close } = await openPage(browser, server.url, { before });
  assert.match(await explainSecond(page, context), /WebAssembly, .* · WebGPU was not used: it does not start\.$/);
  await close();
});

test("WebGPU answers as Python does, on an emulated graphics card", async (context) => {
  const emulated = await launch(SOFTWARE_GPU);
  const { page } = await openPage(emulated, server.url, { query: "?backend=webgpu", before: replaceModel("second.onnx") });
  assert.match(await explainSecond(page, context), /WebGPU$/);
  await emulated.close();
});

test("nothing leaves the browser", async () => {
  const { page, seen, close } = await openPage(browser, server.url);
  const loaded = seen.requests.length;
  assert.ok(loaded > 10, "the page and its files were requested");
  await getAnswer(page, () => drop(page, "chelsea.png"));
  await getAnswer(page, () => page.locator("#classes input").nth(1).check({ force: true }));
  const later = seen.requests.slice(loaded).filter((url) => !url.startsWith("blob:"));
  assert.deepEqual(later, [], "explaining asks for nothing");
  const foreign = seen.requests.filter((url) => !url.startsWith(server.url) && !url.startsWith(`blob:${server.url}`));
  assert.deepEqual(foreign, [], "loading asks for nothing elsewhere");
  const escaped = await page.evaluate(() => fetch("https://example.invalid/").then(() => "sent", () => "stopped"));
  assert.equal(escaped, "stopped");
  assert.ok(seen.errors.some((text) => /Content Security Policy/.test(text)), "the page's own policy stops it");
  await close();
});

test("the pages so far had no errors but those shown", () => {
  assert.deepEqual(site.seen.errors.filter((text) => !/ERR_FILE_NOT_FOUND/.test(text)), []);
});
