"""``python -m tests.docs.site FOLDER`` finds dead links in the built site, and requests to other hosts."""

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

FETCHED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "video": "src", "object": "data"}
NAMED_ELSEWHERE = ("canonical", "edit")  # <link> that a browser does not fetch
STYLE = re.compile(r"""(?:@import\s+|url\()\s*["']?\s*([^"')\s]+)""")
ELSEWHERE = re.compile(r"(?:[a-z][a-z+.-]*:)?//", re.IGNORECASE)


@dataclass
class Page(HTMLParser):
    """What a page names: places in it, links, and what a browser fetches."""

    places: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    fetched: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()
        self.in_style = False

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attributes}
        self.places |= {values[name] for name in ("id", "name") if name in values}
        self.in_style = tag == "style"
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        if tag == "link" and not set(values.get("rel", "").split()) & set(NAMED_ELSEWHERE):
            self.fetched.append(values.get("href", ""))
        if tag in FETCHED and values.get(FETCHED[tag]):
            self.fetched.append(values[FETCHED[tag]])
        self.fetched += STYLE.findall(values.get("style", ""))

    def handle_data(self, data: str) -> None:
        if self.in_style:
            self.fetched += STYLE.findall(data)


def read_page(path: Path) -> Page:
    page = Page()
    page.feed(path.read_text(encoding="utf-8"))
    return page


def find_problems(site: Path) -> Iterator[str]:
    """Name each dead link and each request to another host."""
    site = site.resolve()
    pages = {path: read_page(path) for path in site.rglob("*.html")}
    if not pages:
        yield f"{site} holds no page"
    for path, page in pages.items():
        for address in (*page.links, *page.fetched):
            problem = None if ELSEWHERE.match(address) else find_dead_end(address, path, site, pages)
            if problem:
                yield f"{path.relative_to(site)}: {address}: {problem}"
        for address in page.fetched:
            if ELSEWHERE.match(address):
                yield f"{path.relative_to(site)}: fetches {address}"
    for path in site.rglob("*.css"):
        for address in STYLE.findall(path.read_text(encoding="utf-8")):
            if ELSEWHERE.match(address):
                yield f"{path.relative_to(site)}: fetches {address}"


def find_dead_end(address: str, path: Path, site: Path, pages: dict[Path, Page]) -> str | None:
    """Say why an internal address leads nowhere; ``None`` where it leads somewhere."""
    if re.match(r"[a-z]+:", address):  # mailto:, data:
        return None
    file, _, place = address.partition("#")
    target = (path.parent / unquote(file.partition("?")[0])).resolve() if file else path
    if not target.is_relative_to(site) or not target.is_file():
        return "there is no such file"
    if place and target in pages and unquote(place) not in pages[target].places:
        return "there is no such place on the page"
    return None


if __name__ == "__main__":
    problems = list(find_problems(Path(sys.argv[1])))
    print(*problems, sep="\n")
    print(f"{len(problems)} problem(s)")
    sys.exit(bool(problems))
