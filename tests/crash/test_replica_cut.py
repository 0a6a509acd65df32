"""The process of a replica is killed, or its power cut, behind every step: what is left is whole.

Set KVENGINE_LONG=1 for every step with many seeds instead of a sample.
"""

import errno
import os
import random

import pytest

import kvengine
from kvengine import Change, KvError
from kvengine.engine.following import replica
from kvengine.engine.log.manifest import Origin
from kvengine.testing.crashing import MODELS, CrashedFolder, KeptDirectory
from kvengine.testing.faulty import FaultyDirectory
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
        replica.begin(self.history.store._parts, ORIGIN)
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
            durable = store._parts.options.durability == "group"
            if action == "tend":
                self.history.attempt(self.dice.choice(["compact", "checkpoint"]))
                replica.note_position(store._parts, self.version)
                continue
            before = self.version
            if action == "replace":
                self.state = {}
            changes = [self.changes(self.dice.randint(1, 4)) for _ in range(3)]
            self.version += action != "apply"  # the source went on with other keys
            self.history.states[self.version] = dict(self.state)
            if action == "apply":
                store._parts.apply(changes[0] + changes[1] + changes[2])
            else:
                durable = True
                staging = replica.Staging(store._parts, before, keep=action == "keep")
                for some in changes:
                    staging.add(some)
                staging.adopt(self.version)
            self.history.acknowledge(durable)
        replica.promote(store._parts, self.version + 5)
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
        with kvengine.Store._in_directory(folder, compaction="manual") as store:
            version, origin = store.version, store._parts.manifest.origin
            assert version >= least, where
            assert version in history.states, where
            assert content_of(store) == history.states[version], where
            assert store.verify().ok, where
            assert origin is None or origin.position <= version, where
            if origin is not None:
                with pytest.raises(kvengine.StoreReadOnly):
                    store.put(b"a", b"b")
    with kvengine.Store._in_directory(folder, compaction="manual") as store:
        store._parts.apply((Change(version + 3, "put", b"more", b"1", b"", None),))
        assert store.get_entry(b"more").version == version + 3
    with kvengine.Store._in_directory(folder, compaction="manual") as store:
        assert store.get_entry(b"more").version == version + 3


def put(version, key=b"key"):
    return Change(version, "put", key, b"%d" % version * 300, b"", None)


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_what_the_disk_refuses_is_taken_over_later_or_not_at_all(keep, code):
    fails_at, failed = 0, True
    while failed:
        fails_at += 1
        failed = refuse_one_step(keep, code, fails_at)
    assert fails_at > 10


def refuse_one_step(keep, code, fails_at):
    """Take over, while one step of the disk fails; False if there are not so many steps."""
    kept = KeptDirectory()
    disk = FaultyDirectory(kept)
    store = kvengine.Store._in_directory(
        disk, durability="group", compaction="manual", segment_bytes=4096
    )
    store._parts.maintenance.wake = lambda: None  # type: ignore[method-assign]
    replica.begin(store._parts, ORIGIN)
    store._parts.apply(tuple(put(version, b"%d" % version) for version in range(1, 30)))
    old = content_of(store)
    begun = len(disk.steps)
    disk.fail(begun + fails_at, code)
    staging = replica.Staging(store._parts, 29 if keep else 0, keep=keep)
    error = None
    try:
        for version in range(40, 90):
            staging.add((put(version, b"%d" % version),))
        staging.adopt(100)
    except (KvError, OSError) as raised:
        error = raised
    steps = len(disk.steps) - begun
    disk.heal()
    new = {b"%d" % v: (b"%d" % v * 300, v) for v in range(40, 90)} | (old if keep else {})
    where = f"step {fails_at}: {error!r}"
    if error is None:
        assert content_of(store) == new, where
    else:
        staging.discard()
    if error is not None and not store.closed and store._parts.refusal is None:
        assert content_of(store) == old, where
        again = replica.Staging(store._parts, 29 if keep else 0, keep=keep)
        again.add(tuple(put(version, b"%d" % version) for version in range(40, 90)))
        again.adopt(100)
        assert content_of(store) == new, where
    store.close()
    with kvengine.Store._in_directory(kept) as store:
        assert content_of(store) in (old, new), where
        assert store.verify().ok, where
        assert error or content_of(store) == new, where
    return steps >= fails_at
