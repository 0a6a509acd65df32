"""One process writes and others read: what each sees, what each may do, and who is told what.

A reader sees a change as soon as the call that made it has returned, in whole batches, and never
goes back, whatever the writer does: compact, save the index, close, open again, or die.
"""

import ast
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kvengine import Store, StoreLocked, verify
from kvengine.engine.jobs import maintenance
from kvengine.testing.check import check_store

ROOT = Path(__file__).parent.parent.parent
SMALL = {"durability": "os", "segment_bytes": 16384, "key_buffer_entries": 64}
PATIENCE_S = 60

# Answers one line with an expression by one line with its value.
AGENT = """
import os, sys, kvengine
path = sys.argv[1]
for line in sys.stdin:
    try:
        if line.startswith("open "):
            store = kvengine.Store(path, **eval(line[5:]))
            answer = "opened"
        else:
            answer = eval(line)
    except Exception as error:
        answer = (type(error).__name__, str(error))
    print(repr(answer), flush=True)
"""

# Opens, writes, compacts, saves the index and closes, over and over.  Each batch gives the first
# three keys the same value; each other value says which version wrote it.
WRITER = """
import random, sys, kvengine
source = random.Random(int(sys.argv[2]))
options = {"durability": "os", "segment_bytes": 16384, "key_buffer_entries": 64}
while True:
    with kvengine.Store(sys.argv[1], **options, checkpoint_records=500) as store:
        print(store.version, flush=True)
        for turn in range(source.randrange(20, 400)):
            version = store.version
            with store.batch() as batch:
                for key in range(3):
                    batch.put(b"same %d" % key, b"%d" % version)
                for more in range(source.choice([0, 2, 90])):
                    number = source.randrange(300)
                    batch.put(b"key %03d" % number, b"%d " % (version + 4 + more) * number)
            if source.random() < 0.01:
                source.choice([store.compact, store.checkpoint])()
"""

# Opens and follows until the writer has gone far enough; exits with an error if anything is wrong.
READER = """
import sys, time, kvengine
path, goal, deadline = sys.argv[1], int(sys.argv[2]), time.monotonic() + 60
newest, opened = 0, 0
while newest < goal or opened < 20:
    assert time.monotonic() < deadline, (newest, opened)
    with kvengine.Store(path, read_only=True) as store:
        opened += 1
        for look in range(1 + opened % 7 * 5):
            version = store.version
            assert version >= newest, (version, newest)
            newest = version
            same = store.get_many([b"same 0", b"same 1", b"same 2"])
            assert same[0] == same[1] == same[2], same
            for entry in store.scan(b"key"):
                number = int(entry.key[4:])
                assert entry.value == b"%d " % entry.version * number, entry
        changes = [change.version for change in store.tail()]
        assert changes == sorted(set(changes)) and changes[-1] >= newest
print(newest)
"""


def run_python(code, *arguments, **options):
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        **options,
    )


class Agent:
    """Another process that does what it is asked."""

    def __init__(self, path):
        self.process = run_python(AGENT, path)
        self.pid = self.process.pid

    def tell(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def answer(self):
        return ast.literal_eval(self.process.stdout.readline())

    def ask(self, line):
        self.tell(line)
        return self.answer()


@pytest.fixture
def start(tmp_path):
    """Start an agent for the store of the test."""
    agents = []

    def start(options=None):
        agents.append(Agent(tmp_path / "store"))
        if options is not None:
            assert agents[-1].ask(f"open {options!r}") == "opened"
        return agents[-1]

    yield start
    for agent in agents:
        agent.process.kill()
        agent.process.communicate()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "store"


# -- what a reader sees


@pytest.mark.parametrize("durability", ["os", "interval", "group", "sync"])
def test_each_reader_sees_a_change_when_the_call_has_returned(path, start, durability):
    with Store(path, durability=durability) as store:
        readers = [start({"read_only": True}) for _ in range(3)]
        for number in range(30):
            version = store.put(b"key", b"%d" % number, metadata=b"m", expires_at=2e9 + number)
            for reader in readers:
                answer = reader.ask("tuple(store.get_entry(b'key'))")
                assert answer == (b"key", b"%d" % number, b"m", 2e9 + number, version)
        store.delete(b"key")
        assert [reader.ask("b'key' in store") for reader in readers] == [False] * 3


def test_every_way_to_read(path, start):
    with Store(path, **SMALL) as store:
        reader = start({"read_only": True})
        for turn in range(4):
            store.update({b"%03d" % n: b"%d " % turn * n for n in range(turn, 300, turn + 1)})
            for number in range(0, 300, 7):
                store.delete(b"%03d" % number)
            if turn == 2:
                store.compact()
            expected = dict(store.items())
            assert reader.ask("store.version") == store.version
            assert reader.ask("len(store)") == len(expected)
            assert reader.ask("list(store.keys())") == list(expected)
            assert reader.ask("list(store.keys(b'1', reverse=True, limit=5))") == list(
                store.keys(b"1", reverse=True, limit=5)
            )
            assert reader.ask("[tuple(entry) for entry in store.scan()]") == list(store.scan())
            assert reader.ask("store.get_many([b'%03d' % n for n in range(300)])") == (
                store.get_many([b"%03d" % n for n in range(300)])
            )
            assert reader.ask("bytes(store.get_view(b'299'))") == expected[b"299"]
            assert reader.ask("(store.get(b'000'), store.get_view(b'000'))") == (None, None)
            seen = {c[2]: c[:2] for c in reader.ask("[tuple(change) for change in store.tail()]")}
            assert {k: v for k, v in seen.items() if v[1] == "put"} == {
                entry.key: (entry.version, "put") for entry in store.scan()
            }
            figures = "(s := store.stats()) and (s.keys, s.version, s.live_bytes, s.read_only)"
            stats = store.stats()
            assert reader.ask(figures) == (stats.keys, stats.version, stats.live_bytes, True)
            assert reader.ask("store.verify().problems") == ()
            assert verify(path).problems == ()
            backup = path.with_name(f"backup {turn}")
            assert reader.ask(f"store.backup({str(backup)!r})") == store.version
            with Store(backup) as copy:
                assert dict(copy) == expected


def test_a_view_of_a_reader_outlives_compaction(path, start):
    with Store(path, **SMALL) as store:
        store[b"key"] = b"first" * 1000
        reader = start({"read_only": True})
        assert reader.ask("globals().update(view=store.get_view(b'key'))") is None
        store.update({b"key": b"second", b"other": b"x" * 50_000})
        store.compact()
        assert reader.ask("(store[b'key'], bytes(view))") == (b"second", b"first" * 1000)


@pytest.mark.parametrize(
    ("kill", "goal"), [(False, 20_000), (True, 5000)], ids=["closes", "is killed"]
)
def test_readers_open_and_read_whatever_the_writer_does(path, kill, goal):
    """Each reader checks batches, values and that it never goes back; see READER."""
    with Store(path, **SMALL) as store, store.batch() as batch:
        for key in range(3):
            batch.put(b"same %d" % key, b"")
    writer = run_python(WRITER, path, 0)
    readers = [run_python(READER, path, goal) for _ in range(2)]
    generation = 0
    while any(reader.poll() is None for reader in readers):
        assert writer.poll() is None, "the writer failed"
        if kill:
            generation += 1
            writer.stdout.readline()
            time.sleep(0.05)
            writer.send_signal(signal.SIGKILL)
            writer.communicate()
            writer = run_python(WRITER, path, generation)
        else:
            writer.stdout.readline()
    writer.kill()
    writer.communicate()
    reached = [int(reader.communicate()[0] or -1) for reader in readers]
    assert [reader.returncode for reader in readers] == [0, 0]
    with Store(path, **SMALL) as store:
        assert store.version >= max(reached) >= goal
        check_store(store)


def test_readers_go_on_after_the_writer_was_killed(path, start):
    reader = start()
    writer = start(SMALL)
    assert writer.ask("[store.put(b'%d' % n, b'v' * n) for n in range(200)][-1]") == 200
    assert reader.ask("open {'read_only': True}") == "opened"
    assert writer.ask("store.put(b'last', b'words')") == 201
    os.kill(writer.pid, signal.SIGKILL)
    writer.process.wait()
    everything = "[(entry.key, entry.value) for entry in store.scan()]"
    expected = sorted([(b"%d" % n, b"v" * n) for n in range(200)] + [(b"last", b"words")])
    assert reader.ask(everything) == expected
    late = start({"read_only": True})
    assert late.ask(everything) == expected
    heir = start(SMALL)
    assert heir.ask("store.put(b'next', b'')") == 202
    for each in (reader, late):
        assert each.ask("store.version") == 202
        assert each.ask("list(store.keys(b'n'))") == [b"next"]


def test_the_heir_of_a_killed_writer_closes_what_it_left(path, tmp_path):
    """All is on disk already, so nothing need be synced; then files are closed, then one is."""
    with Store(path, **SMALL, compaction="manual") as store:
        with store._parts.jobs:  # keeps the background from closing segments
            for number in range(1000):
                store[b"%04d" % number] = bytes(100)
            store._parts.maintenance.run(
                store._parts.replace_manifest
            )  # names them all, open as they are
            shutil.copytree(path, tmp_path / "killed")
        with Store(tmp_path / "killed", **SMALL) as heir:
            heir._parts.maintenance.run(lambda: maintenance.work(heir._parts))
            heir[b"more"] = b""
            heir.sync()
            assert len(heir) == 1001
            check_store(heir)


# -- who may do what


def test_of_many_writers_one_wins_and_the_others_hear_of_it(path, start):
    agents = [start() for _ in range(4)]
    for agent in agents:
        agent.tell("open {'durability': 'os', 'exclusive': True}")
    answers = {agent: agent.answer() for agent in agents}
    winners = [agent for agent, answer in answers.items() if answer == "opened"]
    assert len(winners) == 1
    assert winners[0].ask("store.put(b'key', b'value')") == 1
    for agent in set(agents) - set(winners):
        assert answers[agent][0] == "StoreLocked"
        kind, text = agent.ask("kvengine.Store(path)")
        assert kind == "StoreLocked"
        assert f"{path} is open for writing in process {winners[0].pid}," in text
        assert "close the store in all other processes, or open it with read_only=True" in text
    with pytest.raises(StoreLocked) as refusal:
        Store(path)
    assert refusal.value.pid == winners[0].pid
    assert winners[0].ask("store.close()") is None
    with Store(path) as store:
        assert store[b"key"] == b"value"


def test_a_reader_may_not_write_and_nothing_changes(path, start):
    with Store(path, **SMALL) as store:
        store[b"key"] = b"value"
        reader = start({"read_only": True})
        for call in (
            "store.put(b'key', b'')",
            "store.delete(b'key')",
            "store.batch().put(b'key', b'') or (b := store.batch()).put(b'a', b'') or b.commit()",
            "store.update({b'key': b''})",
            "store.clear()",
            "store.compact()",
            "store.checkpoint()",
        ):
            answer = reader.ask(call)
            assert answer == ("StoreReadOnly", "the store was opened with read_only=True"), call
        assert store.version == 1
        assert reader.ask("store[b'key']") == store[b"key"] == b"value"
