"""Files with right checksums and senseless content: an error of ours, and nothing worse.

Set KVENGINE_LONG=1 for 50,000 mutations instead of 2,000.
"""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import kvengine
from kvengine.testing.clock import ManualClock
from tests.crash.mutation_judge import OPTIONS, Model, write_model

LONG = os.environ.get("KVENGINE_LONG") == "1"
MUTATIONS, BATCH = (50_000, 2500) if LONG else (2_000, 500)
SECONDS_MAX = 3600 if LONG else 900
MEMORY_MAX = 160 << 20  # of the interpreter, and of small stores
ROOT = Path(__file__).parent.parent.parent

BEGUN = """
import os, signal, sys, kvengine
from tests.crash.mutation_judge import OPTIONS, Model, write_model
store = kvengine.Store(sys.argv[1], **OPTIONS)
store.put(b"k late", b"late" * 9)
with store.batch() as batch:
    batch.put(b"k in a batch", b"1"); batch.put(b"other in a batch", b"2")
    batch.delete(b"k 0002" + b"-" * 40)
store.put(b"k later", b"later" * 900)
os.kill(os.getpid(), signal.SIGKILL)
"""


def made_store(path: Path, *, killed: bool) -> Model:
    """Make a store with everything that FORMAT.md knows; return what it holds."""
    clock = ManualClock()
    options = {**OPTIONS, "key_buffer_entries": 64, "clock": clock}
    with kvengine.Store(path, **options) as store:
        for number in range(150):
            key = b"k %04d" % number + b"-" * 40  # enough for several blocks of a key run
            store.put(key, b"v" * (number % 60), metadata=b"m" * (number % 7))
        for number in range(0, 150, 7):
            store.delete(b"k %04d" % number + b"-" * 40)
        store.put(b"other", b"x" * 5000)
        store.put(b"k gone", b"soon", expires_at=clock.time() + 5)
        store.compact()
        for number in range(40):
            store.put(b"k %04d" % (number * 3) + b"-" * 40, b"again" * (number % 9))
        store.put(b"k kept", b"for long", expires_at=32503680000)
        follower = store.consumer("one")
        follower.acknowledge([change.version for change in follower.changes()][-30])
        store.checkpoint()
        clock.advance(10)
        for number in range(9):
            store.put(b"tail %d" % number, b"t" * 20 * number)
        model = dict(store.items())
    if killed:
        command = [sys.executable, "-c", BEGUN, str(path)]
        child = subprocess.run(command, cwd=ROOT, check=False)
        assert child.returncode == -signal.SIGKILL
        model |= {b"k late": b"late" * 9, b"k later": b"later" * 900}
        model |= {b"k in a batch": b"1", b"other in a batch": b"2"}
        model.pop(b"k 0002" + b"-" * 40)
    return model


def run_batch(folder: Path, first: int) -> dict:
    """Try some mutations in a child process; a death of it is a finding."""
    command = [sys.executable, "-X", "faulthandler", "-m", "tests.crash.mutation_judge"]
    command += [str(folder), str(first), str(BATCH)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=SECONDS_MAX
    )
    last = done.stdout.rstrip().rsplit("\n", 1)[-1]
    assert done.returncode == 0, f"exit {done.returncode} at: {last}\n{done.stderr[-3000:]}"
    return json.loads(last)


@pytest.mark.timeout(SECONDS_MAX + 20)
@pytest.mark.parametrize("kind", ["closed", "killed"])
def test_no_mutation_does_harm(kind, tmp_path):
    folder = tmp_path / "store"
    write_model(folder, made_store(folder, killed=kind == "killed"))
    starts = range(0, MUTATIONS // 2, BATCH)
    with ThreadPoolExecutor(2) as pool:
        batches = list(pool.map(lambda first: run_batch(folder, first), starts))
    findings = [finding for batch in batches for finding in batch["findings"]]
    counts: Counter[str] = sum((Counter(batch["counts"]) for batch in batches), Counter())
    print(kind, dict(counts))
    assert not findings, f"{len(findings)}, such as {findings[:10]}"
    assert max(batch["memory"] for batch in batches) < MEMORY_MAX
    for structure in (
        "manifest",
        "consumer",
        "control",
        "segment header",
        "record",
        "index",
        "run",
    ):
        assert counts[structure] > 10
    assert min(counts["refused"], counts["noticed"], counts["unnoticed"]) > 100
