"""Every byte of every kind of file is changed, every file is cut at every length.

Set KVENGINE_LONG=1 for all bits of all bytes instead of one.
"""

import json
import os
import random
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import kvengine
from kvengine.testing.history import content_of
from tests.crash.damage import Damage, Expectation, Judge

ROOT = Path(__file__).parent.parent.parent
LONG = os.environ.get("KVENGINE_LONG") == "1"
PARTS = 8 if LONG else 2

KILLED = """
import os, signal, sys, kvengine
store = kvengine.Store(sys.argv[1], durability="os", compaction="manual", segment_bytes=4096)
for number in range(8):
    store.put(b"kept %d" % number, b"%d" % number * 40)
store.sync()
for number in range(3):
    store.put(b"late %d" % number, b"%d" % number * 30)
with store.batch() as batch:
    batch.put(b"pair 1", b"one"); batch.put(b"pair 2", b"two"); batch.delete(b"kept 3")
store.put(b"last", b"x" * 50)
os.kill(os.getpid(), signal.SIGKILL)
"""


def closed_store(path: Path) -> Expectation:
    """Make a store with a compacted, a closed and an open segment, saved index and key runs."""
    options = {"segment_bytes": 4096, "key_buffer_entries": 16, "compaction": "manual"}
    with kvengine.Store(path, durability="os", **options) as store:
        for number in range(14):
            store.put(b"old %02d" % number, b"o" * number * 4)
        for number in range(0, 14, 3):
            store.delete(b"old %02d" % number)
        store.compact()
        for number in range(5):
            store.put(b"new %02d" % number, bytes([number]) * 30, metadata=b"m" * number)
        store._parts.end_active_segment()
        store.checkpoint()
        store.put(b"large", b"L" * 700)
        store.put(b"old 01", b"again", expires_at=32503680000)
        with store.batch() as batch:
            batch.put(b"in a batch", b"1")
            batch.delete(b"new 01")
        # As a replica takes them over: versions are missing before both.
        store._parts.apply((kvengine.Change(store.version + 5, "put", b"gap", b"2", b"", None),))
        store._parts.apply((kvengine.Change(store.version + 2, "put", b"gap 2", b"2", b"", None),))
        version, state = store.version, content_of(store)
    names = {name.suffix for name in path.iterdir()}
    assert {".log", ".index", ".keys"} <= names
    assert len(list(path.glob("*.log"))) == 3
    return Expectation({version: state}, version)


def killed_store(path: Path, *, other_boot: bool) -> Expectation:
    """Make a store whose writer was killed; the last writes were never synced.

    With `other_boot` the control page says nothing of them, as after a power cut.
    """
    child = subprocess.run([sys.executable, "-c", KILLED, str(path)], cwd=ROOT, check=False)
    assert child.returncode == -signal.SIGKILL
    files = {file.name: file.read_bytes() for file in path.iterdir()}
    state = {b"kept %d" % n: (b"%d" % n * 40, n + 1) for n in range(8)}
    states = {8: dict(state)}
    for number in range(3):
        state[b"late %d" % number] = (b"%d" % number * 30, 9 + number)
        states[9 + number] = dict(state)
    state |= {b"pair 1": (b"one", 12), b"pair 2": (b"two", 13)}
    del state[b"kept 3"]
    states[14] = dict(state)
    states[15] = {**state, b"last": (b"x" * 50, 15)}
    if other_boot:
        page = bytearray(files["CONTROL"])
        page[8] ^= 0xFF
        (path / "CONTROL").write_bytes(page)
        return Expectation(states, 15)
    return Expectation({15: states[15]}, 15)


def run_part(folder: Path, part: int) -> dict:
    """Try one part of the damages in a child process; a death of it is a finding.

    It ends itself where one of them hangs; how long all take is the machine's business.
    """
    command = [sys.executable, "-X", "faulthandler", "-m", "tests.crash.damage"]
    command += [str(folder), str(part), str(PARTS), "1", str(int(LONG))]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    last = done.stdout.rstrip().rsplit("\n", 1)[-1]
    assert done.returncode == 0, f"exit {done.returncode} at: {last}\n{done.stderr[-3000:]}"
    return json.loads(last)


@pytest.mark.timeout(0)  # see run_part()
@pytest.mark.parametrize("kind", ["closed", "killed", "power cut"])
def test_no_damage_gives_a_wrong_answer(kind, tmp_path):
    folder = tmp_path / "store"
    if kind == "closed":
        expectation = closed_store(folder)
    else:
        expectation = killed_store(folder, other_boot=kind == "power cut")
    expectation.write(folder)
    with ThreadPoolExecutor(PARTS if not LONG else 2) as pool:
        parts = list(pool.map(lambda part: run_part(folder, part), range(PARTS)))
    findings = [finding for part in parts for finding in part["findings"]]
    counts = {name: sum(part["counts"][name] for part in parts) for name in parts[0]["counts"]}
    print(kind, counts)
    assert not findings, f"{len(findings)} of {counts['tried']}, such as {random_ten(findings)}"
    assert counts["refused"] > 100
    assert counts["salvaged"] > 50
    assert counts["right"] > 10  # unused bytes, and files that may be missing


def random_ten(findings: list[str]) -> str:
    source = random.Random(1)
    return "\n".join(source.sample(findings, min(len(findings), 10)))


def test_the_judge_sees_a_wrong_value(tmp_path):
    """The checks above can fail: a store that holds something else is found out."""
    expectation = closed_store(tmp_path)
    state = dict(expectation.states[expectation.newest])
    state[b"large"] = (b"something else", state[b"large"][1])
    Expectation({expectation.newest: state}, expectation.newest).write(tmp_path)
    judge = Judge(tmp_path, long=False)
    judge.try_damage(Damage("LOCK", "empty"), 1)
    judge.close()
    assert any("something else" in finding for finding in judge.findings)
