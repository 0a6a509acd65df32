"""Says at the end of a run how many points were interrupted."""

import os
import shutil
import tempfile
import threading
from collections import Counter
from pathlib import Path

import pytest

from tests.interrupt import points
from tests.interrupt.scenarios import fill


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("interrupt") / "template"
    fill(path)
    return path


@pytest.fixture
def folder() -> object:
    """A folder for thousands of small stores: in memory, where the system has that."""
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    points.EARLIER.clear()
    points.EARLIER.update(threading.enumerate())
    path = Path(tempfile.mkdtemp(prefix="kvengine-interrupt-", dir=base))
    yield path
    shutil.rmtree(path)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    found: Counter[str] = points.TRIED
    if found:
        parts = ", ".join(f"{count} {kind}" for kind, count in sorted(found.items()))
        terminalreporter.write_line(f"interrupted at {sum(found.values())} points: {parts}")
