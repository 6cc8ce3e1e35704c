/** Make screenshot.png, after smoke.sh or make.py: `EXPECTED=FOLDER npm run screenshot`, with the folder of expected.py. */

import { fileURLToPath } from "node:url";

import { getAnswer, launch, openPage, serve } from "./support/browser.mjs";

const server = await serve();
const browser = await launch();
const { page } = await openPage(browser, server.url, { viewport: { width: 1200, height: 900 } });
for (let warm = 0; warm < 3; warm++) {
  await getAnswer(page, () => page.locator("#example-list button[title=chelsea]").dispatchEvent("click"));
}
await page.waitForFunction(() => document.getElementById("reveal").value === "100");
await page.locator("#reveal").fill("55");
await page.screenshot({ path: fileURLToPath(new URL("../screenshot.png", import.meta.url)) });
await browser.close();
server.stop();
