"""Serve the page on loopback, with the headers that let WebAssembly use threads, and the compressed files of make.py.

python export/web/serve.py [--port 8080] [--site FOLDER]
"""

import argparse
import io
import re
import sys
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import BinaryIO

SITE = Path(__file__).parent / "site"
ENCODINGS = {"br": ".br", "gzip": ".gz"}  # the best first


class IsolatedHandler(SimpleHTTPRequestHandler):
    """Adds the headers of cross-origin isolation, without which WebAssembly runs on one thread."""

    extensions_map = {**SimpleHTTPRequestHandler.extensions_map, ".mjs": "text/javascript", ".wasm": "application/wasm"}  # noqa: RUF012
    encoding: str | None = None

    def send_head(self) -> io.BytesIO | BinaryIO | None:
        """Send the compressed file where there is one that the browser reads."""
        self.encoding = None
        file = Path(super().translate_path(self.path))
        if file.is_file():
            accepted = re.findall(r"[a-z]+", self.headers.get("Accept-Encoding", "").lower())
            made = (name for name, ending in ENCODINGS.items() if name in accepted and self._is_current(file, ending))
            self.encoding = next(made, None)
        return super().send_head()

    @staticmethod
    def _is_current(file: Path, ending: str) -> bool:
        compressed = file.with_name(file.name + ending)
        return compressed.is_file() and compressed.stat().st_mtime >= file.stat().st_mtime

    def translate_path(self, path: str) -> str:
        return super().translate_path(path) + ENCODINGS.get(self.encoding or "", "")

    def guess_type(self, path: str) -> str:  # type: ignore[override]
        return super().guess_type(path.removesuffix(ENCODINGS.get(self.encoding or "", "")))

    def end_headers(self) -> None:
        if self.encoding:
            self.send_header("Content-Encoding", self.encoding)
        self.send_header("Vary", "Accept-Encoding")
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        self.send_header("Cache-Control", "no-cache")  # the browser asks each time; an unchanged file is not sent again
        super().end_headers()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=8080, help="0 takes a free one")
    parser.add_argument("--site", type=Path, default=SITE, help="another copy of the folder site")
    arguments = parser.parse_args()
    handler = partial(IsolatedHandler, directory=str(arguments.site))
    server = ThreadingHTTPServer(("127.0.0.1", arguments.port), handler)
    sys.stdout.write(f"http://127.0.0.1:{server.server_port}/\n")
    sys.stdout.flush()
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        server.server_close()


if __name__ == "__main__":
    main()
