"""For every test: hypothesis, Ctrl-C, files in memory.

Outside `engine/` and `file/`, and where there is room, `tmp_path` is in memory, since syncs of a
disk take most of the time there.  With TMPDIR set, all files are in that folder.
"""

import gc
import os
import re
import shutil
import signal
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# No deadline: no test may depend on how fast the machine is.  The same examples on each run, so
# that a change that passed here passes there; "explore" looks for new ones.
settings.register_profile("kvengine", deadline=None, print_blob=True, derandomize=True)
settings.register_profile("quick", settings.get_profile("kvengine"), max_examples=20)
settings.register_profile("explore", deadline=None, print_blob=True, max_examples=1000)
settings.load_profile("kvengine")

if os.environ.get("KVENGINE_FOREIGN"):  # the collector calls back into the stores; see there
    pytest_plugins = ["tests.foreign"]

if os.environ.get("KVENGINE_LONG") == "1":  # one test may take hours; a deadlock still ends
    os.environ.setdefault("PYTEST_TIMEOUT", str(6 * 3600))

# A shell starts what runs in the background (`pytest &`) with Ctrl-C ignored, which the programs
# that tests start and interrupt would inherit.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

TESTS = Path(__file__).parent
ON_DISK = ("engine", "file")
MEMORY, ROOM = Path("/dev/shm"), 4 << 30


def has_room() -> bool:
    """Return whether files of tests may be in memory."""
    is_usable = "TMPDIR" not in os.environ and os.access(MEMORY, os.W_OK)
    return is_usable and shutil.disk_usage(MEMORY).free > ROOM


IS_ROOMY = has_room()


@pytest.fixture
def tmp_path(request: pytest.FixtureRequest) -> Iterator[Path]:
    """A folder of a test, as that of pytest: in memory, or on the disk."""
    if not IS_ROOMY or request.path.relative_to(TESTS).parts[0] in ON_DISK:
        factory = request.getfixturevalue("tmp_path_factory")
        yield factory.mktemp(re.sub(r"\W", "_", request.node.name)[:30])
        return
    path = Path(tempfile.mkdtemp(prefix="kvtest", dir=MEMORY))
    yield path
    shutil.rmtree(path, ignore_errors=True)


def pytest_xdist_auto_num_workers() -> int:
    """One process more than there are cores: servers are waited for, and browsers, and disks."""
    return len(os.sched_getaffinity(0)) + 1


def pytest_collection_finish() -> None:
    """Leave the thousands of tests to themselves: gc.collect() would look at all, each time."""
    gc.collect()
    gc.freeze()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many points were interrupted: tests/interrupt/conftest.py notes it in reports."""
    found: Counter[str] = Counter()
    for report in terminalreporter.getreports(""):  # of setup and teardown
        found.update(dict(report.user_properties).get("interrupted", {}))
    if found:
        parts = ", ".join(f"{count} {kind}" for kind, count in sorted(found.items()))
        terminalreporter.write_line(f"interrupted at {sum(found.values())} points: {parts}")
