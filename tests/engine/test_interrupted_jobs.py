"""Jobs that are interrupted: by signals at any step, and by any exception at any step or line."""

import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import pytest

import kvengine
from kvengine import Store
from kvengine.engine.jobs import compactor, copying, maintenance
from kvengine.testing.check import check_store
from kvengine.testing.crashing import CrashedFolder, KeptDirectory, folder_of
from kvengine.testing.faulty import Step
from kvengine.testing.history import OPTIONS, History, content_of, open_history, random_changes

LONG = os.environ.get("KVENGINE_LONG") == "1"
ERRORS = (KeyboardInterrupt, SystemExit, MemoryError, RuntimeError)
CALLS = ("compact", "checkpoint", "flush", "close")


def used(seed: int = 1, writes: int = 60) -> History:
    """Return a store with several segments, dead records, a saved index and key runs."""
    history = open_history(KeptDirectory(), durability="os", compaction="manual")
    source = random.Random(seed)
    for number in range(writes):
        history.write(random_changes(source))
        if number == writes // 2:
            history.attempt("checkpoint")
    return history


def call_on(history: History, call: str) -> None:
    """Call a method of the store, or let it do what the background does."""
    if call == "flush":
        history.store._parts.maintenance.run(lambda: background(history.store))
    else:
        getattr(history.store, call)()


def background(store: Store) -> None:
    """Close segments, write new keys to a run and merge runs, then compact and save the index."""
    maintenance.work(store._parts)
    maintenance.compact_in_background(store._parts)
    store._parts.merge_keys(everything=True)


def steps_of(call: str) -> range:
    """Return the numbers of the steps that a call takes on a store as used() makes it."""
    history = used()
    first = len(history.directory.steps) + 1
    call_on(history, call)
    found = range(first, len(history.directory.steps) + 1)
    history.store.close()
    return found


def check_going_on(history: History, where: str) -> None:
    """The store that was interrupted goes on; a reopen, after a crash too, shows what it showed."""
    store, directory = history.store, history.directory
    expected = history.states[store._parts.applied_version]
    killed = {name: directory.inner.read(name) for name in directory.inner.names()}
    with Store._in_directory(folder_of(killed), **OPTIONS) as reopened:
        assert content_of(reopened) == expected, (where, "killed there")
    if not store.closed:
        assert content_of(store) == expected, where
        check_store(store)
        history.write([(b"probe", b"1")])
        expected = history.states[store.version]
        store.compact()
        store.sync()
        assert content_of(store) == expected, where
        check_store(store)
        power_cut = CrashedFolder(directory.recording, len(directory.steps)).folder("ordered")
        with Store._in_directory(power_cut, **OPTIONS) as reopened:
            assert content_of(reopened) == expected, where
    store.close()
    for rebuild in (False, True):
        with Store._in_directory(directory.inner, rebuild=rebuild, **OPTIONS) as reopened:
            assert content_of(reopened) == expected, (where, rebuild)
            check_store(reopened)
            names = set(directory.inner.names()) - {"MANIFEST", "CONTROL", "LOCK"}
            assert names == named(reopened), (where, rebuild)


def named(store: Store) -> set[str]:
    """Return the files that a store consists of."""
    index = store._parts.manifest.index
    derived = {*store._parts.manifest.key_runs, *([f"{index[0]:08x}.index"] if index else [])}
    return {f"{row.id:08x}.log" for row in store._parts.rows} | derived


# -- the thread of jobs hit by an exception


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("call", CALLS)
def test_any_exception_at_any_step_of_a_job_changes_nothing_or_everything(call, error):
    """The step after the rename of MANIFEST is the one that lost stores."""
    first, step = (0, 1) if LONG else (ERRORS.index(error), len(ERRORS))
    for number in steps_of(call)[first::step]:
        history = used()
        raised = []

        def strike(step: Step, number=number, raised=raised) -> None:
            if step.number == number and not raised:
                raised.append(f"{call}, step {number}: {step.operation} {step.name}")
                raise error("struck")

        history.directory.before = strike
        try:
            call_on(history, call)
        except error:
            assert raised
        history.directory.before = None
        check_going_on(history, f"{raised}, {error.__name__}")


class Tracer:
    """Raises an error at the n-th line that a thread runs in the files of the engine."""

    def __init__(self, at: int, error: type[BaseException]) -> None:
        self.at, self.error, self.count, self.place = at, error, 0, ""
        self.total = 0

    def __call__(self, frame, event, _argument):
        path = frame.f_code.co_filename
        if frame.f_code.co_name == "__del__":
            return None  # of the store of another test, which the collector finds meanwhile
        if "/kvengine/engine/" not in path:
            return self if event == "call" else None
        if event == "line":
            self.count += 1
            if self.count == self.at:
                self.place = f"{Path(path).name}:{frame.f_lineno}"
                raise self.error("struck")
        return self


def trace_jobs(store: Store, tracer: Tracer | None) -> None:
    store._parts.maintenance.run(lambda: sys.settrace(tracer))


def traced(call: str, at: int, error: type[BaseException]) -> tuple[History, Tracer]:
    history = used()
    tracer = Tracer(at, error)
    trace_jobs(history.store, tracer)
    try:
        call_on(history, call)
    except error:
        assert tracer.place
    tracer.total = tracer.count
    tracer.at = -1
    trace_jobs(history.store, None)
    return history, tracer


@pytest.mark.parametrize("call", ["compact", "checkpoint", "flush"])
def test_an_exception_at_any_line_of_a_job(call):
    history, tracer = traced(call, 0, MemoryError)
    total = tracer.total
    history.store.close()
    assert total > 100
    step = 1 if LONG else 1 + total // 120
    for at in range(1, total + 1, step):
        error = ERRORS[at % len(ERRORS)]
        history, tracer = traced(call, at, error)
        check_going_on(history, f"{call}, line {at} at {tracer.place}, {error.__name__}")


def test_a_store_whose_index_was_not_redirected_to_the_end_is_saved_right(monkeypatch):
    """The index must never be saved with addresses of segments that nothing lists."""
    history = used()
    store = history.store
    left = [1]

    class Struck(copying.Copier):
        def publish(self, slots):
            if left:
                left.pop()
                raise MemoryError
            return super().publish(slots)

    monkeypatch.setattr(compactor, "Copier", Struck)
    with pytest.raises(MemoryError):
        store.compact()
    assert store._parts.unfinished is not None
    assert content_of(store) == history.states[store.version]
    store.checkpoint()  # completes it first
    assert store._parts.unfinished is None
    check_going_on(history, "publish")


def test_which_manifest_is_there_can_not_be_known(monkeypatch):
    """Then nothing is removed, and the store says why it takes no writes."""
    history = used()
    store = history.store
    inner: Any = history.directory.inner
    expected = history.states[store.version]
    before = inner.content()

    def strike(step: Step) -> None:
        if step.operation == "sync-folder" and inner.read("MANIFEST") != before["MANIFEST"]:
            monkeypatch.setattr(history.directory, "read", refuse)
            raise OSError(5, "Input/output error")

    def refuse(name: str) -> bytes:
        raise OSError(5, f"Input/output error: {name}")

    history.directory.before = strike
    with pytest.raises(OSError, match="Input/output"):
        store.compact()
    history.directory.before = None
    with pytest.raises(kvengine.StoreReadOnly, match="can't determine which manifest"):
        store.put(b"more", b"")
    assert content_of(store) == expected
    store.close()
    assert before.keys() <= inner.content().keys()
    with Store._in_directory(inner, **OPTIONS) as reopened:
        assert content_of(reopened) == expected
        check_store(reopened)


# -- the caller interrupted by signals


class Alarm(Exception):
    """What a handler of a signal raises."""


@pytest.fixture
def usr1():
    """SIGUSR1 raises Alarm in the main thread, as a handler of SIGTERM may."""

    def handle(number, frame):
        raise Alarm

    before = signal.signal(signal.SIGUSR1, handle)
    yield signal.SIGUSR1
    signal.signal(signal.SIGUSR1, before)


@pytest.mark.parametrize("call", CALLS)
def test_a_real_signal_at_any_step(call, usr1):
    interrupted = 0
    for number in steps_of(call)[:: 1 if LONG else 2]:
        history = used()

        def send(step: Step, number=number) -> None:
            if step.number == number:
                os.kill(os.getpid(), usr1)

        history.directory.before = send
        try:
            call_on(history, call)
        except Alarm:
            interrupted += 1
        history.directory.before = None
        check_going_on(history, f"{call}, step {number}")
    assert interrupted > 3


def test_ctrl_c_ends_the_wait_for_a_job_that_can_not_stop_yet(usr1):
    """The caller is free at once; the job goes on to its next safe point, then the store works."""
    history = used()
    store = history.store
    waits, go_on = threading.Event(), threading.Event()

    def block(step: Step) -> None:
        if step.operation == "create" and step.name.endswith(".log") and not waits.is_set():
            waits.set()
            os.kill(os.getpid(), usr1)
            assert go_on.wait(60)

    history.directory.before = block
    with pytest.raises(Alarm):
        store.compact()  # returns though the job is still blocked
    assert waits.is_set()
    go_on.set()
    history.directory.before = None
    check_going_on(history, "blocked")


PROGRAM = """
import signal, sys
import kvengine
path, call, target = sys.argv[1:]
store = kvengine.Store(path, segment_bytes=4096, key_buffer_entries=16, compaction="manual")
print("ready", flush=True)
try:
    getattr(store, call)(*([target] if call == "backup" else []))
except KeyboardInterrupt:
    print("interrupted", flush=True)
try:
    if not store.closed:
        store.put(b"after", b"1")
        store.compact()
        store.close()
except KeyboardInterrupt:  # the signal came between two of these lines
    pass
"""
SYSCALLS = ("fsync", "fdatasync", "rename", "renameat", "unlinkat", "ftruncate", "pwrite64")


@pytest.mark.skipif(not Path("/usr/bin/strace").exists(), reason="needs strace")
@pytest.mark.parametrize(
    "call", ["compact", "checkpoint", "close", "backup"] if LONG else ["compact", "backup"]
)
def test_sigint_at_system_calls_of_a_process(tmp_path, call):
    expected = {}
    template = tmp_path / "template"
    with Store(template, **OPTIONS, durability="os", compaction="manual") as store:
        for number in range(150):
            expected[b"%d" % (number % 40)] = b"value %d " % number * 20
            store.put(b"%d" % (number % 40), expected[b"%d" % (number % 40)])
    program = tmp_path / "program.py"
    program.write_text(textwrap.dedent(PROGRAM))
    points = [("fsync", 2), ("renameat", 1), ("futex", 9)]
    if LONG:
        points = [(name, at) for name in SYSCALLS for at in range(1, 10)]
        points += [("futex", at) for at in range(1, 60)]
    for name, at in points:
        path, target = tmp_path / f"{name}{at}", tmp_path / f"{name}{at}-copy"
        subprocess.run(["cp", "-r", template, path], check=True)
        inject = f"inject={name}:signal=SIGINT:when={at}"
        command = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={name}", "-e", inject]
        arguments = [sys.executable, program, path, call, target]
        subprocess.run([*command, *arguments], stdout=subprocess.DEVNULL, check=False, timeout=60)
        for rebuild in (False, True):
            with Store(path, rebuild=rebuild) as store:
                found = dict(store.items())
                found.pop(b"after", None)
                assert found == expected, (name, at)
                check_store(store)
