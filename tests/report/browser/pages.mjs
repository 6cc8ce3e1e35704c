/** Opens reports in headless Chromium. */

import { createRequire } from "node:module";
import { join } from "node:path";
import { after, before } from "node:test";
import { pathToFileURL } from "node:url";
import { measureChildren } from "./processor.mjs";

const { chromium } = createRequire(new URL("../../../export/web/package.json", import.meta.url))("playwright-core");
const FOLDER = process.env.REPORTS;
const FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"];
const PATIENCE_MS = 60_000;

let browser;
before(async () => {
  browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: FLAGS });
});
after(() => browser?.close());

/** Open a report; `seen` has what it asked for and what went wrong. */
export async function open(name, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE_MS);
  const seen = { requests: [], errors: [] };
  context.on("request", (request) => seen.requests.push(request.url()));
  page.on("pageerror", (error) => seen.errors.push(error.message));
  page.on("console", (message) => ["error", "warning"].includes(message.type()) && seen.errors.push(message.text()));
  page.on("dialog", (dialog) => seen.errors.push(`dialog: ${dialog.message()}`) && dialog.dismiss());
  const before = measureChildren();
  await page.goto(pathToFileURL(join(FOLDER, name)).href);
  await page.waitForSelector("body[data-ready]");
  const seconds = measureChildren() - before;
  return { page, seen, seconds, close: () => context.close() };
}

export const said = (page) => page.innerText("#count");
