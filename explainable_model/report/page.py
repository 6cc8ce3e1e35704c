"""Joins the content with the page's own style and script."""

import base64
import hashlib
import html
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PARTS = Path(__file__).parent / "page"
SCRIPTS = ("maps.js", "boxes.js", "cards.js", "sections.js", "photos.js", "start.js")
# In a script of HTML these could end the script, or open a comment in it.
ESCAPES: dict[str, str | int | None] = {
    "<": "\\u003c",
    ">": "\\u003e",
    "&": "\\u0026",
    "\u2028": "\\u2028",
    "\u2029": "\\u2029",
}


def draw_page(content: Mapping[str, Any]) -> str:
    """Draw the page. Every text of the content reaches the document as text, and the page may load nothing.

    Args:
        content: as ``write_report`` makes it.
    """
    style = (PARTS / "page.css").read_text("utf-8")
    script = "\n".join((PARTS / name).read_text("utf-8") for name in SCRIPTS)
    policy = (
        f"default-src 'none'; img-src data: blob:; style-src {_hash(style)}; script-src {_hash(script)}; "
        "base-uri 'none'; form-action 'none'"
    )
    filled = {
        "policy": html.escape(policy),
        "title": html.escape(str(content["title"])),
        "style": style,
        "content": dump(content),
        "script": script,
    }
    page = (PARTS / "page.html").read_text("utf-8")
    pieces = page.split("@@")
    return "".join(piece if n % 2 == 0 else filled[piece] for n, piece in enumerate(pieces))


def dump(content: Mapping[str, Any]) -> str:
    """Write JSON that is safe inside of a script element."""
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.translate(str.maketrans(ESCAPES))


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
