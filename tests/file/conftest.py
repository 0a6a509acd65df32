"""For tests of files: a child process in its own session, and a folder that can run full."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kvengine.file.directory import Directory
from kvengine.file.local import LocalDirectory
from kvengine.file.memory import MemoryDirectory
from tests.mounting import small_disk

ROOT = Path(__file__).parent.parent.parent
FULL_BYTES = 1 << 20  # of the small file system


@pytest.fixture(params=["local", "memory"])
def directory(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Directory]:
    folder: Directory
    folder = LocalDirectory(str(tmp_path)) if request.param == "local" else MemoryDirectory()
    yield folder
    folder.close()


@pytest.fixture(params=["local", "memory"])
def other(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Directory]:
    """Return a second folder, of either kind."""
    path = str(tmp_path_factory.mktemp("other"))
    folder: Directory
    folder = LocalDirectory(path) if request.param == "local" else MemoryDirectory()
    yield folder
    folder.close()


@pytest.fixture
def child() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Return a function that runs Python code in another process, with pipes to it."""
    started: list[subprocess.Popen[str]] = []

    def start(code: str, *arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", code, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def small_file_system(tmp_path: Path) -> Iterator[Path]:
    """Return a folder on a file system of 1 MiB of its own; needs root."""
    with small_disk(tmp_path / "small", FULL_BYTES) as folder:
        yield folder
