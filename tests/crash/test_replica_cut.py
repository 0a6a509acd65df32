"""The process of a replica is killed, or its power cut, behind every step: what is left is whole.

Set KVENGINE_LONG=1 for every step with many seeds instead of a sample.
"""

import os
import random

import pytest

import kvengine
from kvengine import Change
from kvengine.engine import replica
from kvengine.engine.manifest import Origin
from kvengine.testing.crashing import MODELS, CrashedFolder, KeptDirectory
from kvengine.testing.history import content_of, open_history

LONG = os.environ.get("KVENGINE_LONG") == "1"
STEPS_MAX = 10**9 if LONG else 120
SEEDS = 20 if LONG else 2
ORIGIN = Origin("ab" * 16, 0)


class Replica:
    """Takes changes over in every way, and knows what the store holds after each."""

    def __init__(self, seed, durability):
        self.dice, self.version = random.Random(seed), 0
        self.history = open_history(KeptDirectory(), durability=durability, compaction="manual")
        replica.begin(self.history.store, ORIGIN)
        self.state = {}

    def changes(self, count):
        found = []
        for _ in range(count):
            self.version += self.dice.choice([1, 1, 2, 9])
            key = b"key %02d" % self.dice.randrange(20)
            if self.dice.random() < 0.2:
                found.append(Change(self.version, "delete", key, b"", b"", None))
                self.state.pop(key, None)
            else:
                value = self.dice.randbytes(self.dice.choice([0, 60, 900]))
                found.append(Change(self.version, "put", key, value, b"", None))
                self.state[key] = (value, self.version)
        return tuple(found)

    def work(self):
        store = self.history.store
        for _ in range(30):
            action = self.dice.choice(["apply", "apply", "apply", "keep", "replace", "tend"])
            durable = store.options.durability == "group"
            if action == "tend":
                self.history.attempt(self.dice.choice(["compact", "checkpoint"]))
                replica.note_position(store, self.version)
                continue
            before = self.version
            if action == "replace":
                self.state = {}
            changes = [self.changes(self.dice.randint(1, 4)) for _ in range(3)]
            self.version += action != "apply"  # the source went on with other keys
            self.history.states[self.version] = dict(self.state)
            if action == "apply":
                store.apply(changes[0] + changes[1] + changes[2])
            else:
                durable = True
                staging = replica.Staging(store, before, keep=action == "keep")
                for some in changes:
                    staging.add(some)
                staging.adopt(self.version)
            self.history.acknowledge(durable)
        replica.promote(store, self.version + 5)
        self.history.states[self.version + 5] = dict(self.state)
        self.history.acknowledge(True)
        self.history.close()


@pytest.mark.parametrize("durability", ["group", "os"])
def test_every_step(durability):
    one = Replica(5, durability)
    one.work()
    history = one.history
    steps, dice = len(history.directory.steps), random.Random(6)
    chosen = sorted(dice.sample(range(steps + 1), min(steps + 1, STEPS_MAX)))
    for model in MODELS:
        for seed in range(SEEDS if model == "torn" else 1):
            for step in chosen:
                left = CrashedFolder(history.directory.recording, step)
                folder = left.folder(model, seed * 1_000_003 + step)
                least = history.least(step, power_is_lost=model != "kill")
                check(folder, history, least, f"{model}, seed {seed}, step {step} of {steps}")


def check(folder, history, least, where):
    for _ in range(2):
        with kvengine.Store.in_directory(folder, compaction="manual") as store:
            version, origin = store.version, store.manifest.origin
            assert version >= least, where
            assert version in history.states, where
            assert content_of(store) == history.states[version], where
            assert store.verify().ok, where
            assert origin is None or origin.position <= version, where
            if origin is not None:
                with pytest.raises(kvengine.StoreReadOnly):
                    store.put(b"a", b"b")
    with kvengine.Store.in_directory(folder, compaction="manual") as store:
        store.apply((Change(version + 3, "put", b"more", b"1", b"", None),))
        assert store.get_entry(b"more").version == version + 3
    with kvengine.Store.in_directory(folder, compaction="manual") as store:
        assert store.get_entry(b"more").version == version + 3
