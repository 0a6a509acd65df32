"""Stores to interrupt, and how many points were."""

import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
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
def folder() -> Iterator[Path]:
    """A folder for thousands of small stores: in memory, where the system has that."""
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    points.EARLIER.clear()
    points.EARLIER.update(threading.enumerate())
    path = Path(tempfile.mkdtemp(prefix="kvengine-interrupt-", dir=base))
    yield path
    shutil.rmtree(path)


@pytest.fixture(autouse=True)
def counted(record_property: Callable[[str, object], None]) -> Iterator[None]:
    """Add to the report of each test how many points it interrupted; see tests/conftest.py."""
    points.TRIED.clear()
    yield
    record_property("interrupted", dict(points.TRIED))
