"""An edge in another process than the writer: real processes, real kills."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import kvengine
from kvengine import Edge

ROOT = Path(__file__).parent.parent.parent

# Answers one line with an expression by one line with its value.
WRITER = """
import sys, kvengine
db = kvengine.open(sys.argv[1], durability="group", segment_bytes=65536)
kv = db.namespace("n")
print("ready", flush=True)
for line in sys.stdin:
    print(eval(line), flush=True)
"""


class Writer:
    """The process that has the database open for writing."""

    def __init__(self, path):
        self.process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            cwd=ROOT,
        )
        assert self.process.stdout.readline() == "ready\n"

    def ask(self, line):
        self.process.stdin.write(line + "\n")
        return self.process.stdout.readline().strip()

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.end()

    def end(self):
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


@pytest.fixture
def writers(tmp_path):
    """Start writers of one database; it returns the newest."""
    started = []

    def start():
        started.append(Writer(tmp_path / "db"))
        return started[-1]

    yield start
    for writer in started:
        if writer.process.poll() is None:
            writer.end()


def until(condition, seconds=60.0):
    """Wait for what another process has done."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


def test_what_another_process_writes_is_seen(writers, tmp_path):
    writer = writers()
    with (
        kvengine.open(tmp_path / "db", read_only=True) as db,
        Edge(db, "up") as up,
        Edge(up, "leaf") as leaf,
    ):
        kv, below = up.namespace("n"), leaf.namespace("n")
        for number in range(50):
            for one in (kv, below):
                assert one.get(f"new{number}") is None
            version = int(writer.ask(f"kv.put('new{number}', '{number}')"))
            for one in (below, kv):  # a new key at once
                assert one.get(f"new{number}") == str(number)
            assert below.get("new0", min_version=version) == "0"
        for number in range(20):
            writer.ask(f"kv.put('new1', 'changed {number}')")
            until(lambda number=number: below.get("new1") == f"changed {number}")
            assert below.read("new1").cache_status == "HIT"
        writer.ask("kv.delete('new2')")
        until(lambda: below.get("new2") is None)
        assert "new2" not in {info.name for info in below.keys("")}
        assert below.count() == 49
        counters = leaf.stats().counters
        assert counters.propagation.count == counters.changes > 0


def test_always_current_in_another_process(writers, tmp_path):
    writer = writers()
    with (
        kvengine.open(tmp_path / "db", read_only=True) as db,
        Edge(db, always_current=True) as edge,
    ):
        kv = edge.namespace("n")
        for number in range(100):
            writer.ask(f"kv.put('k', '{number}')")
            assert kv.get("k") == str(number)


def test_a_writer_that_is_killed_and_comes_back(writers, tmp_path):
    writer = writers()
    writer.ask("kv.put('k', 'first')")
    with kvengine.open(tmp_path / "db", read_only=True) as db, Edge(db) as edge:
        kv, seen = edge.namespace("n"), 0
        for turn in range(4):
            for number in range(10):
                writer.ask(f"kv.put('k', '{turn}/{number}')")
                version = int(writer.ask(f"kv.put('count', '{turn * 10 + number}')"))
                assert int(kv.get("count", min_version=version)) == turn * 10 + number
            writer.kill()
            assert kv.get("k", min_version=version) == f"{turn}/9"  # nobody is needed to read
            assert kv.get("none") is None
            writer = writers()
            assert int(writer.ask("kv.get('count')")) >= seen  # what was acknowledged is there
            seen = turn * 10 + 9
            writer.ask(f"kv.put('k', 'after {turn}')")
            until(lambda turn=turn: kv.get("k") == f"after {turn}")
        assert edge.stats().counters.propagation.count > 0
        assert edge.stats().connected


EDGE = """
import sys, kvengine
with kvengine.open(sys.argv[1], read_only=True) as db, kvengine.Edge(db, path=sys.argv[2]) as edge:
    kv = edge.namespace("n")
    print("ready", flush=True)
    for line in sys.stdin:
        print(eval(line), flush=True)
"""


def test_an_edge_that_is_killed_keeps_its_copies_and_goes_not_back(writers, tmp_path):
    writer = writers()
    writer.ask("kv.put_many({f'k{n}': 'old' for n in range(100)}).ok")
    for turn in range(3):
        edge = subprocess.Popen(
            [sys.executable, "-c", EDGE, str(tmp_path / "db"), str(tmp_path / "copies")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            cwd=ROOT,
        )
        assert edge.stdout.readline() == "ready\n"

        def ask(line, edge=edge):
            edge.stdin.write(line + "\n")
            return edge.stdout.readline().strip()

        if turn:
            until(lambda: float(ask("edge.stats().lag_seconds")) < 60)
        expected = ["old"] * 100
        for changed in range(turn):
            expected[changed] = f"new{changed}"
        assert ask("[kv.get(f'k{n}') for n in range(100)]") == str(expected)
        if turn:
            assert int(ask("edge.stats().counters.disk_hits")) >= 90
        edge.send_signal(signal.SIGKILL)
        edge.wait()
        edge.stdin.close()
        edge.stdout.close()
        writer.ask(f"kv.put('k{turn}', 'new{turn}')")
