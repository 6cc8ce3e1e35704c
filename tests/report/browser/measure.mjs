/**
 * Measure how long a report takes to open in headless Chromium: `node measure.mjs REPORT.html [PICTURES]` prints one line of
 * JSON. The seconds of the processor are those of all processes of the browser, from the empty page to the report. With a
 * folder it leaves pictures there: the top and the photos of the page, in the light and in the dark.
 */

import { readdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";

const { chromium } = createRequire(new URL("../../../export/web/package.json", import.meta.url))("playwright-core");
const [report, pictures] = process.argv.slice(2);
const ROUNDS = 3;
const FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"];
const TICKS = 100; // of Linux, in a second
const url = pathToFileURL(resolve(report)).href;

/** Parent and seconds of the processor of every process. */
function readProcesses() {
  const found = new Map();
  for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
    try {
      const fields = readFileSync(`/proc/${pid}/stat`, "utf-8").replace(/^.*\) /s, "").split(" ");
      found.set(Number(pid), { parent: Number(fields[1]), seconds: (Number(fields[11]) + Number(fields[12])) / TICKS });
    } catch {
      continue; // it has just ended
    }
  }
  return found;
}

/** The seconds of a process and of all that it started. */
function measureFamily(pid) {
  const all = readProcesses();
  const isInside = (one) => one === pid || (all.has(one) && one > 1 && isInside(all.get(one).parent));
  return [...all].filter(([one]) => isInside(one)).reduce((sum, [, { seconds }]) => sum + seconds, 0);
}

/** Open the report in a browser of its own. */
async function open(options = {}) {
  const server = await chromium.launchServer({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: FLAGS });
  const browser = await chromium.connect(server.wsEndpoint());
  const page = await (await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options })).newPage();
  page.setDefaultTimeout(300_000);
  await page.waitForTimeout(1000); // the browser has started
  const before = measureFamily(server.process().pid);
  const started = performance.now();
  await page.goto(url);
  await page.waitForSelector("body[data-ready]");
  const seconds = (performance.now() - started) / 1000;
  const cpuSeconds = measureFamily(server.process().pid) - before;
  const megabytes = await page.evaluate(() => performance.memory.usedJSHeapSize / 2 ** 20);
  return { server, page, figures: { seconds, cpu_seconds: cpuSeconds, script_megabytes: megabytes } };
}

const rounds = [];
for (let round = 0; round < ROUNDS; round++) {
  const { server, figures } = await open();
  rounds.push(figures);
  await server.close();
}
for (const colorScheme of pictures ? ["light", "dark"] : []) {
  const { server, page } = await open({ colorScheme });
  await page.screenshot({ path: join(pictures, `${colorScheme}-top.png`) });
  await page.evaluate(() => document.getElementById("photos").scrollIntoView());
  await page.waitForTimeout(1000);
  await page.screenshot({ path: join(pictures, `${colorScheme}-photos.png`) });
  await server.close();
}
const least = Object.keys(rounds[0]).map((name) => [name, Math.min(...rounds.map((round) => round[name]))]);
console.log(JSON.stringify({ ...Object.fromEntries(least), rounds: ROUNDS }));
