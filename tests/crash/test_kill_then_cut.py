"""A process is killed, then power is lost: what was not synced before the kill may go too.

After a kill every byte is still in the page cache, and recovery reads it.  None of it is durable
yet, so what is acknowledged as durable afterwards must not stand on it.  Each generation works on
the recording of the one before; only what was synced, in any generation, survives the cut.
"""

import os
import random

import pytest

import kvengine
from kvengine.engine.store import Store
from kvengine.testing.crashing import CrashedFolder, KeptDirectory
from kvengine.testing.faulty import FaultyDirectory
from kvengine.testing.history import OPTIONS, History, content_of, random_changes

LONG = os.environ.get("KVENGINE_LONG") == "1"
SEEDS = 12 if LONG else 3
CUTS = 10**9 if LONG else 60
DURABILITIES = ("group", "sync", "os")


def next_generation(directory: FaultyDirectory, before: History | None, durability: str) -> History:
    """Open the store as it was left by a process that was killed, on the same recording."""
    store = Store._in_directory(
        directory, **{**OPTIONS, "compaction": "manual", "durability": durability}
    )
    store._parts.maintenance.wake = lambda: None  # type: ignore[method-assign]
    states = before.states if before is not None else {0: {}}
    history = History(directory, store, {**states, store.version: content_of(store)})
    if before is not None:
        history.acknowledgments = before.acknowledgments
    return history


def kill(history: History) -> None:
    """The process is gone: nothing that it held does anything any more."""
    history.store._parts.refuse(kvengine.StoreClosed("killed"))


@pytest.mark.parametrize("seed", range(SEEDS))
def test_what_is_durable_after_a_kill_survives_a_power_cut(seed):
    source = random.Random(seed)
    directory = FaultyDirectory(KeptDirectory())
    history, begun = None, []
    for _ in range(4):
        history = next_generation(directory, history, source.choice(DURABILITIES))
        begun.append(len(directory.steps))
        for _ in range(source.randrange(1, 20)):
            history.write(random_changes(source), source.choice([None, "os", "group"]))
            if source.random() < 0.08:
                history.attempt(source.choice(["checkpoint", "compact", "sync"]))
        kill(history)
    assert history is not None
    steps = list(range(len(directory.steps) + 1))
    chosen = steps if len(steps) <= CUTS else sorted({steps[-1], *source.sample(steps, CUTS)})
    for step in chosen:
        for model in ("ordered", "torn"):
            where = f"seed {seed}, {model}, step {step} of {steps[-1]}, generations {begun}"
            left = CrashedFolder(directory.recording, step).folder(model, seed * 1000 + step)
            with Store._in_directory(left, compaction="manual") as store:
                assert store.version >= history.least(step, power_is_lost=True), where
                assert store.version in history.states, where
                assert content_of(store) == history.states[store.version], where
                assert store.verify().ok, where


def test_the_first_durable_write_after_a_kill_takes_what_recovery_found_with_it():
    """Nothing was synced before the kill, one write is afterwards: all before it must be there."""
    directory = FaultyDirectory(KeptDirectory())
    killed = next_generation(directory, None, "os")
    for number in range(20):
        killed.write([(b"before %d" % number, b"v" * 100)])
    kill(killed)
    again = next_generation(directory, killed, "os")
    again.write([(b"after", b"durable")], "group")
    step = len(directory.steps)
    for seed in range(20):
        left = CrashedFolder(directory.recording, step).folder("torn", seed)
        with Store._in_directory(left) as store:
            assert content_of(store) == again.states[21]
