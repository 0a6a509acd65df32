"""The table of planted bugs fits the code: each can be planted, and its tests exist.

`python -m tests.planted` plants them and runs the tests.
"""

import ast
import functools
from pathlib import Path

import pytest

from tests.planted_bugs import BUGS

ROOT = Path(__file__).parent.parent
LAYERS = {"aio", "cli", "client", "database", "engine", "errors.py", "file", "metering"} | {
    "namespace", "replication", "server", "cache", "edge"
}  # fmt: skip


@functools.cache
def names_in(path: Path) -> set[str]:
    return {
        node.name
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    }


@pytest.mark.parametrize("bug", BUGS, ids=[bug.name for bug in BUGS])
def test_a_bug_can_be_planted_and_its_tests_exist(bug):
    assert (ROOT / bug.file).read_text().count(bug.old) == 1
    assert bug.old != bug.new
    assert bug.tests
    for test in bug.tests:
        file, _, name = test.partition("::")
        assert not name or name.partition("[")[0] in names_in(ROOT / file), test
        assert any(found.startswith("test_") for found in names_in(ROOT / file)), test


def test_every_layer_has_some_and_names_are_unique():
    assert {Path(bug.path).parts[0] for bug in BUGS} >= LAYERS
    assert len({bug.name for bug in BUGS}) == len(BUGS)
    found = {bug.name.split()[0] for bug in BUGS}
    assert {f"T{number}" for number in range(1, 11)} <= found
