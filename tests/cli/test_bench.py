"""The quick look at speed prints a table and leaves nothing behind."""

import json
from pathlib import Path

import pytest

WORKS = ["put", "put in batches", "get", "get, absent", "get_many(100)", "keys in order",
         "open and get"]  # fmt: skip


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which temporary folders are made."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def test_table(run, temporary: Path) -> None:
    result = run("bench", "--keys", "200")
    assert result.exit_code == 0
    assert [line[:14].strip() for line in result.stdout.splitlines()[1:]] == WORKS
    assert list(temporary.iterdir()) == []


def test_json(run, temporary: Path) -> None:
    rows = [json.loads(line) for line in run("bench", "--keys", "1", "--json").stdout.splitlines()]
    assert [row["work"] for row in rows] == WORKS
    assert all(row["store_ns"] > 0 for row in rows)


def test_no_keys_is_a_usage_error(run) -> None:
    assert run("bench", "--keys", "0").exit_code == 2
