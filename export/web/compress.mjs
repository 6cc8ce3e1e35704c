/** Write FILE.br and FILE.gz beside each file, for servers that send compressed files as they are. */

import { readFile, stat, writeFile } from "node:fs/promises";
import { promisify } from "node:util";
import { brotliCompress, constants, gzip } from "node:zlib";

const QUALITY = 6; // a second or two for onnxruntime-web; 11 takes a minute and saves 4 % of it more
const compressions = {
  ".br": (content) => promisify(brotliCompress)(content, {
    params: { [constants.BROTLI_PARAM_QUALITY]: QUALITY, [constants.BROTLI_PARAM_SIZE_HINT]: content.length },
  }),
  ".gz": (content) => promisify(gzip)(content, { level: QUALITY }),
};

for (const file of process.argv.slice(2)) {
  for (const [ending, compress] of Object.entries(compressions)) {
    const made = await stat(file + ending).catch(() => null);
    if (made && made.mtimeMs >= (await stat(file)).mtimeMs) continue;
    await writeFile(file + ending, await compress(await readFile(file)));
  }
}
