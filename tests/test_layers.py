"""The one-way rule: a module may use the rows below its own, never those above.

import-linter would be the usual tool, but it reads only ``.py`` files and does not see
a ``cimport`` (checked: 2.16 reports KEPT for a ``.pyx`` that imports upwards).  So this
test reads the import lines of every source file itself.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "kvengine"
ROWS = (
    ("docs",),  # documents, and how Sphinx makes pages of them
    ("cli", "examples"),
    ("server", "integrations", "testing"),  # neighbors: none uses another
    ("aio",),
    ("database",),
    ("client",),
    ("namespace", "metering"),
    ("edge",),
    ("replication",),
    ("cache",),
    ("engine",),
    ("file",),
    ("options", "entry"),
    ("errors", "clock"),
)
ROW_OF = {name: row for row, names in enumerate(ROWS) for name in names}
SUFFIXES = {".py", ".pyx", ".pxd", ".pyi"}

# Commands that simulate; no other production code may use kvengine.testing.
MAY_USE_TESTING = re.compile(r"cli/(demos|replaying)/\w+\.py")
# What meets the operating system, and the parts that may use it.
SYSTEM_MODULES = {"os", "fcntl", "mmap", "pathlib", "posix", "shutil", "tempfile"}
# (The server has sockets, processes and certificates; the files of stores are not its business.)
MAY_USE_SYSTEM = {"file", "cli", "docs", "testing", "examples", "server", "_checkout"}
# Examples show what users can do, so these parts are all that they may import.
PUBLIC_PARTS = {"aio", "examples"}
# What tells the time of day; clock.pyx alone may ask.
TIME_OF_DAY = re.compile(
    r"\btime\.(time|time_ns|localtime|gmtime|ctime)\b|\bCLOCK_REALTIME\b|libc\.time\b"
    r"|\bfrom time import .*\b(time|time_ns|localtime|gmtime|ctime)\b"
    r"|\bgettimeofday\b|\b(datetime|date)\.(now|utcnow|today)\b"
)

# Folders whose modules may import each other, if only for types, and why.
CYCLES = {
    "aio": "a namespace makes iterators that know their namespace",
    "client": "a database makes namespaces that know their database",
    "database": "an edge makes namespaces that know their edge",
    "namespace": "the parts of a namespace call its public methods",
    "testing.world": "places, links and clients act on the world that holds them",
}

IMPORT = re.compile(
    r"^[ \t]*(?:from[ \t]+(?P<origin>[.\w]+)[ \t]+c?import[ \t]+(?P<names>\([^)]*\)|[^#\n]*)"
    r"|c?import[ \t]+(?P<modules>[^#\n]+))",
    re.MULTILINE,
)


def used_modules(source: Path, root: Path) -> Iterator[str]:
    """Yield the full dotted name of everything that *source* imports or cimports."""
    package = ("kvengine", *source.relative_to(root).parent.parts)
    for line in IMPORT.finditer(source.read_text()):
        if line["modules"]:
            yield from (name.split()[0] for name in line["modules"].split(","))
            continue
        origin = line["origin"].lstrip(".")
        dots = len(line["origin"]) - len(origin)
        parts = [*package[: len(package) - dots + 1]] if dots else []
        parts += origin.split(".") if origin else []
        for name in re.findall(r"\w+", line["names"]):
            yield ".".join([*parts, name])


def part_of(dotted: str) -> str:
    """``kvengine.cache.cache`` belongs to the part ``cache``; foreign modules to none."""
    package, _, rest = dotted.partition(".")
    return rest.split(".")[0] if package == "kvengine" else ""


def find_violations(root: Path) -> Iterator[str]:
    """Yield a sentence for each line of source that breaks a rule."""
    for source in sorted(path for path in root.rglob("*") if path.suffix in SUFFIXES):
        name = source.relative_to(root).as_posix()
        own = source.relative_to(root).with_suffix("").parts[0]
        modules = set(used_modules(source, root))
        parts = {part_of(module) for module in modules}
        for used in sorted(parts & ROW_OF.keys() - {own}):
            if own in ROW_OF and ROW_OF[used] <= ROW_OF[own]:
                yield f"{name}: {own} must not use {used}"
        if "testing" in parts and own != "testing" and not MAY_USE_TESTING.fullmatch(name):
            yield f"{name}: only tests and commands that simulate may use kvengine.testing"
        if own == "examples":
            inner = parts & ROW_OF.keys() - PUBLIC_PARTS
            yield from (f"{name}: examples must not use {part}" for part in sorted(inner))
        foreign = {module.partition(".")[0] for module in modules}
        if own not in MAY_USE_SYSTEM:
            yield from (
                f"{name}: only kvengine/file may use {module}"
                for module in sorted(foreign & SYSTEM_MODULES)
            )
        if own != "clock" and TIME_OF_DAY.search(source.read_text()):
            yield f"{name}: only kvengine/clock.pyx may read the time of day"


def import_graph(root: Path) -> dict[str, set[str]]:
    """Return for each module those that it imports, also late or for types only."""
    sources: dict[str, list[Path]] = {}
    for source in (path for path in root.rglob("*") if path.suffix in SUFFIXES):
        parts = source.relative_to(root).with_suffix("").parts
        name = ".".join(("kvengine", *parts)).removesuffix(".__init__")
        sources.setdefault(name, []).append(source)
    graph: dict[str, set[str]] = {name: set() for name in sources}
    for name, files in sources.items():
        for dotted in (dotted for file in files for dotted in used_modules(file, root)):
            used = dotted  # of a name in a module, the module
            while used and used not in sources:
                used = used.rpartition(".")[0]
            graph[name] |= {used} - {"", name}
    return graph


def find_cycles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Return the groups of modules that need each other."""
    behind: dict[str, set[str]] = {}
    for name in graph:
        found, open_ones = behind.setdefault(name, set()), [name]
        while open_ones:
            new = graph[open_ones.pop()] - found
            found |= new
            open_ones += new
    groups = {
        frozenset(used for used in behind[name] if name in behind[used])
        for name in graph
        if name in behind[name]
    }
    return sorted(sorted(group) for group in groups)


def test_every_part_has_a_row() -> None:
    parts = {
        path.stem
        for path in ROOT.iterdir()
        if not path.name.startswith("_") and path.suffix in {"", ".py"}
    }
    assert parts <= ROW_OF.keys()


def test_layers_point_one_way() -> None:
    assert list(find_violations(ROOT)) == []


def test_no_module_imports_itself_by_way_of_others() -> None:
    cycles = find_cycles(import_graph(ROOT))
    folders = tuple(f"kvengine.{folder}." for folder in CYCLES)
    new = [cycle for cycle in cycles if not all(name.startswith(folders) for name in cycle)]
    assert new == []


def test_a_planted_cycle_is_seen(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from kvengine.b import B\n"
    )
    (tmp_path / "b.pyx").write_text("from kvengine cimport c\n")
    (tmp_path / "c.pyi").write_text("from kvengine.a import A\n")
    (tmp_path / "d.py").write_text("import kvengine.a\n")
    cycle = ["kvengine.a", "kvengine.b", "kvengine.c"]
    assert find_cycles(import_graph(tmp_path)) == [cycle]


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("engine/a.pyx", "cimport kvengine.cache.cache as cache"),
        ("engine/a.pxd", "from ..cache cimport (\n    table,\n)"),
        ("engine/a.py", "def late():\n    from kvengine import database"),
        ("engine/a.pyi", "from kvengine.replication.log import Log"),
        ("errors.py", "from kvengine.clock import Clock"),
        ("server/app.py", "import kvengine.testing.clock"),
        ("cli/store/get.py", "from kvengine.testing import model"),
        ("examples/a.py", "from kvengine.namespace.namespace import Namespace"),
        ("examples/a.py", "import kvengine.errors"),
        ("engine/a.py", "import json, os"),
        ("engine/a.pyx", "from posix.unistd cimport pread"),
        ("edge/a.py", "import time\nprint(time.time())"),
        ("edge/a.py", "from time import monotonic, time"),
        ("edge/a.py", "from datetime import datetime\ndatetime.now()"),
    ],
)
def test_a_planted_violation_is_seen(tmp_path: Path, file: str, line: str) -> None:
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_text(line + "\n")
    assert list(find_violations(tmp_path))


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("engine/a.pyx", "from kvengine.file.mapped cimport MappedFile"),
        ("file/local.py", "import os"),
        ("cli/demos/demo_crash.py", "from kvengine.testing.model import Model"),
        ("examples/a.py", "import kvengine\nfrom kvengine import KvError, aio"),
        ("examples/a.py", "from kvengine.examples.command import example\nimport pathlib"),
        ("testing/clock.py", "from kvengine import database"),
        ("edge/a.py", "import time\nprint(time.monotonic())"),
        ("clock.py", "import time\nprint(time.time())"),
    ],
)
def test_what_is_allowed_is_let_through(tmp_path: Path, file: str, line: str) -> None:
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_text(line + "\n")
    assert list(find_violations(tmp_path)) == []
