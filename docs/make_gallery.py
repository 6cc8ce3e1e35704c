"""Draw the gallery of methods: ``python docs/make_gallery.py`` makes the pictures that are missing and the table.

The network is EfficientNet-Lite0 with its trained weights, and the picture is half a cat and half a cup. Everything
comes from the extra ``demo``. IS-CAM, SS-CAM and RISE take fewer samples than usual: they run thousands of copies of
the image.
"""

import argparse
import re
from pathlib import Path

from PIL import Image

import explainable_model as xm
from explainable_model import METHODS
from explainable_model.demo import demo_photos, efficientnet_lite0
from explainable_model.errors import ExplainableModelError

DOCS = Path(__file__).parent
PICTURES = DOCS / "pictures" / "methods"
PAGE = DOCS / "gallery.md"
SIZE = (320, 160)
COLUMNS = 3
CLASS = "espresso"
FEWER = {"iscam": {"samples": 2}, "sscam": {"samples": 2}, "rise": {"samples": 1000}}
TABLE = re.compile(r"(?<=<!-- gallery -->\n).*(?=<!-- /gallery -->)", re.DOTALL)


def make_photo() -> Image.Image:
    """Put the left half of the cat beside the right half of the cup."""
    photo = Image.new("RGB", SIZE)
    for number, path in enumerate(demo_photos()[:2]):
        with Image.open(path) as whole:
            side = min(whole.size)
            left, top = (whole.width - side) // 2, (whole.height - side) // 2
            square = whole.convert("RGB").crop((left, top, left + side, top + side))
            photo.paste(square.resize((SIZE[1], SIZE[1])), (number * SIZE[1], 0))
    return photo


def name_of(method: str) -> str:
    """A file name without ``+``, which addresses read as a space."""
    return method.replace("+", "p")


def draw(method: str, photo: Image.Image) -> Image.Image | None:
    """Draw the overlay of a method; ``None`` where it needs another kind of network."""
    options = {"options": FEWER[method]} if method in FEWER else {}
    try:
        answer = xm.explain(photo, efficientnet_lite0(), CLASS, method=method, **options)
    except ExplainableModelError as error:
        print(f"{method}: {error}")
        return None
    return answer.overlay()


def write_table() -> str:
    """The pictures that exist, in the order of ``METHODS``."""
    drawn = [("photo", "The picture")] + [(name_of(key), f"`{key}`: {row.title}") for key, row in METHODS.items()]
    cells = [
        f"![{title.replace('`', '')}](pictures/methods/{name}.jpg)<br>{title}"
        for name, title in drawn
        if (PICTURES / f"{name}.jpg").exists()
    ]
    cells += [""] * (-len(cells) % COLUMNS)
    rows = [" | ".join(cells[start : start + COLUMNS]) for start in range(0, len(cells), COLUMNS)]
    return "\n".join(["", "| | | |", "|---|---|---|", *(f"| {row} |" for row in rows), "", ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--again", nargs="*", default=[], metavar="METHOD", help="draw these although they exist")
    again = parser.parse_args().again
    PICTURES.mkdir(parents=True, exist_ok=True)
    photo = make_photo()
    photo.save(PICTURES / "photo.jpg", quality=88)
    for number, method in enumerate(METHODS, 1):
        target = PICTURES / f"{name_of(method)}.jpg"
        if target.exists() and method not in again:
            continue
        print(f"{number}/{len(METHODS)} {method}", flush=True)
        picture = draw(method, photo)
        if picture is not None:
            picture.save(target, quality=88)
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(TABLE.sub(lambda _: write_table(), page), encoding="utf-8")


if __name__ == "__main__":
    main()
