"""A store of kvengine 0.1 is converted by the first write or job, which is cut short at each step.

Whether the process is killed there or the power is lost, the next open finds all that was there,
and what was acknowledged since, and converts it.
"""

import zipfile
from pathlib import Path

import pytest

from kvengine.engine.store import Store
from kvengine.testing.check import check_store
from kvengine.testing.crashing import CrashedFolder, folder_of
from kvengine.testing.faulty import FaultyDirectory
from kvengine.testing.history import content_of
from tests.engine.format_reader import read_manifest
from tests.engine.test_format_1 import LAST, ZIP, expected

OPTIONS = {"durability": "group", "compaction": "manual"}
TORN = 8  # power cuts that leave a part of what was not synced, each another one
JOBS = {"put": [], "checkpoint": ["checkpoint"], "compact": ["compact"]}


@pytest.fixture(params=LAST)
def old(request):
    """Return the name of a store of 0.1, and its files."""
    with zipfile.ZipFile(ZIP) as file:
        names = [name for name in file.namelist() if name.startswith(f"{request.param}/")]
        files = {Path(name).name: file.read(name) for name in names if not name.endswith("/")}
    del files["LOCK"]
    return request.param, files


def convert(files, jobs):
    """Convert a store by jobs and writes.

    Return the folder, {version: after how many steps it was acknowledged}, and the files before
    each step as they are if the process is killed just then.
    """
    directory, acknowledged, killed = FaultyDirectory(folder_of(files)), {}, []
    directory.before = lambda _step: killed.append(content(directory.inner))
    store = Store._in_directory(directory, **OPTIONS)
    store._parts.maintenance.wake = lambda: None  # type: ignore[method-assign]
    for job in jobs:
        getattr(store, job)()
    for number in range(3):
        version = store.put(b"new %d" % number, b"value")
        acknowledged[version] = len(directory.steps)
    store.close()
    return directory, acknowledged, killed


def content(folder):
    return {name: folder.read(name) for name in folder.names() if name != "LOCK"}


def check(left, name, least, where):
    """All is there that was, and of what was written since so much; and it is converted now."""
    with Store._in_directory(left, **OPTIONS) as store:
        found = {key: value for key, (value, _) in content_of(store).items()}
        news = store.version - LAST[name]
        assert least <= store.version <= LAST[name] + 3, where
        assert found == expected(Path(name)) | {b"new %d" % n: b"value" for n in range(news)}, where
        check_store(store)
        store.put(b"more", b"1")
        assert read_manifest(left.read("MANIFEST"))["format"] == 2, where
        assert store.verify().ok, where


@pytest.mark.parametrize("jobs", JOBS.values(), ids=JOBS)
def test_at_every_step(old, jobs):
    """Killed, with the control page as it was then, on the same boot; or the power is lost."""
    name, files = old
    directory, acknowledged, killed = convert(files, jobs)
    assert len(killed) == len(directory.steps) > 5
    assert {read_manifest(left["MANIFEST"])["format"] for left in killed} == {1, 2}
    for step, left in enumerate(killed):
        least = max([v for v, at in acknowledged.items() if at <= step], default=LAST[name])
        where = f"before step {step + 1} of {len(killed)}: {directory.steps[step]}"
        check(folder_of(left), name, least, where)
        crashed = CrashedFolder(directory.recording, step)
        for model, seed in [("ordered", 0), *(("torn", seed) for seed in range(TORN))]:
            check(crashed.folder(model, seed), name, least, f"{where}, {model} {seed}")
