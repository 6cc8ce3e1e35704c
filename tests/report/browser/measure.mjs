/**
 * Measure how long a report takes to open in headless Chromium: `node measure.mjs REPORT.html [PICTURES]` prints one line of
 * JSON. With a folder it leaves pictures there: the top and the photos of the page, in the light and in the dark.
 */

import { createRequire } from "node:module";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";

const { chromium } = createRequire(new URL("../../../export/web/package.json", import.meta.url))("playwright-core");
const [report, pictures] = process.argv.slice(2);
const ROUNDS = 3;
const FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"];
const url = pathToFileURL(resolve(report)).href;

/** Open the report in a browser of its own. */
async function open(options = {}) {
  const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: FLAGS });
  const page = await (await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options })).newPage();
  page.setDefaultTimeout(120_000);
  const session = await page.context().newCDPSession(page);
  await session.send("Performance.enable");
  const started = performance.now();
  await page.goto(url);
  await page.waitForSelector("body[data-ready]");
  const seconds = (performance.now() - started) / 1000;
  const { metrics } = await session.send("Performance.getMetrics");
  const found = Object.fromEntries(metrics.map(({ name, value }) => [name, value]));
  return { browser, page, seconds, cpuSeconds: found.TaskDuration, megabytes: found.JSHeapUsedSize / 2 ** 20 };
}

const rounds = [];
for (let round = 0; round < ROUNDS; round++) {
  const { browser, seconds, cpuSeconds, megabytes } = await open();
  rounds.push({ seconds, cpuSeconds, megabytes });
  await browser.close();
}
for (const colorScheme of pictures ? ["light", "dark"] : []) {
  const { browser, page } = await open({ colorScheme });
  await page.screenshot({ path: join(pictures, `${colorScheme}-top.png`) });
  await page.locator("#photos").scrollIntoViewIfNeeded();
  await page.evaluate(() => document.getElementById("photos").scrollIntoView());
  await page.waitForTimeout(1000);
  await page.screenshot({ path: join(pictures, `${colorScheme}-photos.png`) });
  await browser.close();
}
const least = (name) => Math.min(...rounds.map((round) => round[name]));
console.log(JSON.stringify({ seconds: least("seconds"), cpu_seconds: least("cpuSeconds"), script_megabytes: least("megabytes"), rounds: ROUNDS }));
