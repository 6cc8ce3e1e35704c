/**
 * Measure how long a report takes to open in headless Chromium: `node measure.mjs REPORT.html [PICTURES]` prints one line of
 * JSON. The seconds of the processor are those of all processes of the browser, from the empty page to the report. With a
 * folder it leaves pictures there: the top and the photos of the page, in the light and in the dark.
 */

import { createRequire } from "node:module";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { measureChildren } from "./processor.mjs";

const { chromium } = createRequire(new URL("../../../export/web/package.json", import.meta.url))("playwright-core");
const [report, pictures] = process.argv.slice(2);
const ROUNDS = 3;
const FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"];
const url = pathToFileURL(resolve(report)).href;

/** Open the report in a browser of its own. */
async function open(options = {}) {
  const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: FLAGS });
  const page = await (await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options })).newPage();
  page.setDefaultTimeout(300_000);
  await page.waitForTimeout(1000); // the browser has started
  const before = measureChildren();
  const started = performance.now();
  await page.goto(url);
  await page.waitForSelector("body[data-ready]");
  const seconds = (performance.now() - started) / 1000;
  const cpuSeconds = measureChildren() - before;
  const megabytes = await page.evaluate(() => performance.memory.usedJSHeapSize / 2 ** 20);
  return { browser, page, figures: { seconds, cpu_seconds: cpuSeconds, script_megabytes: megabytes } };
}

const rounds = [];
for (let round = 0; round < ROUNDS; round++) {
  const { browser, figures } = await open();
  rounds.push(figures);
  await browser.close();
}
for (const colorScheme of pictures ? ["light", "dark"] : []) {
  const { browser, page } = await open({ colorScheme });
  await page.screenshot({ path: join(pictures, `${colorScheme}-top.png`) });
  await page.evaluate(() => document.getElementById("photos").scrollIntoView());
  await page.waitForTimeout(1000);
  await page.screenshot({ path: join(pictures, `${colorScheme}-photos.png`) });
  await browser.close();
}
const least = Object.keys(rounds[0]).map((name) => [name, Math.min(...rounds.map((round) => round[name]))]);
console.log(JSON.stringify({ ...Object.fromEntries(least), rounds: ROUNDS }));
