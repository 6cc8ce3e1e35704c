/** Keep the page for a visit without a network. */

/**
 * Ask the service worker to keep the files that this visit loaded.
 *
 * @param {string} version of the site, from make.py
 */
export async function keepOffline(version) {
  if (!navigator.serviceWorker) return; // pages of http:// other than localhost have none
  await navigator.serviceWorker.register("./sw.js", { updateViaCache: "none" });
  const { active } = await navigator.serviceWorker.ready;
  const scope = new URL("./", location.href).href;
  const loaded = performance.getEntriesByType("resource").map(({ name }) => name.split("#")[0]);
  const urls = new Set([scope, `${scope}icon.svg`, ...loaded.filter((url) => url.startsWith(scope))]);
  active.postMessage({ version, urls: [...urls] });
}
