"""Requests that are interrupted, calls from inside: no hang, and nobody gets another's answer."""

import gc
import importlib.util
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import kvengine
from tests.server.running import TOKEN, running

ROOT = Path(__file__).parent.parent.parent
PARTS = ("httpcore", "httpx", "h11", "/kvengine/client/")
STEP = 17  # lines from one interruption to the next

INSIDE = """
import faulthandler, gc, signal, sys, threading, time
import kvengine
from kvengine import Edge, KvError

url, token, how = sys.argv[1:]
faulthandler.dump_traceback_later(80, exit=True)
calls, refused, wrong, here = 0, 0, [], threading.local()

with Edge(url, token=token, cache_ttl_s=0.001, timeout_s=60) as edge, \\
        kvengine.connect(url, token=token) as far:
    kv, remote = edge.namespace("n"), far.namespace("n")

    def again(*_):
        global calls, refused
        depth = here.depth = getattr(here, "depth", 0) + 1  # the collector runs in any thread
        calls += 1
        mine, key = str(calls), f"own {threading.get_ident()} {depth}"
        try:
            if depth < 3:
                place = kv if calls % 2 else remote
                place.put(key, mine)
                if place.get(key) != mine:
                    wrong.append(key)
                kv.get(f"k{calls % 50}")
        except KvError as error:
            if "interrupted another read" not in str(error):
                wrong.append(str(error))
            refused += 1
        finally:
            here.depth -= 1

    class Noisy:
        def __del__(self):
            again()

    if how == "signals":
        signal.signal(signal.SIGALRM, again)
        signal.setitimer(signal.ITIMER_REAL, 0.02, 0.011)
    end = time.monotonic() + 2
    number = 0
    while time.monotonic() < end:
        number += 1
        if how == "finalizers":
            gc.set_threshold((30, 100, 700)[number % 3])
            noisy = Noisy()
            noisy.self = noisy  # freed by the collector, wherever that runs
            del noisy
        kv.get(f"k{number % 50}")
        kv.get_many([f"k{one}" for one in range(20)])
        remote.get("k1")
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    gc.collect()
    assert not wrong, wrong[:5]
    assert calls > 10 and refused < calls, (calls, refused)
print("ended")
"""


@pytest.fixture(scope="module")
def server():
    with running(limits="relaxed") as found:
        found.db.namespace("n").put_many({f"k{number}": f"v{number}" for number in range(50)})
        yield found


@pytest.mark.parametrize("how", ["signals", "finalizers"])
def test_signal_handlers_and_finalizers_call_a_server(server, how):
    """Reads wait 60 seconds for an answer here, so one that waits for itself does not end."""
    done = subprocess.run(
        [sys.executable, "-c", INSIDE, server.url, TOKEN, how],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=100,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "ended\n"), done.stderr[-5000:]


class Interrupted(BaseException):
    """What Ctrl-C raises, in short."""


class AtLine:
    """Raises Interrupted at one line of the client or the HTTP library."""

    def __init__(self, line):
        self.left = line

    def __call__(self, frame, event, arg):
        return self.trace if any(part in frame.f_code.co_filename for part in PARTS) else None

    def trace(self, frame, event, arg):
        if event == "line":
            self.left -= 1
            if self.left == -1:
                raise Interrupted
        return self.trace


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # sockets let go
def test_a_request_interrupted_at_any_line_leaves_no_answer_to_the_next(server):
    secrets = {f"s{number}": f"{number} " * (1 + 9000 * (number % 2)) for number in range(8)}
    server.db.namespace("n").put_many(secrets)
    names = list(secrets)
    before, line, is_over = sys.gettrace(), 0, False
    with kvengine.connect(server.url, token=TOKEN) as far:
        kv = far.namespace("n")
        while not is_over:
            name, following = names[line % 8], names[(line + 1) % 8]
            at_line = AtLine(line)
            sys.settrace(at_line)
            try:
                assert kv.get(name) == secrets[name]
                is_over = at_line.left >= 0
            except Interrupted:
                pass
            finally:
                sys.settrace(before)
            assert kv.get(following) == secrets[following]
            line += STEP
    gc.collect()
    assert line > 30 * STEP


FOLLOWED_S = 20  # without the alarm


def give_up(*_):
    raise TimeoutError("the alarm of a user")


@pytest.mark.parametrize("what", ["calls", "changes", "log"])
def test_an_alarm_is_not_taken_for_a_broken_connection(server, what):
    """Else who follows would connect again, and never hear of it."""
    before = signal.signal(signal.SIGALRM, give_up)
    with kvengine.connect(server.url, token=TOKEN) as far:
        kv, version = far.namespace("n"), far.version
        calls = {
            "calls": lambda: [kv.get("k1") for _ in range(10**6)],
            "changes": lambda: list(far.tail(version, follow=True, timeout=FOLLOWED_S)),
            "log": lambda: list(far.log_source().tail(version, follow=True, timeout=FOLLOWED_S)),
        }
        signal.setitimer(signal.ITIMER_REAL, 0.5)
        try:
            with pytest.raises(TimeoutError, match="the alarm of a user"):
                calls[what]()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        assert kv.get("k1") == "v1"


GREEN = {
    "gevent": "from gevent import monkey; monkey.patch_all()",
    "eventlet": "import eventlet; eventlet.monkey_patch()",
}
NOBODY_LISTENS = """
import kvengine
try:
    kvengine.connect("http://127.0.0.1:1", token="t").namespace("n")
except kvengine.UpstreamUnavailable:
    print("unavailable")
"""


@pytest.mark.parametrize("library", GREEN)
def test_errors_of_green_sockets_are_no_errors_of_a_handler(library: str) -> None:
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    done = subprocess.run(
        [sys.executable, "-c", GREEN[library] + NOBODY_LISTENS],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.stdout == "unavailable\n", done.stderr


CTRL_C_IN_A_LOCK = """
import faulthandler, sys
import httpcore._synchronization as locks
import kvengine

faulthandler.dump_traceback_later(60, exit=True)
url, token = sys.argv[1:]
with kvengine.connect(url, token=token) as db:
    kv = db.namespace("n")
    kv.put("k", "v")
    for lock in locks.ThreadLock, locks.Lock:
        enter = lock.__enter__

        def interrupted(self):
            enter(self)
            raise KeyboardInterrupt  # the lock is taken, and nobody gives it back

        lock.__enter__ = interrupted
        for _ in range(3):
            try:
                assert kv.get("k") == "v"
                assert db._connection.post("/v1/version", b"", new=True)
            except KeyboardInterrupt:
                pass
        lock.__enter__ = enter
        assert kv.get("k") == "v"
"""


def test_ctrl_c_leaves_no_lock_of_the_library() -> None:
    with running() as server:
        done = subprocess.run(
            [sys.executable, "-c", CTRL_C_IN_A_LOCK, server.url, TOKEN],
            cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
