"""Real signals: at each call of the system, with handlers that raise and handlers that write."""

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from kvengine import KvError, Store
from kvengine.file.local import LocalDirectory
from kvengine.testing.check import check_store
from kvengine.testing.faulty import FaultyDirectory
from tests.interrupt.points import LONG, TRIED, check_going_on, check_reopened, differences
from tests.interrupt.scenarios import JOBS, SMALL, WRITES, content, copy_of

ROOT = Path(__file__).parent.parent.parent
CALLS = [
    scenario
    for scenario in (*WRITES, *JOBS)
    if scenario.name not in ("verify", "digest", "stats", "put os")
]


class Interrupter:
    """Sends this process a real signal just before the n-th change of a folder."""

    def __init__(self, at: int) -> None:
        self.at, self.sent = at, False

    def __call__(self, _: object) -> None:
        self.at -= 1
        if self.at == 0:
            self.sent = True
            os.kill(os.getpid(), signal.SIGUSR1)


def interrupted(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


@pytest.fixture
def handler():
    """Set the handler of SIGUSR1: that of SIGINT belongs to pytest."""
    before = signal.getsignal(signal.SIGUSR1)
    yield lambda handle: signal.signal(signal.SIGUSR1, handle)
    signal.signal(signal.SIGUSR1, before)


def make_call(scenario, store, begun) -> BaseException | None:
    """Make a call; return what it raised, or what a handler raised while it ran."""
    try:
        scenario.act(store, begun)
        for _ in range(3):
            time.sleep(0)  # a signal that came to another thread is handled here at the latest
    except (KeyboardInterrupt, KvError) as error:
        return error
    return None


def recording_store(path: Path) -> tuple[Store, FaultyDirectory]:
    directory = FaultyDirectory(LocalDirectory(str(path)))
    return Store._in_directory(directory, **SMALL), directory


def steps_of(template: Path, folder: Path, scenario) -> int:
    """Return how often a call changes the folder."""
    store, directory = recording_store(copy_of(template, folder / "store"))
    begun = scenario.begin(store)
    before = len(directory.steps)
    scenario.act(store, begun)
    store.close()
    return len(directory.steps) - before


@pytest.mark.parametrize("scenario", CALLS, ids=lambda s: s.name)
def test_a_handler_that_raises_at_each_change_of_the_folder(template, folder, handler, scenario):
    handler(interrupted)
    for at in range(1, steps_of(template, folder, scenario) + 1):
        path = copy_of(template, folder / "store")
        store, directory = recording_store(path)
        begun = scenario.begin(store)
        before = content(store)
        directory.before = Interrupter(at)
        raised = make_call(scenario, store, begun)
        where = f"{scenario.name}: a signal before step {at}"
        directory.before = None
        state = check_going_on(store, where)
        assert scenario.allows(before, state), f"{where}: {differences(state, before)}"
        if raised is None and scenario.after is not None:
            assert state == scenario.after(dict(before)), where
        store.close()
        check_reopened(path, state, where)
        check_reopened(path, state, where, rebuild=True)
        TRIED["by signals"] += 1


@pytest.mark.parametrize("scenario", CALLS, ids=lambda s: s.name)
def test_a_handler_that_writes_at_each_change_of_the_folder(template, folder, handler, scenario):
    """A write within a write works, or is refused at once; nothing hangs."""
    for at in range(1, steps_of(template, folder, scenario) + 1):
        path = copy_of(template, folder / "store")
        store, directory = recording_store(path)
        begun = scenario.begin(store)
        before = content(store)
        written: list[bytes] = []

        def write(_number, _frame, store=store, written=written):
            store.put(b"~handler", b"1")
            assert store.get(b"~handler") == b"1"
            written.append(b"~handler")

        handler(write)
        directory.before = Interrupter(at)
        raised = make_call(scenario, store, begun)
        where = f"{scenario.name}: a handler writes before step {at}"
        directory.before = None
        state = check_going_on(store, where)
        assert (b"~handler" in state) == bool(written), f"{where}: {raised!r}"
        state.pop(b"~handler", None)
        assert scenario.allows(before, state), f"{where}: {differences(state, before)}"
        expected = content(store)
        store.close()
        check_reopened(path, expected, where)
        check_reopened(path, expected, where, rebuild=True)
        TRIED["by handlers that write"] += 1


CHILD = textwrap.dedent("""
    import signal, sys
    from kvengine import Store
    SMALL = dict(segment_bytes=4096, key_buffer_entries=16, compaction="manual")
    path, call, acknowledged = sys.argv[1], sys.argv[2], 0
    store = None
    try:
        store = Store(path, **SMALL)
        print("open", flush=True)
        for n in range(30):
            store.put(b"child %02d" % n, b"c" * 200)
            print("put", n, flush=True)
        getattr(store, call)()
        print("done", flush=True)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
        if store is not None:
            store.put(b"afterwards", b"1")
            print("afterwards", flush=True)
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    if store is not None:
        store.close()
        print("closed", flush=True)
""")
SYSTEM_CALLS = (
    "pwrite64,write,ftruncate,fallocate,fsync,fdatasync,rename,renameat,renameat2,unlink,unlinkat,"
    "openat"
)


def run_child(path: Path, call: str, at: int) -> tuple[list[str], bool]:
    """Run the child with SIGINT at its n-th system call; return its lines, and if one was sent."""
    trace = path.parent / "trace"
    command = ["strace", "-f", "-qq", "-o", str(trace), "-e", f"trace={SYSTEM_CALLS}"]
    for name in SYSTEM_CALLS.split(","):
        command += ["-e", f"inject={name}:signal=SIGINT:when={at}"]
    done = subprocess.run(
        [*command, sys.executable, "-c", CHILD, str(path), call],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
        timeout=60,
    )
    assert done.returncode in (0, 1, 130, -signal.SIGINT), done.stderr
    return done.stdout.splitlines(), "SIGINT" in trace.read_text()


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
@pytest.mark.parametrize("call", ["compact", "checkpoint", "sync", "close"])
def test_ctrl_c_at_system_calls(template, folder, call):
    """Whatever the child acknowledged is there; the store opens, and is whole."""
    path = folder / "store"
    for at in range(1, 60) if LONG else range(3, 40, 6):
        copy_of(template, path)
        lines, _ = run_child(path, call, at)
        with Store(path, **SMALL) as store:
            found = content(store)
            check_store(store)
        where = f"{call}, SIGINT at system call {at}: {lines}"
        for line in lines:
            if line.startswith("put "):
                assert b"child %02d" % int(line[4:]) in found, where
        if "afterwards" in lines:
            assert b"afterwards" in found, where
        assert "closed" in lines or "open" not in lines, where
        check_reopened(path, found, where, rebuild=True)
        TRIED["by Ctrl-C at system calls"] += 1
