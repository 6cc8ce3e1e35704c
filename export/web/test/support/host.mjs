/** A plain host, which sends no header of isolation; and a copy of the site that a test may change. */

import { createReadStream, existsSync } from "node:fs";
import { copyFile, mkdir, mkdtemp, readdir, symlink } from "node:fs/promises";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { extname, join } from "node:path";
import { fileURLToPath } from "node:url";

const SITE = fileURLToPath(new URL("../../site", import.meta.url));
const TYPES = {
  ".html": "text/html", ".js": "text/javascript", ".mjs": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml",
  ".json": "application/json", ".wasm": "application/wasm", ".png": "image/png",
};

/** @param {Record<string, string>} headers of every answer */
export async function host(folder, headers = {}) {
  const server = createServer((request, response) => {
    const path = new URL(request.url, "http://host").pathname;
    const file = join(folder, path.endsWith("/") ? `${path}index.html` : path);
    if (!existsSync(file)) return response.writeHead(404, headers).end();
    response.writeHead(200, { "Content-Type": TYPES[extname(file)] ?? "application/octet-stream", ...headers });
    return createReadStream(file).pipe(response);
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const stop = () => {
    server.closeAllConnections();
    server.close();
  };
  return { url: `http://127.0.0.1:${server.address().port}/`, stop };
}

/** A copy of the site whose small files are its own. */
export async function copySite() {
  const copy = await mkdtemp(join(tmpdir(), "site-"));
  await mkdir(join(copy, "assets"));
  for (const name of await readdir(SITE)) if (name !== "assets") await copyFile(join(SITE, name), join(copy, name));
  for (const name of await readdir(join(SITE, "assets"))) {
    const [from, to] = [join(SITE, "assets", name), join(copy, "assets", name)];
    await (name === "site.json" ? copyFile(from, to) : symlink(from, to));
  }
  return copy;
}
