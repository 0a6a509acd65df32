"""The documents and the reference as static HTML: every name, no warning, a search."""

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from tests.docs.pages import DOCS, ROOT

MODULES = ("kvengine", "kvengine.aio", "kvengine.testing")
PUBLIC = [f"{module}.{name}" for module in MODULES for name in import_module(module).__all__]
NAMES = sorted(set(PUBLIC) - {"kvengine.__version__"})


def test_the_reference_has_every_public_name_once() -> None:
    lines = [
        line.split(":: ")[1]
        for page in (DOCS / "reference").glob("*.rst")
        for line in page.read_text().splitlines()
        if line.startswith(".. auto")
    ]
    assert sorted(lines) == NAMES


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder in which Sphinx made the pages, with every warning an error."""
    for needed in ("sphinx", "myst_parser", "furo"):
        pytest.importorskip(needed, reason="no Sphinx: pip install 'kvengine[docs]'")
    made = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-W", "-q", "-c", str(DOCS), str(ROOT), str(made)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return made


def test_pages_are_made_without_a_warning_and_can_be_searched(site: Path) -> None:
    start = (site / "index.html").read_text()
    assert "url=kvengine/docs/index.html" in start
    assert "Migrate from diskcache" in (site / "kvengine/docs/index.html").read_text()
    assert "get_or_set" in (site / "searchindex.js").read_text()


def test_the_reference_explains_every_public_name(site: Path) -> None:
    pages = "".join(page.read_text() for page in (site / "kvengine/docs/reference").glob("*.html"))
    assert [name for name in NAMES if f'id="{name}"' not in pages] == []
    for method in ("Namespace.put", "Store.tail", "Edge.stats", "aio.Namespace.get_or_set"):
        assert f'id="kvengine.{method}"' in pages
