"""Power is cut while several threads write beside compaction: a prefix of the log is left, whole.

All that was acknowledged as durable before the cut is in it, and no batch is torn.
Set KVENGINE_LONG=1 to try more steps, seeds and durabilities.
"""

import os
import random
import sys
import threading

import pytest

from kvengine import Store
from kvengine.testing.crashing import MODELS, CrashedFolder, KeptDirectory
from kvengine.testing.faulty import FaultyDirectory
from kvengine.testing.history import (
    OPTIONS,
    Acknowledgment,
    Change,
    History,
    State,
    apply,
    content_of,
    random_changes,
)

LONG = os.environ.get("KVENGINE_LONG") == "1"
SEEDS = range(20 if LONG else 2)
STEPS = 400 if LONG else 40  # that are tried, of each workload and model
WRITERS, WRITES = 3, 40
LEVELS = ("group", "sync", "os")


class Writer(threading.Thread):
    """Writes to a store, and takes down what was acknowledged, and when."""

    def __init__(self, store: Store, directory: FaultyDirectory, seed: int) -> None:
        super().__init__()
        self.store, self.directory, self.source = store, directory, random.Random(seed)
        self.written: list[tuple[int, list[Change]]] = []  # the version that each write ended with
        self.acknowledged: list[Acknowledgment] = []
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            for _ in range(WRITES):
                self.write(random_changes(self.source), self.source.choice(LEVELS))
        except BaseException as error:  # noqa: BLE001  # for the thread of the test
            self.error = error

    def write(self, changes: list[Change], level: str) -> None:
        if version := apply(self.store, changes, level):
            self.written.append((version, changes))
            self.acknowledged.append(
                Acknowledgment(len(self.directory.steps), version, durable=level != "os")
            )


def states_of(writers: list[Writer]) -> dict[int, State]:
    """Return what the store held as of each version with which a write ended."""
    state: State = {}
    states = {0: state}
    last = 0
    for version, changes in sorted(write for writer in writers for write in writer.written):
        assert version == last + len(changes)  # nobody else's versions are in between
        state = dict(state)
        for number, (key, value) in enumerate(changes, last + 1):
            if value is None:
                state.pop(key, None)
            else:
                state[key] = (value, number)
        states[version], last = state, version
    return states


def recorded(seed: int) -> History:
    """Let threads write, compact and save the index at once; return what came of it."""
    directory = FaultyDirectory(KeptDirectory())
    store = Store._in_directory(directory, durability="group", **OPTIONS)
    writers = [Writer(store, directory, seed * 100 + number) for number in range(WRITERS)]
    for writer in writers:
        writer.start()
    jobs = 0
    while any(writer.is_alive() for writer in writers) or jobs < 4:
        (store.compact, store.checkpoint)[jobs % 2]()
        jobs += 1
    for writer in writers:
        writer.join()
        assert writer.error is None
    history = History(directory, store, states_of(writers))
    history.acknowledgments = [one for writer in writers for one in writer.acknowledged]
    assert content_of(store) == history.states[store.version]
    history.close()
    assert jobs >= 4
    return history


@pytest.fixture
def quick_switches():
    """Threads take turns often."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-4)
    yield
    sys.setswitchinterval(before)


@pytest.mark.parametrize("seed", SEEDS)
def test_threads_that_write_beside_compaction(seed, quick_switches):
    history = recorded(seed)
    recording = history.directory.recording
    removed = {step.name for step in recording.steps if step.operation == "remove"}
    assert sum(name.endswith(".log") for name in removed) > 2  # else nothing was compacted
    source = random.Random(seed)
    for model in MODELS:
        count = min(STEPS, len(recording.steps))
        for step in sorted(source.sample(range(len(recording.steps) + 1), count)):
            left = CrashedFolder(recording, step).folder(model, seed * 1_000_003 + step)
            least = history.least(step, power_is_lost=model != "kill")
            where = f"seed {seed}, {model}, step {step} of {len(recording.steps)}"
            with Store._in_directory(left, compaction="manual") as store:
                assert store.version >= least, where
                assert store.version in history.states, f"{where}: a batch is torn"
                assert content_of(store) == history.states[store.version], where
                assert store.verify().ok, where
                version = store.put(b"after", b"1")
            with Store._in_directory(left, rebuild=True, compaction="manual") as store:
                assert store.version == version, where
                expected = {**history.states[version - 1], b"after": (b"1", version)}
                assert content_of(store) == expected, where
