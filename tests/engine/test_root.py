"""Root works in the folder of a service that runs as another user, which goes on."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import kvengine
from kvengine import Store
from kvengine.file.lease import take
from kvengine.file.local import LocalDirectory

NOBODY = 65534
SERVICE = """
import os, sys, kvengine
kvengine.Database.in_memory().close()  # imports the rest of Python, which root may hide
os.setgid(65534)
os.setuid(65534)
with kvengine.open(sys.argv[1]) as db:
    print(db.namespace("flags").increment("restarts"))
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder of nobody; not below tmp_path, whose parents are closed."""
    if os.getuid() != 0:
        pytest.skip("only root can become another user")
    made = Path(f"/tmp/kvengine-root-{os.getpid()}")
    made.mkdir(mode=0o700)
    os.chown(made, NOBODY, NOBODY)
    yield made
    shutil.rmtree(made)


def owners(folder: Path) -> set[tuple[int, int]]:
    return {(found.st_uid, found.st_gid) for found in map(os.lstat, folder.iterdir())}


def restart(path: Path) -> str:
    """Run the service, and return how often it has run."""
    command = [sys.executable, "-c", SERVICE, str(path)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_every_file_that_root_makes_is_the_owners(folder: Path) -> None:
    directory = LocalDirectory(str(folder))
    directory.lock()
    directory.create("segment").close()
    directory.replace("MANIFEST", b"{}")
    directory.open("CONTROL", create=True, writable=True, map_bytes=4096)
    with directory.opening():
        lease = take(directory, "lease")
    assert lease is not None
    lease.release()
    assert {"LOCK", "segment", "MANIFEST", "CONTROL", "OPENING", "lease"} <= set(directory.names())
    assert owners(folder) == {(NOBODY, NOBODY)}
    directory.close()


def test_a_file_that_has_another_name_too_is_not_given_away(folder: Path) -> None:
    """The owner of the folder could have linked a file of root's into it."""
    precious = folder.with_suffix(".precious")
    precious.write_bytes(b"")
    try:
        os.link(precious, folder / "LOCK")
        os.link(precious, folder / "lease")
        directory = LocalDirectory(str(folder))
        directory.lock()
        directory.unlock()
        lease = take(directory, "lease")
        assert lease is not None
        lease.release()
        assert (precious.stat().st_uid, precious.stat().st_gid) == (0, 0)
        directory.close()
    finally:
        precious.unlink()


def test_a_service_goes_on_after_commands_of_root(folder: Path) -> None:
    assert restart(folder / "db") == "1\n"
    with kvengine.open(folder / "db") as db:  # as "sudo kvengine key put" does
        db.namespace("made by root").put("key", "value")
        db.store.compact()
    with Store(folder / "db") as store:
        store.checkpoint()
    assert owners(folder / "db") == {(NOBODY, NOBODY)}
    assert restart(folder / "db") == "2\n"
