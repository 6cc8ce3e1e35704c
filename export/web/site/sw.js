/**
 * The service worker: the page works without a network, and on several threads from any host.
 *
 * With a network, every file comes from the network. Without one, all files come from the last complete copy, which
 * has the version of make.py in its name.
 */

const PREFIX = "explain-";
const COMPLETE = "./complete"; // the entry that is written last
const PATIENCE_MS = 5000; // for a network that does not answer
const ISOLATION = { "Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp" };

addEventListener("install", () => skipWaiting());
addEventListener("message", (event) => event.waitUntil(keep(event.data)));
addEventListener("fetch", (event) => {
  const { method, url } = event.request;
  if (method === "GET" && url.startsWith(registration.scope)) event.respondWith(answer(event.request));
});

/** Copy the files of a version, then drop the copies of other versions. */
async function keep({ version, urls }) {
  const cache = await caches.open(PREFIX + version);
  for (const url of urls) {
    if (await cache.match(url)) continue;
    const response = await fetch(url, { cache: "force-cache" }); // the page has just loaded it
    if (!response.ok) return;
    await cache.put(url, response);
  }
  await cache.put(COMPLETE, new Response());
  const names = await caches.keys();
  await Promise.all(names.filter((name) => name.startsWith(PREFIX) && name !== PREFIX + version)
    .map((name) => caches.delete(name)));
}

async function findKept(request) {
  for (const name of await caches.keys()) {
    if (!name.startsWith(PREFIX)) continue;
    const cache = await caches.open(name);
    if (!(await cache.match(COMPLETE))) continue;
    const kept = await cache.match(request, { ignoreSearch: request.mode === "navigate" });
    if (kept) return kept;
  }
  return null;
}

async function answer(request) {
  const kept = await findKept(request);
  try {
    const response = await (kept ? withinPatience(fetch(request)) : fetch(request));
    return isolate(kept && response.status >= 500 ? kept : response);
  } catch (error) {
    if (kept) return isolate(kept);
    throw error;
  }
}

function withinPatience(promise) {
  const late = new Promise((_, reject) => setTimeout(reject, PATIENCE_MS, new Error("late")));
  return Promise.race([promise, late]);
}

/** Add the headers of cross-origin isolation where the host does not send them: threads need them. */
function isolate(response) {
  if (response.type !== "basic" && response.type !== "default") return response;
  if (response.headers.has("Cross-Origin-Embedder-Policy") || response.redirected) return response;
  const headers = new Headers(response.headers);
  for (const [name, value] of Object.entries(ISOLATION)) headers.set(name, value);
  return new Response(response.body, { status: response.status, statusText: response.statusText, headers });
}
