"""What a reviewer should not have to look for: lengths, docstrings, dead links, drifted files."""

import ast
import re
import runpy
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 60
LATER = "|".join(word[::-1] for word in ("ODOT", "EMXIF"))  # backwards: this file is read too
FOLDERS = ("kvengine", "benchmarks", "tests")


def files(*suffixes: str) -> list[Path]:
    found = (path for folder in FOLDERS for path in (ROOT / folder).rglob("*"))
    return sorted(
        path for path in found if path.suffix in suffixes and "node_modules" not in path.parts
    )


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def text_of(path: Path) -> str:
    return path.read_text() + "\n"


SOURCES = [ROOT / "setup.py", *files(".py", ".pyx", ".pxd", ".pyi")]
DOCUMENTS = [*ROOT.glob("*.md"), *files(".md")]


def faults(paths: list[Path], fault: Callable[[Path], object]) -> dict[str, object]:
    """Return what is wrong with each file of which something is: one rule is one test."""
    return {name_of(path): found for path in paths if (found := fault(path))}


def python_functions(text: str) -> Iterator[tuple[str, int]]:
    """Yield (name, lines) of each function of a Python file."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, (node.end_lineno or node.lineno) - node.lineno + 1


def cython_functions(text: str) -> Iterator[tuple[str, int]]:
    """Yield (name, lines) of each function of a Cython file, judged by indentation.

    A function begins at a line with ``def``, or with ``cdef`` or ``cpdef`` and a signature, and
    lasts until the next line that is indented no deeper and is no closing bracket.
    """
    lines = text.splitlines()
    head = re.compile(
        r"^( *)(?:(?:async )?def|cp?def)\b(?! (?:class|struct|enum|extern)).*?(\w+)\("
    )
    for start, line in enumerate(lines):
        match = head.match(line)
        if not match or ("=" in line and "=" in line[: match.end()]):
            continue  # no function, or a value that a call gives: cdef int x = f(
        depth, end = len(match[1]), start
        for number in range(start + 1, len(lines)):
            follower = lines[number]
            stripped = follower.strip()
            if not stripped or stripped.startswith("#"):
                continue
            if len(follower) - len(follower.lstrip()) <= depth and not stripped.startswith(")"):
                break
            end = number
        yield match[2], end - start + 1


def test_files_are_short() -> None:
    def fault(path: Path) -> object:
        lines = len(path.read_text().splitlines())
        return lines if lines > FILE_LINES_MAX else None

    assert faults(SOURCES, fault) == {}


def test_functions_are_short() -> None:
    def fault(path: Path) -> object:
        functions = cython_functions if path.suffix in {".pyx", ".pxd"} else python_functions
        return {name: n for name, n in functions(path.read_text()) if n > FUNCTION_LINES_MAX}

    assert faults(SOURCES, fault) == {}


def test_every_module_opens_with_a_docstring() -> None:
    def fault(path: Path) -> object:
        text = path.read_text()
        code = re.sub(r"\A(?:#.*\n|\s*\n)*", "", text)  # interpreter line, cython directives
        return None if re.match(r'r?"""\S', code) else "no docstring"

    assert faults([path for path in SOURCES if path.suffix != ".pyi"], fault) == {}


def test_nothing_is_left_for_later() -> None:
    assert faults(SOURCES, lambda path: re.findall(rf"\b(?:{LATER})\b", path.read_text())) == {}


def test_every_compiled_module_has_types() -> None:
    assert faults(files(".pyx"), lambda path: not path.with_suffix(".pyi").exists()) == {}


def test_compiled_modules_are_whole_files() -> None:
    """``include`` hides imports from test_layers, and DEF is leaving the language."""
    rule = re.compile(r"^\s*(?:include\s+[\"']|DEF )", re.MULTILINE)
    assert faults(files(".pyx", ".pxd"), lambda path: rule.findall(path.read_text())) == {}


def test_no_declaration_outlives_its_module() -> None:
    used = set(re.findall(r"^from (\S+) cimport", "".join(map(text_of, SOURCES)), re.MULTILINE))

    def fault(path: Path) -> object:
        """What a module in Python has for compiled ones stands beside it; or they alone use it."""
        modules = (".pyx", ".py") if path.suffix == ".pxd" else (".pyx",)
        if path.suffix == ".pxd" and name_of(path)[: -len(".pxd")].replace("/", ".") in used:
            return False
        return not any(path.with_suffix(suffix).exists() for suffix in modules)

    assert faults(files(".pyi", ".pxd"), fault) == {}


def test_links_in_documents_lead_somewhere() -> None:
    def fault(path: Path) -> object:
        text = re.sub(r"```.*?```", "", path.read_text(), flags=re.DOTALL)
        targets = re.findall(r"\]\(<?([^)>\s]+)", text) + re.findall(
            r"^\[[^\]]+\]: *(\S+)", text, re.MULTILINE
        )
        local = [target for target in targets if not re.match(r"[a-z]+:", target)]
        return [target for target in local if not _exists(path, target)]

    assert faults(DOCUMENTS, fault) == {}


def _exists(document: Path, target: str) -> bool:
    file, _, anchor = target.partition("#")
    path = document.parent / file if file else document
    if not path.exists():
        return False
    if not anchor or path.suffix != ".md":
        return True
    headings = re.findall(r"^#+ +(.*?) *#*$", path.read_text(), re.MULTILINE)
    slugs = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    return anchor in slugs


def shell_blocks() -> list[str]:
    return re.findall(
        r"^```sh\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL
    )


@pytest.mark.parametrize(("number", "ends_with"), [(0, "kvengine demo"), (1, "pytest -n auto")])
def test_each_of_the_first_two_commands_works_alone(number: int, ends_with: str) -> None:
    """A person copies one block into a fresh clone; .ci/run runs both as they stand."""
    block = shell_blocks()[number]
    environment, install, run = (step.strip() for step in block.replace("\\\n", "").split("&&"))
    assert environment == "python3 -m venv .venv"
    assert install == ".venv/bin/pip install -q -e '.[test]'"
    assert run == f".venv/bin/{ends_with}"


@pytest.mark.parametrize("system", ["darwin", "win32"])
def test_elsewhere_the_build_says_that_it_needs_linux(
    monkeypatch: pytest.MonkeyPatch, system: str
) -> None:
    """And not with an error of the C compiler."""
    monkeypatch.setattr(sys, "platform", system)
    with pytest.raises(SystemExit, match=f"runs on Linux only, not on {system}"):
        runpy.run_path(str(ROOT / "setup.py"))


LONG_CYTHON = '''
cdef extern from *:
    """
    int helper(int x);
    """
    int helper(int x)

cdef int x = helper(
    1)

cdef inline int first(
    int a,
) noexcept nogil:
    return a

cdef class Box:
    cdef int size

    def second(self, a: int) -> int:
        # a comment
        return a

    @property
    def third(self): return 1
'''


def test_functions_of_cython_are_found() -> None:
    assert list(cython_functions(LONG_CYTHON)) == [("first", 4), ("second", 3), ("third", 1)]
