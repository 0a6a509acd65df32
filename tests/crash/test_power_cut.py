"""Power is cut behind every step: what is left opens, as a prefix of what was acknowledged.

Set KVENGINE_LONG=1 to try every step with many seeds instead of a sample.
"""

import os
import random

import pytest

import kvengine
from kvengine import KvError
from kvengine.engine.recovery import backup
from kvengine.testing.crashing import MODELS, CrashedFolder, KeptDirectory
from kvengine.testing.faulty import FaultyDirectory
from kvengine.testing.history import (
    OPTIONS,
    History,
    content_of,
    open_history,
    random_changes,
)

LONG = os.environ.get("KVENGINE_LONG") == "1"
TORN_SEEDS = 40 if LONG else 3
STEPS_MAX = 10**9 if LONG else 150  # a workload
NESTED = 400 if LONG else 40
DURABILITIES = ("group", "sync", "os", "interval")


def everyday(history: History, source: random.Random) -> None:
    for _ in range(40):
        history.write(random_changes(source))
    history.attempt("sync")


def mixed_levels(history: History, source: random.Random) -> None:
    for _ in range(40):
        history.write(random_changes(source), source.choice([*DURABILITIES, None]))


def maintained(history: History, source: random.Random) -> None:
    for number in range(36):
        history.write(random_changes(source))
        if number % 6 == 5:
            history.attempt(source.choice(["checkpoint", "compact", "sync", "checkpoint"]))


def background(history: History, source: random.Random) -> None:
    for _ in range(60):
        history.write(random_changes(source, keys=6))
    history.store._parts.maintenance.wake()


WORKLOADS = {
    "everyday": (everyday, {"compaction": "manual"}),
    "mixed levels": (mixed_levels, {"compaction": "manual"}),
    "maintained": (maintained, {"compaction": "manual"}),
    "background": (
        background,
        {"background": True, "checkpoint_records": 20, "sync_interval_s": 0.001},
    ),
}


def recorded(workload: str, durability: str, seed: int) -> History:
    """Make a store, work with it, close it; everything is in the recording."""
    work, options = WORKLOADS[workload]
    history = open_history(KeptDirectory(), durability=durability, **options)
    work(history, random.Random(seed))
    history.close()
    return history


def sampled(count: int, source: random.Random) -> list[int]:
    """Return step numbers, 0 and the last among them; random, never each n-th."""
    if count + 1 <= STEPS_MAX:
        return list(range(count + 1))
    return sorted({0, count, *source.sample(range(count + 1), STEPS_MAX)})


def check_recovery(folder: KeptDirectory, history: History, least: int, where: str) -> int:
    """Open what is left, compare it with the history, and again; return the version."""
    found = []
    for _ in range(2):
        with kvengine.Store._in_directory(folder, compaction="manual") as store:
            assert store.version >= least, where
            assert store.version in history.states, where
            assert content_of(store) == history.states[store.version], where
            report = store.verify()
            assert report.ok, (where, report.problems)
            found.append(store.version)
    assert found[0] == found[1], where
    return found[0]


@pytest.mark.parametrize("durability", DURABILITIES)
@pytest.mark.parametrize("workload", WORKLOADS)
def test_every_step(workload, durability):
    history = recorded(workload, durability, seed=1)
    steps = len(history.directory.steps)
    source = random.Random(2)
    for model in MODELS:
        for seed in range(TORN_SEEDS if model == "torn" else 1):
            for step in sampled(steps, source):
                left = CrashedFolder(history.directory.recording, step)
                least = history.least(step, power_is_lost=model != "kill")
                where = f"{workload} {durability}: {model}, seed {seed}, step {step} of {steps}"
                check_recovery(left.folder(model, seed * 1_000_003 + step), history, least, where)


@pytest.mark.parametrize("seed", range(20 if LONG else 4))
def test_life_goes_on_after_a_cut(seed):
    """Several cuts in a row, each while the store works on after the one before."""
    source = random.Random(seed)
    folder, states, least = KeptDirectory(), {0: {}}, 0
    for generation in range(12):
        history = open_history(
            folder, compaction="manual", durability=source.choice(["group", "os"])
        )
        where = f"seed {seed}, generation {generation}"
        version = history.store.version
        assert version >= least, where
        assert content_of(history.store) == states[version], where
        history.states = {known: states[known] for known in states if known <= version}
        for _ in range(source.randrange(1, 25)):
            history.write(random_changes(source))
            if source.random() < 0.1:
                history.attempt(source.choice(["checkpoint", "compact", "sync"]))
        steps = len(history.directory.steps)
        step = source.choice([steps, steps, source.randrange(steps + 1)])
        model = source.choice(MODELS)
        settled = version if generation and step else least
        least = max(history.least(step, power_is_lost=model != "kill"), min(least, settled))
        folder = CrashedFolder(history.directory.recording, step).folder(model, source.random())
        states = history.states
        history.store.close()


@pytest.mark.parametrize("model", ["ordered", "torn"])
@pytest.mark.parametrize("workload", ["everyday", "maintained"])
def test_a_cut_during_recovery(workload, model):
    """Recovery is cut short too, after what it did and what was written behind it."""
    history = recorded(workload, "os", seed=3)
    steps = len(history.directory.steps)
    source = random.Random(4)
    for _ in range(NESTED):
        step, seed = source.randrange(steps + 1), source.randrange(1 << 30)
        least = history.least(step, power_is_lost=True)
        first = CrashedFolder(history.directory.recording, step).folder("torn", seed)
        again = open_history(first, durability="group", compaction="manual")
        reached = again.store.version
        assert reached >= least
        again.states = {
            known: history.states[known] for known in history.states if known <= reached
        }
        while len(again.acknowledgments) < 3:
            again.write(random_changes(source))
        total = len(again.directory.steps)
        for cut in range(total + 1):
            where = f"{workload} {model}: step {step}, seed {seed}, then step {cut} of {total}"
            left = CrashedFolder(again.directory.recording, cut).folder(model, seed + cut)
            check_recovery(left, again, max(least, again.least(cut, power_is_lost=True)), where)
        again.store.close()


@pytest.mark.parametrize("durability", DURABILITIES)
@pytest.mark.parametrize("model", MODELS)
def test_making_a_store_is_all_or_nothing(model, durability):
    history = open_history(KeptDirectory(), durability=durability)
    history.store.close()
    steps = len(history.directory.steps)
    assert steps
    for step in range(steps + 1):
        for seed in range(20):
            left = CrashedFolder(history.directory.recording, step)
            check_recovery(left.folder(model, seed), history, 0, f"{model}, step {step}")


@pytest.mark.parametrize("model", MODELS)
def test_a_backup_cut_short_is_no_store(model):
    history = recorded("maintained", "group", seed=5)
    target = FaultyDirectory(KeptDirectory())
    with kvengine.Store._in_directory(history.directory, **OPTIONS) as store, store._parts.jobs:
        version = backup._copy(store._parts, target, None)
    steps, complete = len(target.steps), 0
    for step in range(steps + 1):
        for seed in range(5):
            left = CrashedFolder(target.recording, step).folder(model, seed)
            try:
                store = kvengine.Store._in_directory(left, create=False)
            except KvError:
                assert step < steps
                continue
            with store:
                assert store.version == version
                assert content_of(store) == history.states[version]
                complete += 1
    assert complete >= 5


def test_the_workloads_reach_what_they_are_for():
    """Otherwise a crash in the middle of it would never have been tried."""
    history = recorded("maintained", "group", seed=1)
    names = {step.name for step in history.directory.steps}
    assert sum(name.endswith(".log") for name in names) > 3
    assert any(name.endswith(".index") for name in names)
    assert any(name.endswith(".keys") for name in names)
    removed = {step.name for step in history.directory.steps if step.operation == "remove"}
    assert any(name.endswith(".log") for name in removed)
