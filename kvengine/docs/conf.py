"""How Sphinx makes static HTML, with a search, of the documents and of the docstrings.

The source is the whole repository, so that the links between documents work there and here:
``sphinx-build -W -c kvengine/docs . build/docs``.
"""

import posixpath
import re
from pathlib import Path
from typing import Any

import kvengine

project = "kvengine"
version = release = kvengine.__version__
author = copyright = "the kvengine authors"  # noqa: A001

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
root_doc = "kvengine/docs/index"
include_patterns = [
    "README.md",
    "CHANGELOG.md",
    "kvengine/**.md",
    "kvengine/docs/reference/*.rst",
    "benchmarks/README.md",
    "benchmarks/results/published/*.md",
    "tests/README.md",
]
exclude_patterns = ["build", ".*", "**/node_modules", "**/__pycache__"]

html_theme = "furo"
html_title = f"kvengine {version}"
html_show_copyright = False
html_show_sourcelink = False
html_copy_source = False
highlight_language = "text"
default_role = "code"  # one backquote in a docstring is enough
myst_heading_anchors = 4  # for links such as limits.md#the-log
suppress_warnings = [
    "misc.highlighting_failure",  # blocks of bytes in hex, and JSON with a checksum behind it
    "ref.python",  # kvengine.Edge and kvengine.aio.Edge are both called Edge in docstrings
    "toc.not_included",  # results of benchmarks are not in the sidebar
]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_default_options = {"members": True, "inherited-members": True}
maximum_signature_line_length = 140


def setup(app: Any) -> None:
    """Be called by Sphinx."""
    app.connect("source-read", _add_sidebar)
    app.connect("autodoc-skip-member", _skip)
    app.connect("build-finished", _lead_to_the_index)


def _add_sidebar(_app: Any, page: str, source: list[str]) -> None:
    """Make a sidebar of the headings and links of the index, which stays readable elsewhere."""
    if page != root_doc:
        return
    folder = posixpath.dirname(root_doc)
    for section in re.split(r"^## ", source[0], flags=re.MULTILINE)[1:]:
        heading = section.partition("\n")[0]
        links = re.findall(r"\]\(([^)#]+)\.(?:md|rst)\)", section)
        entries = [posixpath.relpath(posixpath.join(folder, link), folder) for link in links]
        if entries:
            tree = "\n".join(entries)
            source[0] += f"\n```{{toctree}}\n:hidden:\n:caption: {heading}\n\n{tree}\n```\n"


def _skip(_app: Any, _what: str, _name: str, member: Any, _skips: bool, _options: Any) -> Any:
    """Leave out what every named tuple has; None: autodoc decides."""
    return True if member in (tuple.count, tuple.index) else None


def _lead_to_the_index(app: Any, exception: Exception | None) -> None:
    """Let build/docs/index.html lead to the index, which lies deeper."""
    if exception is None and app.builder.format == "html":
        target = f"{root_doc}.html"
        page = f'<!doctype html><meta http-equiv="refresh" content="0; url={target}">\n'
        (Path(app.outdir) / "index.html").write_text(page)
