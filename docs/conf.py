"""Sphinx: the site of the documentation. The sources are the repository's own pages, so that they read on GitHub too.

``sphinx-build -W -c docs . build/site`` makes it, without network.
"""

import os
import re
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx import addnodes

ROOT = Path(__file__).parent.parent
# Docstrings and notebooks are those of this checkout, installed or not.
sys.path.insert(0, str(ROOT))
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
SOURCE = f"{PROJECT['urls']['Source']}/blob/main/"
# The pages of each part, in their order. The last part gets every other page of docs/, so that none is lost.
PARTS = {
    "Start": (
        "docs/first-hour",
        "docs/use",
        "docs/from-hooks",
        "docs/choose",
        "docs/gallery",
        "docs/tasks",
        "docs/detection",
    ),
    "Examples": (
        "examples/README",
        "examples/xray/README",
        "examples/detector/README",
        "examples/notebooks/*",
        "docs/medical",
    ),
    "Run": (
        "docs/formats",
        "docs/onnx",
        "docs/precision",
        "docs/photos",
        "docs/cli",
        "docs/deploy",
        "docs/rolling",
        "docs/batch",
        "docs/report",
        "docs/scale",
    ),
    "Kits": ("export/README", "export/*/README"),
    "Understand": (
        "docs/how-it-works",
        "docs/methods",
        "docs/targets",
        "docs/evaluation",
        "explainable_model/methods/README",
    ),
    "Help": ("docs/troubleshooting", "docs/faq", "docs/privacy", "SECURITY"),
    "Reference": ("docs/api", "CHANGELOG"),
    "Develop": ("CONTRIBUTING", "benchmarks/README", "benchmarks/results/*", "CODE_OF_CONDUCT"),
    "More": ("docs/*",),
}

project = PROJECT["name"].replace("-", "_")
author = PROJECT["authors"][0]["name"]
copyright = author
release = PROJECT["version"]

root_doc = "docs/README"
include_patterns = [
    "docs/*.md", "examples/*.md", "examples/xray/*.md", "examples/detector/*.md", "examples/notebooks/*.ipynb",
    "export/README.md",
    "export/*/README.md", "benchmarks/README.md", "benchmarks/results/*.md", "explainable_model/methods/README.md",
    "CHANGELOG.md", "CODE_OF_CONDUCT.md", "CONTRIBUTING.md", "SECURITY.md",
]  # fmt: skip
extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon", "myst_nb"]

myst_heading_anchors = 4
myst_enable_extensions = ["attrs_inline"]
nb_execution_mode = "force"
nb_execution_timeout = 300  # a loaded machine
nb_execution_raise_on_error = True
nb_execution_in_temp = True
nb_merge_streams = True
nb_output_stderr = "remove"  # tqdm asks for widgets there, and names a folder of the machine
suppress_warnings = ["misc.highlighting_failure"]

autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_member_order = "bysource"
python_use_unqualified_type_names = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True

html_theme = "furo"
html_title = project
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_extra_path = ["_start"]
html_show_sphinx = False
html_copy_source = False
html_theme_options = {"source_repository": PROJECT["urls"]["Source"], "source_branch": "main", "source_directory": ""}


def add_navigation(app: Any, name: str, source: list[str]) -> None:
    """Append the table of contents to the first page, which would show it as code on GitHub."""
    if name != root_doc:
        return
    named: set[str] = {root_doc}
    for part, patterns in PARTS.items():
        pages = [page for pattern in patterns for page in list_pages(app, pattern) if page not in named]
        named.update(pages)
        if pages:
            entries = "\n".join(f"/{page}" for page in pages)
            source[0] += f"\n```{{toctree}}\n:hidden:\n:caption: {part}\n\n{entries}\n```\n"


def list_pages(app: Any, pattern: str) -> Sequence[str]:
    wanted = re.compile(re.escape(pattern).replace(r"\*", "[^/]+"))
    return sorted(page for page in app.env.found_docs if wanted.fullmatch(page))


def link_to_sources(app: Any, tree: nodes.document) -> None:
    """Point links at files and folders that are no pages of the site to the repository."""
    folder = (ROOT / app.env.doc2path(app.env.docname, base=False)).parent
    for link in (*tree.findall(addnodes.pending_xref), *tree.findall(addnodes.download_reference)):
        if link.get("reftype") != "myst" or link["reftarget"] in app.env.found_docs:
            continue
        is_page = link.get("refdomain") == "doc"
        file = ROOT / f"{link['reftarget']}.md" if is_page else (folder / link["reftarget"].partition("#")[0]).resolve()
        if file.exists() and link["reftarget"]:
            link.replace_self(nodes.reference("", "", *link.children, refuri=SOURCE + str(file.relative_to(ROOT))))


def setup(app: Any) -> None:
    app.connect("source-read", add_navigation)
    app.connect("doctree-read", link_to_sources)
