/** Test the page on several hosts: without a network, without the isolating headers, compressed, with other networks. */

import assert from "node:assert/strict";
import { readFileSync, statSync, writeFileSync } from "node:fs";
import { rm } from "node:fs/promises";
import { request } from "node:http";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { brotliDecompressSync, gunzipSync } from "node:zlib";

import { expected, findLargestDifference, folder, readFloats } from "./support/expected.mjs";
import { drop, getAnswer, launch, openPage, replaceModel, serve } from "./support/browser.mjs";
import { copySite, host } from "./support/host.mjs";

const WASM = "assets/vendor/ort-wasm-simd-threaded.wasm";
const SITE = fileURLToPath(new URL("../site", import.meta.url));
const ALLOWED = { serviceWorkers: "allow" };

let browser;
let copy;

before(async () => {
  browser = await launch();
  copy = await copySite();
});

after(async () => {
  await browser?.close();
  await rm(copy, { recursive: true, force: true });
});

const listCaches = (page) => page.evaluate(async () => {
  const complete = [];
  for (const name of await caches.keys()) if (await (await caches.open(name)).match("./complete")) complete.push(name);
  return complete;
});

/** Wait until the complete copies of the page are those of one version. */
async function waitForVersion(page, version) {
  for (let tries = 0; tries < 100; tries++) {
    if (String(await listCaches(page)) === `explain-${version}`) return;
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
  assert.fail(`the copies are ${await listCaches(page)}, expected explain-${version}`);
}

async function checkPhoto(page, photo = "coffee.png") {
  const answer = await getAnswer(page, () => drop(page, photo));
  const want = expected.photos[photo];
  assert.equal(answer.classIdx, want.class_idx);
  assert.ok(findLargestDifference(answer.cam, readFloats(want.maps[want.class_idx])) < 1e-3);
}

test("the page works without its server, and a newer version replaces the copy", async () => {
  const server = await serve("--site", copy);
  const { page, seen, close } = await openPage(browser, server.url, ALLOWED);
  const siteFile = join(copy, "assets", "site.json");
  const { version } = JSON.parse(readFileSync(siteFile));
  await waitForVersion(page, version);
  await page.reload();
  await page.waitForSelector("body[data-model=ready]");
  assert.ok(await page.evaluate(() => Boolean(navigator.serviceWorker.controller)), "the worker answers now");
  await checkPhoto(page);

  writeFileSync(siteFile, JSON.stringify({ ...JSON.parse(readFileSync(siteFile)), version: "next" }));
  const index = join(copy, "index.html");
  writeFileSync(index, readFileSync(index, "utf8").replace("<title>", "<title>Next: "));
  await page.reload();
  assert.match(await page.title(), /^Next: /, "with a network, the page is the server's");
  await waitForVersion(page, "next");

  server.stop();
  await page.goto(`${server.url}?backend=wasm`);
  await page.waitForSelector("body[data-model=ready]");
  assert.match(await page.title(), /^Next: /, "without one, the page is the newest copy");
  assert.ok(await page.evaluate(() => crossOriginIsolated));
  await checkPhoto(page, "chelsea.png");
  assert.equal(await page.evaluate(() => fetch("./assets/none").then(() => "answered", () => "no network")), "no network");
  assert.deepEqual(seen.errors.filter((text) => !/ERR_(FAILED|CONNECTION_REFUSED)/.test(text)), []);
  await close();
});

test("a host without the isolating headers gets threads from the second visit on", async () => {
  const plain = await host(SITE);
  const { page, close } = await openPage(browser, plain.url, { query: "?threads=2", ...ALLOWED });
  assert.match(await page.innerText("#model-state"), /WebAssembly, 1 thread$/);
  await page.waitForFunction(() => navigator.serviceWorker.ready.then(() => true));
  await page.reload();
  await page.waitForSelector("body[data-model=ready]");
  assert.match(await page.innerText("#model-state"), /WebAssembly, 2 threads$/);
  await checkPhoto(page);
  await close();
  plain.stop();
});

test("a page uses every core, four at most", async () => {
  const server = await serve();
  for (const [cores, wanted] of [[1, "1 thread"], [2, "2 threads"], [16, "4 threads"]]) {
    const before = async (page) => {
      await replaceModel("second.onnx")(page);
      await page.addInitScript((count) => {
        Object.defineProperty(navigator, "hardwareConcurrency", { value: count });
      }, cores);
    };
    const { page, close } = await openPage(browser, server.url, { before });
    assert.ok((await page.innerText("#model-state")).endsWith(`WebAssembly, ${wanted}`));
    await close();
  }
  server.stop();
});

/** Ask for a file without decoding it. */
function ask(url, encoding) {
  return new Promise((resolve) => request(url, { headers: { "Accept-Encoding": encoding } }, async (response) => {
    const parts = [];
    for await (const part of response) parts.push(part);
    resolve({ headers: response.headers, content: Buffer.concat(parts) });
  }).end());
}

test("the server sends compressed files to browsers that read them", async (context) => {
  const server = await serve();
  const whole = readFileSync(join(SITE, WASM));
  const decoders = { "gzip, deflate, br": brotliDecompressSync, "gzip;q=0.5": gunzipSync, identity: (content) => content };
  for (const [encoding, decode] of Object.entries(decoders)) {
    const { headers, content } = await ask(server.url + WASM, encoding);
    assert.equal(headers["content-type"], "application/wasm");
    assert.equal(headers.vary, "Accept-Encoding");
    assert.equal(Number(headers["content-length"]), content.length);
    assert.ok(decode(content).equals(whole), encoding);
    context.diagnostic(`${encoding}: ${content.length} of ${whole.length} bytes`);
    if (encoding !== "identity") assert.ok(content.length < 0.3 * whole.length);
  }
  server.stop();
  for (const name of ["model.onnx", "vendor/ort-wasm-simd-threaded.wasm"]) {
    assert.ok(statSync(join(SITE, "assets", `${name}.br`)).size < statSync(join(SITE, "assets", name)).size);
  }
});

test("?model= opens a network beside the page, or from a host that allows it", async (context) => {
  const server = await serve();
  const open = await host(folder, { "Access-Control-Allow-Origin": "*", "Cross-Origin-Resource-Policy": "cross-origin" });
  const closed = await host(folder);
  const named = await openPage(browser, server.url, { query: "?backend=wasm&model=assets/model.onnx" });
  assert.match(await named.page.innerText("#model-state"), /bn2 · WebAssembly/);
  await named.close();

  const { page, seen, close } = await openPage(browser, server.url, { query: `?model=${open.url}second.onnx` });
  assert.ok((await page.innerText("#model-state")).includes(`from ${new URL(open.url).host} · WebAssembly`));
  const want = expected.second["photo.jpg"];
  const answer = await getAnswer(page, () => drop(page, "photo.jpg"));
  assert.equal(answer.classIdx, want.class_idx);
  const foreign = seen.requests.filter((url) => url.startsWith(open.url));
  assert.deepEqual(foreign, [`${open.url}second.onnx`], "one request, for the network");
  await close();

  for (const [model, message] of [
    [`${closed.url}second.onnx`, /second.onnx cannot be loaded: there is no such server, or it does not let this page/],
    [`${open.url}none.onnx`, /none.onnx cannot be loaded: its server answers 404/],
    ["assets/none.onnx", /none.onnx cannot be loaded: its server answers 404/],
    [`${open.url}text.onnx`, /text.onnx is not an ONNX model/],
    ["file:///etc/passwd", /\?model=file:\/\/\/etc\/passwd is no address that this page can load/],
  ]) {
    const refused = await openPage(browser, server.url, { query: `?model=${model}`, model: "missing" });
    assert.match(await refused.page.innerText("#alert-text"), message);
    assert.ok(await refused.page.isVisible("#example-list button"), "the rest of the page works");
    await refused.close();
  }
  for (const { stop } of [server, open, closed]) stop();
  context.diagnostic(foreign[0]);
});

test("a network that is too large is refused before it is loaded, and while it is", async () => {
  const server = await serve();
  const { page, close } = await openPage(browser, server.url, { before: replaceModel("second.onnx") });
  const message = await page.evaluate(async () => {
    const { downloadModel } = await import("./download.js");
    const sent = [];
    globalThis.fetch = async () => ({
      ok: true,
      url: "https://host/large.onnx",
      headers: new Headers(sent.length ? {} : { "Content-Length": "600000000" }),
      body: new ReadableStream({ pull: (controller) => controller.enqueue(sent[sent.push(new Uint8Array(1000)) - 1]) }),
    });
    const declared = await downloadModel("https://host/large.onnx").catch((error) => error.message);
    sent.push(null);
    const streamed = await downloadModel("https://host/large.onnx", { limit: 5000 }).catch((error) => error.message);
    return [declared, streamed, sent.length < 20];
  });
  assert.deepEqual(message, [
    "https://host/large.onnx has more than 500.0 MB, the most that this page loads.",
    "https://host/large.onnx has more than 0.0 MB, the most that this page loads.",
    true,
  ]);
  await close();
  server.stop();
});
