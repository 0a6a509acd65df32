"""One writer at a time: between processes, after a kill, after a fork."""

import os
import signal
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from kvengine.errors import StoreLocked
from kvengine.file import folders, local
from kvengine.file.local import LocalDirectory
from tests.waiting import meanwhile

Child = Callable[..., subprocess.Popen[str]]

HOLDER = """
import sys
from kvengine.file.local import LocalDirectory
directory = LocalDirectory(sys.argv[1])
directory.lock(shared=len(sys.argv) > 2)
print("locked", flush=True)
sys.stdin.readline()
"""


def start_holder(child: Child, path: Path, *, shared: bool = False) -> subprocess.Popen[str]:
    process = child(HOLDER, str(path), *["shared"] * shared)
    assert process.stdout is not None
    assert process.stdout.readline() == "locked\n"
    return process


def end_of_child(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_the_second_writer_is_told_who_the_first_is(tmp_path: Path, child: Child) -> None:
    holder = start_holder(child, tmp_path)
    directory = LocalDirectory(str(tmp_path))
    assert directory.lock_is_held()
    with pytest.raises(StoreLocked, match=f"process {holder.pid}") as caught:
        directory.lock()
    assert (caught.value.pid, caught.value.path) == (holder.pid, str(tmp_path))


def test_another_path_to_the_folder_is_locked_too(tmp_path: Path, child: Child) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "link").symlink_to("store")
    start_holder(child, tmp_path / "store")
    with pytest.raises(StoreLocked):
        LocalDirectory(str(tmp_path / "link")).lock()


def test_the_same_process_is_refused_too(tmp_path: Path) -> None:
    first, second = LocalDirectory(str(tmp_path)), LocalDirectory(str(tmp_path))
    first.lock()
    with pytest.raises(StoreLocked) as caught:
        second.lock()
    assert caught.value.pid == os.getpid()
    first.close()
    second.lock()
    second.close()


def test_of_several_that_share_it_one_that_is_still_there_is_named(
    tmp_path: Path, child: Child
) -> None:
    """The one that came last may be gone: LOCK alone names it all the same."""
    holder = start_holder(child, tmp_path, shared=True)
    last = LocalDirectory(str(tmp_path))
    last.lock(shared=True)
    directory = LocalDirectory(str(tmp_path))
    assert directory.pid_of_holder() == os.getpid()
    last.unlock(last=False)
    assert (tmp_path / "LOCK").read_text().split() == [str(os.getpid())]
    assert directory.pid_of_holder() == holder.pid
    last.close()


def test_where_the_system_lists_no_locks_the_last_one_is_named(
    tmp_path: Path, child: Child, monkeypatch: pytest.MonkeyPatch
) -> None:
    start_holder(child, tmp_path)
    (tmp_path / "LOCK").write_text("4711\n")
    monkeypatch.setattr(folders, "LOCKS", str(tmp_path / "none"))
    assert LocalDirectory(str(tmp_path)).pid_of_holder() == 4711
    (tmp_path / "locks").write_text("1: FLOCK ADVISORY WRITE 77 00:00:1 0 EOF\n\n2: -> FLOCK\n")
    monkeypatch.setattr(folders, "LOCKS", str(tmp_path / "locks"))
    assert LocalDirectory(str(tmp_path)).pid_of_holder() == 4711


@pytest.mark.parametrize("text", [b"", b"garbage", b"\xff\n12"])
def test_a_missing_pid_is_no_obstacle(tmp_path: Path, child: Child, text: bytes) -> None:
    start_holder(child, tmp_path)
    (tmp_path / "LOCK").write_bytes(text)
    with pytest.raises(StoreLocked, match="another process") as caught:
        LocalDirectory(str(tmp_path)).lock()
    assert caught.value.pid is None


def test_a_refused_writer_leaves_the_text_alone(tmp_path: Path) -> None:
    first, second = LocalDirectory(str(tmp_path)), LocalDirectory(str(tmp_path))
    first.lock()
    for _ in range(3):
        with pytest.raises(StoreLocked):
            second.lock()
    assert (tmp_path / "LOCK").read_text() == f"{os.getpid()}\n"
    first.unlock()
    assert (tmp_path / "LOCK").read_text() == ""


def test_a_killed_holder_holds_nothing(tmp_path: Path, child: Child) -> None:
    holder = start_holder(child, tmp_path)
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    directory = LocalDirectory(str(tmp_path))
    assert not directory.lock_is_held()
    directory.lock()
    assert (tmp_path / "LOCK").read_text() == f"{os.getpid()}\n"
    directory.close()


def test_a_child_that_gave_up_its_copy_does_not_hold_on(tmp_path: Path) -> None:
    """The parent unlocks while the child lives, and the child can't unlock for the parent."""
    directory = LocalDirectory(str(tmp_path))
    directory.lock()
    to_child, from_parent = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(from_parent)
        directory.after_fork_in_child()
        directory.unlock()
        os.read(to_child, 1)
        os._exit(0)
    other = LocalDirectory(str(tmp_path))
    with pytest.raises(StoreLocked):
        other.lock()
    directory.close()  # closes only the parent's copy: the child must have closed its own
    try:
        for _ in range(500):
            if not other.lock_is_held():
                break
            threading.Event().wait(0.01)
        other.lock()
        other.close()
    finally:
        os.close(from_parent)
        os.close(to_child)
        assert end_of_child(pid) == 0


def test_unlock_in_a_child_does_not_unlock_the_parent(tmp_path: Path) -> None:
    directory = LocalDirectory(str(tmp_path))
    directory.lock()
    pid = os.fork()
    if pid == 0:
        directory.unlock()
        directory.close()
        os._exit(0)
    assert end_of_child(pid) == 0
    assert directory.lock_is_held()
    with pytest.raises(StoreLocked):
        LocalDirectory(str(tmp_path)).lock()
    directory.close()


def test_other_programs_do_not_inherit_the_lock(tmp_path: Path) -> None:
    directory = LocalDirectory(str(tmp_path))
    directory.lock()
    sleeper = subprocess.Popen(["sleep", "60"], close_fds=False)
    try:
        directory.close()
        assert not directory.lock_is_held()
    finally:
        sleeper.kill()
        sleeper.wait()


def test_asking_who_writes_keeps_nobody_from_writing(tmp_path: Path) -> None:
    """To ask is to take a lock for a moment; a writer that meets it must not give up."""
    directory = LocalDirectory(str(tmp_path))
    directory.lock()
    directory.unlock()
    with meanwhile(lambda: LocalDirectory(str(tmp_path)).lock_is_held(), 2):
        for _ in range(300):
            directory.lock()
            directory.unlock()


def test_asking_makes_no_lock_file(tmp_path: Path) -> None:
    assert not LocalDirectory(str(tmp_path)).lock_is_held()
    assert os.listdir(tmp_path) == []


def test_who_waits_in_vain_for_one_that_opens_is_told_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not told to open the store in another way: nobody may have it to himself."""
    monkeypatch.setattr(local, "OPENING_S", 0.0)
    first, second = LocalDirectory(str(tmp_path)), LocalDirectory(str(tmp_path))
    with first.opening():
        first.lock(shared=True)
        with pytest.raises(StoreLocked, match="opened or closed") as caught:
            second.opening().__enter__()
    assert caught.value.pid == os.getpid()
    assert "exclusive" not in str(caught.value)
    with second.opening():
        assert second.try_lock(shared=True)
