"""Every document for users: what it shows works, and every block of code is one that is run."""

import re
import shutil
from pathlib import Path

import pytest

from tests.docs.pages import (
    DOCS,
    PAGES,
    ROOT,
    blocks_of,
    commands_of,
    files_of,
    name_of,
    run_page,
)

LANGUAGES = {"python", "console", "text", "ini", "capnp"}
PROGRAMS = ("curl", "openssl")  # not in every container
FIRST_TWO = 2  # blocks of the README that .ci/run takes as they are
README_LINES_MAX = 220
# Its servers take a test of their own: tests/processes/servers/test_guide.py.
SERVERS = DOCS / "guides/web-frameworks.md"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_block_of_code_is_run(page: Path) -> None:
    text = page.read_text()
    commands = " ".join(command.line for command in commands_of(text))
    shells = 0
    for language, block in blocks_of(text):
        if language == "sh" and name_of(page) == "README.md":
            shells += 1
            continue
        assert language in LANGUAGES, block
        if language == "python" and ">>> " not in block:
            assert list(files_of(f"```python\n{block}```\n")), f"no doctest and no file: {block}"
    for name in files_of(text):
        module = name.removesuffix(".py")
        assert page == SERVERS or re.search(rf"\b{re.escape(module)}\b", commands), name
    assert shells == (FIRST_TWO if name_of(page) == "README.md" else 0)


@pytest.mark.parametrize(
    "page", [page for page in PAGES if commands_of(page.read_text())], ids=name_of
)
def test_the_commands_of_a_page_do_what_it_says(page: Path, tmp_path: Path) -> None:
    text = page.read_text()
    for module in re.findall(r"<!-- test needs (\w+) -->", text):
        pytest.importorskip(module)
    for program in PROGRAMS:
        if re.search(rf"\b{program} ", text) and shutil.which(program) is None:
            pytest.skip(f"there is no {program} on the PATH")
    assert run_page(text, tmp_path) == []


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= README_LINES_MAX


def test_the_index_leads_to_every_page() -> None:
    index = (DOCS / "index.md").read_text()
    links = {(DOCS / link).resolve() for link in re.findall(r"\]\(([^)#\s]+)", index)}
    package = {path for path in (ROOT / "kvengine").rglob("*.md") if path != DOCS / "index.md"}
    assert package - links == set()


MISTAKES = """
```console
$ echo one
two
$ false
$ false
$ echo $?
1
```
"""


def test_mistakes_of_a_page_are_seen(tmp_path: Path) -> None:
    wrong = run_page(MISTAKES, tmp_path)
    assert [text.splitlines()[0] for text in wrong] == ["$ echo one", "$ false"]
