"""The control page: each word is stored after what it stands for, and a reader sees them so."""

import mmap
import os
import platform
import re
import secrets
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kvengine import StorageError, Store
from kvengine.engine.following.follower import Follower
from kvengine.engine.recovery import loading
from kvengine.file.local import LocalDirectory
from kvengine.testing.check import check_store

ROOT = Path(__file__).parents[2] / "kvengine" / "engine"
OPTIONS = {"durability": "os", "compaction": "manual"}


def test_shared_words_are_loaded_and_stored_with_the_order_that_they_need():
    """Processors that are not x86 let plain loads and stores overtake each other (finding E26)."""
    words = re.compile(r"(?<!&)\bself\.(?:words|page|published)\b(?:\[[^]]*\])?")
    whole = (  # what only passes the page on, and asks whether there is one
        "self.words = <uint64_t *>file.base", "self.page = self.no_page", "self.page = no_page",
        "self.page = control.words", "self.published = &control.words[VERSION]",
        "self.page = page", "wait_for_write_lock(self.page,", "kv_acquire(self.published)",
        "self.published != NULL", "self.published = NULL",
    )  # fmt: skip
    names = (
        "control",
        "reading",
        "write_lock",
        "log_end",
        "durable",
        "indexing",
        "appending",
        "writing",
    )
    for name in names:
        for line in next(ROOT.rglob(f"{name}.pyx")).read_text().splitlines():
            rest = line
            for use in whole:
                rest = rest.replace(use, "")
            assert not words.search(rest), f"{name}.pyx: {line.strip()}"
    orders = {
        "load_word": "ACQUIRE",
        "store_word": "RELEASE",
        "add_word": "SEQ_CST",
    } | dict.fromkeys(("raise_word", "load_count", "add_count", "take_count"), "SEQ_CST")
    page = (ROOT / "log/page.pxd").read_text()
    for name, order in orders.items():
        body = re.search(rf"static inline \w+ kv_{name}\(.*?\n    \}}", page, re.DOTALL)
        assert body is not None
        assert set(re.findall(r"__ATOMIC_(\w+)", body.group())) == {order}, name
    acquire = re.search(r"kv_acquire\(.*?\}", (ROOT / "access/reading.pxd").read_text(), re.DOTALL)
    assert acquire is not None
    assert "__ATOMIC_ACQUIRE" in acquire.group()


def test_a_version_is_stored_after_what_it_stands_for():
    """And "writing" is there before, and as long as, bytes may lie behind the end of the log."""
    text = (ROOT / "access/appending.pyx").read_text()
    bodies = {
        name: re.search(rf"cdef int {name}\(.*?\n\n\n", text, re.DOTALL) for name in
        ("append", "pass_on_large", "publish")
    }  # fmt: skip
    steps = {
        "append": ["store_word(&self.page[WRITING], 1)", "lay_out(", "try_write("],
        "pass_on_large": [
            "lay_out(",
            "write_fully(",
            "[VERSION]",
            "[WRITING], 0",
            "release_write_lock()",
        ],
        "publish": ["show_all(", "self.page[VERSION]", "self.page[WRITING], 0"],
    }
    for name, body in bodies.items():
        assert body is not None
        places = [body.group().rindex(step) for step in steps[name]]
        assert places == sorted(places), name


# -- pages that say something else


def words_of(folder):
    with open(folder / "CONTROL", "r+b") as file:
        return memoryview(mmap.mmap(file.fileno(), 4096)).cast("Q")


@pytest.mark.parametrize(
    "change", ["another boot", "cut", "empty", "garbage", "a dead owner", "gone"]
)
def test_who_is_alone_sets_the_page_up_whatever_is_in_it(tmp_path, change):
    with Store(tmp_path, **OPTIONS) as store:
        store.update({b"%d" % number: b"value" for number in range(100)})
    path = tmp_path / "CONTROL"
    if change == "another boot":
        words_of(tmp_path)[1] ^= 1
        words_of(tmp_path)[3] += 7
    elif change in {"cut", "empty"}:
        os.truncate(path, 100 if change == "cut" else 0)
    elif change == "garbage":
        path.write_bytes(secrets.token_bytes(8192))
    elif change == "a dead owner":
        words = words_of(tmp_path)
        for word in (16, 17, *range(48, 64)):  # writing, held, both mutexes
            words[word] = 2**64 - 1
    else:
        path.unlink()
    with Store(tmp_path, **OPTIONS) as store, Store(tmp_path, **OPTIONS) as other:
        assert len(store) == 100
        store.put(b"new", b"1")
        other.put(b"newer", b"2")
        assert store.version == other.version == 102
        check_store(store)


@pytest.mark.parametrize("change", ["size", "library", "library is not said"])
def test_a_page_of_another_c_library_is_refused_beside_others(tmp_path, change):
    """Where its mutexes lie other bytes would be taken for them.

    glibc and musl have mutexes of the same size, and keep different things in the same bytes.
    """
    with Store(tmp_path, **OPTIONS) as store:
        words = words_of(tmp_path)
        before = words[34]
        library, sizes = divmod(before, 1 << 32)
        assert library == (1 if platform.libc_ver()[0] == "glibc" else 2)
        if change == "size":
            words[34] += 8 << 8
        else:
            words[34] = sizes | (3 - library) << 32 if change == "library" else sizes
        with pytest.raises(StorageError, match="another C library"):
            Store(tmp_path, **OPTIONS)
        words[34] = before
        with Store(tmp_path, **OPTIONS) as other:
            other.put(b"key", b"value")
        assert store.get(b"key") == b"value"


def test_a_page_of_another_pid_namespace_is_refused_beside_others(tmp_path, monkeypatch):
    """A thread that dies in one would release the write lock of one with its number in another.

    Where one of the two is not known nobody is refused.
    """
    with Store(tmp_path, **OPTIONS) as store:
        words = words_of(tmp_path)
        before = words[38]
        words[38] = 7
        with pytest.raises(StorageError, match="PID namespace"):
            Store(tmp_path, **OPTIONS)
        with Store(tmp_path, read_only=True) as reader:
            assert reader.version == 0
        words[38] = 0
        with Store(tmp_path, **OPTIONS) as other:
            other.put(b"key", b"value")
        words[38] = 7
        with monkeypatch.context() as patch:
            patch.setattr("kvengine.engine.joining.pid_namespace", lambda: 0)
            with Store(tmp_path, **OPTIONS) as other:
                assert other.get(b"key") == b"value"
        words[38] = before
        assert store.get(b"key") == b"value"
    with Store(tmp_path, **OPTIONS):
        assert words_of(tmp_path)[38] == before


JOIN = """
import sys, kvengine
try:
    kvengine.Store(sys.argv[1])
except kvengine.StorageError as error:
    print(error)
"""


def test_a_process_in_a_pid_namespace_of_its_own_is_refused_beside_others(tmp_path):
    unshare = ["unshare", "--user", "--map-root-user", "--pid", "--fork"]
    if not shutil.which("unshare") or subprocess.run([*unshare, "true"], check=False).returncode:
        pytest.skip("no PID namespace can be made here")
    join = [*unshare, sys.executable, "-c", JOIN, str(tmp_path)]
    with Store(tmp_path, **OPTIONS):
        told = subprocess.run(join, check=True, capture_output=True, text=True, timeout=60)
        assert "PID namespace" in told.stdout
    told = subprocess.run(join, check=True, capture_output=True, text=True, timeout=60)
    assert told.stdout == ""  # it is alone


def test_a_page_that_is_gone_lets_nobody_join(tmp_path):
    with Store(tmp_path, **OPTIONS) as store:
        store.put(b"key", b"value")
        os.rename(tmp_path / "CONTROL", tmp_path / "CONTROL.tmp")
        with pytest.raises(StorageError, match="CONTROL"):
            Store(tmp_path, **OPTIONS)
        (tmp_path / "CONTROL").unlink(missing_ok=True)
        os.rename(tmp_path / "CONTROL.tmp", tmp_path / "CONTROL")
        with Store(tmp_path, **OPTIONS) as other:
            assert other.get(b"key") == b"value"


def test_who_has_the_store_goes_while_another_one_opens_it(tmp_path, monkeypatch):
    """As 0.1 does, and one that is killed before its page is set up."""
    with Store(tmp_path, **OPTIONS) as store:
        store.put(b"key", b"value")
    (tmp_path / "CONTROL").unlink()
    holder = LocalDirectory(str(tmp_path))
    holder.lock()
    lock = LocalDirectory.lock

    def lock_later(self, *, shared=False):
        holder.close()
        lock(self, shared=shared)

    monkeypatch.setattr(LocalDirectory, "lock", lock_later)
    with Store(tmp_path, **OPTIONS) as store, Store(tmp_path, **OPTIONS) as other:
        other.put(b"more", b"value")
        assert set(store) == {b"key", b"more"}


# -- changes that are taken back


class Late:
    """A page whose writer takes changes back just after a reader has looked at the version."""

    def __init__(self, control, take_back):
        self._control, self._take_back = control, take_back

    @property
    def version(self):
        found = self._control.version
        if self._take_back is not None:
            act, self._take_back = self._take_back, None
            act()
        return found

    def __getattr__(self, name):
        return getattr(self._control, name)


def test_changes_that_are_taken_back_while_a_reader_looks(tmp_path):
    """It goes back with them, and does not call the store damaged."""
    with Store(tmp_path, **OPTIONS) as store:
        for number in range(7):
            store.put(b"%d" % number, b"kept")
        segment = store._parts.rows[-1].id
        end = store._parts.segment_table.counters(segment)[1]
        with Store(tmp_path, read_only=True) as reader:
            for number in range(7, 10):
                store.put(b"%d" % number, b"lost")
            assert len(reader) == 10
            for number in range(10, 13):
                store.put(b"%d" % number, b"lost")
            os.truncate(tmp_path / f"{segment:08x}.log", end)
            taken_back = []

            def take_back() -> None:
                taken_back.append(reader._parts.applied_version)
                store._parts.control_page.take_back(7)

            assert isinstance(reader._parts.follower, Follower)
            page = reader._parts.follower._page
            assert page is not None
            page.control = Late(page.control, take_back)  # type: ignore[assignment]
            reader._parts.follower.catch_up()
            assert taken_back == [10]
            assert reader.version == 7
            assert set(reader) == {b"%d" % number for number in range(7)}
            assert reader._parts.lost_after is not None
            assert reader._parts.lost_after[1] == 7
            check_store(reader)
        store._parts.directory.close()  # its log was cut: it is not to be written to any more


def lose_all_after(store, version, path, end):
    """End like a process that was killed, with a log that lacks what was visible."""
    store._parts.control_page.take_back(version)
    store._parts.directory.close()
    os.truncate(path, end)


def test_an_interrupted_start_over_keeps_no_changes_that_were_taken_back(tmp_path, monkeypatch):
    """Not even when others have written as many since."""
    store = Store(tmp_path, **OPTIONS)
    store.put(b"kept", b"")
    segment = store._parts.rows[-1].id
    end = store._parts.segment_table.counters(segment)[1]
    with Store(tmp_path, read_only=True) as reader:
        store.put(b"lost", b"")
        assert b"lost" in reader
        lose_all_after(store, 1, tmp_path / f"{segment:08x}.log", end)
        recover = loading.recover

        def interrupted(*_args: object, **_options: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(loading, "recover", interrupted)
        with pytest.raises(KeyboardInterrupt):
            reader.get(b"lost")
        monkeypatch.setattr(loading, "recover", recover)
        with Store(tmp_path, **OPTIONS) as other:
            for number in range(3):
                other.put(b"%d" % number, b"new")
            assert dict(reader) == dict(other)
            assert reader._parts.lost_after is not None
            check_store(reader)


def test_changes_that_are_taken_back_while_a_reader_opens(tmp_path, monkeypatch):
    """Between reading the files and following the page."""
    store = Store(tmp_path, **OPTIONS)
    store.put(b"kept", b"")
    segment = store._parts.rows[-1].id
    end = store._parts.segment_table.counters(segment)[1]
    store.put(b"lost", b"")
    recover_beside = loading.recover_beside

    def recover_just_before(*args):
        recover_beside(*args)
        lose_all_after(store, 1, tmp_path / f"{segment:08x}.log", end)
        with Store(tmp_path, **OPTIONS) as other:
            other.update({b"1": b"new", b"2": b"new"})

    monkeypatch.setattr("kvengine.engine.opening.recover_beside", recover_just_before)
    with Store(tmp_path, read_only=True) as reader:
        assert set(reader) == {b"kept", b"1", b"2"}
        check_store(reader)


def test_a_manifest_that_the_page_does_not_know_yet_is_built_upon(tmp_path):
    """Who put it in place was killed before the page said so; others may have read it since."""
    with Store(tmp_path, **OPTIONS) as first, Store(tmp_path, **OPTIONS) as second:
        first.put(b"key", b"value")
        assert second.get(b"key") == b"value"
        first._parts.maintenance.run(first._parts.replace_manifest)
        words_of(tmp_path)[5] -= 1
        second._parts.maintenance.run(second._parts.replace_manifest)
        assert second._parts.manifest.generation == first._parts.manifest.generation + 1
        assert first.get(b"key") == b"value"
