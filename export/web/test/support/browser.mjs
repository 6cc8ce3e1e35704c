/** Run the page in headless Chromium, served as its README says, and record every request. */

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { once } from "node:events";
import { fileURLToPath } from "node:url";

import { chromium } from "playwright-core";

import { locate } from "./expected.mjs";

const SERVER = fileURLToPath(new URL("../../serve.py", import.meta.url));
const FLAGS = [
  "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync",
];
const FAKE_CAMERA = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"];
export const SOFTWARE_GPU = ["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader", "--enable-features=Vulkan"];
const PATIENCE_MS = 60_000;

/** @param {string[]} options of serve.py */
export async function serve(...options) {
  const command = [SERVER, "--port", "0", ...options];
  const server = spawn(process.env.PYTHON ?? "python3", command, { stdio: ["ignore", "pipe", "ignore"] });
  const [line] = await once(server.stdout, "data");
  return { url: String(line).trim(), stop: () => server.kill() };
}

/** Start a browser; Playwright makes a new profile for it. */
export async function launch(gpu = []) {
  const flags = gpu.length ? [...FLAGS.filter((flag) => flag !== "--disable-gpu"), ...gpu] : FLAGS;
  return chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: [...flags, ...FAKE_CAMERA],
  });
}

/** Open a page that is ready to explain; `seen` has its requests and errors so far. */
export async function openPage(browser, url, { query = "", before = async () => {}, model = "ready", ...options } = {}) {
  // A service worker would answer in place of `page.route`.
  const context = await browser.newContext({ serviceWorkers: "block", ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE_MS);
  const seen = { requests: [], errors: [] };
  context.on("request", (request) => seen.requests.push(request.url()));
  page.on("pageerror", (error) => seen.errors.push(error.message));
  page.on("console", (message) => message.type() === "error" && seen.errors.push(message.text()));
  await before(page);
  await page.addInitScript(() => {
    globalThis.answers = [];
    addEventListener("explained", ({ detail }) => globalThis.answers.push({
      classIdx: detail.classIdx, top: detail.top, box: detail.box, runMs: detail.runMs, prepareMs: detail.prepareMs,
      probabilities: detail.probabilities && detail.top.map((index) => detail.probabilities[index]),
      logits: Array.from(detail.logits ?? []), cam: Array.from(detail.cam?.values ?? []),
      size: [detail.cam?.height, detail.cam?.width], selected: detail.selected,
      boxes: detail.boxes?.map(({ box, score, classIdx }) => ({ box, score, classIdx })),
    }));
  });
  await page.goto(url + query);
  await page.waitForSelector(`body[data-model=${model}]`);
  return { page, seen, close: () => context.close() };
}

/** A function for `before` that gives the site another artifact. */
export const replaceModel = (name) => (page) => page.route("**/assets/model.onnx", (route) => route.fulfill({ path: locate(name) }));

/** Drop a file as a user does: in one event with all of its data. */
export async function drop(page, name) {
  const content = readFileSync(locate(name)).toString("base64");
  await page.evaluate(([file, base64]) => {
    const transfer = new DataTransfer();
    transfer.items.add(new File([Uint8Array.from(atob(base64), (c) => c.charCodeAt(0))], file));
    document.querySelector("main").dispatchEvent(new DragEvent("drop", { dataTransfer: transfer, bubbles: true }));
  }, [name, content]);
}

/** Do something to the page, and return its next answer. */
export async function getAnswer(page, action) {
  const before = await page.evaluate(() => globalThis.answers.length);
  await action();
  await page.waitForFunction((count) => globalThis.answers.length > count, before);
  return page.evaluate(() => globalThis.answers.at(-1));
}

/** Do something that must fail, and return the message that the page shows. */
export async function getError(page, action) {
  assert.ok(await page.isHidden("#alert"), "no message is left from before");
  await action();
  await page.waitForSelector("#alert:not([hidden])");
  return page.innerText("#alert-text");
}
