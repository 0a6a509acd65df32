"""For every test: hypothesis, Ctrl-C, files in memory, no start with a build older than its source.

Files of tests are in memory where there is room, since no test needs a disk: what a disk does at
a power cut is simulated, and syncs of a real one take half of the time.  `TMPDIR=/var/tmp pytest`
has them elsewhere.
"""

import gc
import os
import shutil
import signal
import tempfile
from importlib.machinery import EXTENSION_SUFFIXES
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

MEMORY, ROOM = Path(f"/dev/shm/kv{os.getuid()}"), 4 << 30


def has_room() -> bool:
    return MEMORY.parent.is_dir() and shutil.disk_usage(MEMORY.parent).free > ROOM


if "TMPDIR" not in os.environ and has_room():
    MEMORY.mkdir(mode=0o700, exist_ok=True)
    if MEMORY.lstat().st_uid == os.getuid():
        os.environ["TMPDIR"] = str(MEMORY)
        tempfile.tempdir = None  # it is looked up again

PACKAGE = Path(__file__).parent.parent / "kvengine"


def pytest_collection_finish() -> None:
    """Leave the thousands of tests to themselves: gc.collect() would look at all, each time."""
    gc.collect()
    gc.freeze()


def pytest_sessionstart() -> None:
    """Exit with status 3 and the command to run; an old build would test old code silently."""
    for source in (*PACKAGE.rglob("*.pyx"), *PACKAGE.rglob("*.pxd")):
        build = source.with_suffix(EXTENSION_SUFFIXES[0])  # the one this Python would import
        if build.exists() and build.stat().st_mtime < source.stat().st_mtime:
            reason = f"{source} is newer than its build; run: python setup.py build_ext --inplace"
            pytest.exit(reason, returncode=3)
