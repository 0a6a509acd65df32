"""Power is cut while consumers acknowledge: none of them passes over a change.

Two follow a store, one in its process and one as a reader beside it.  Behind every step of writing,
acknowledging and maintenance the machine stops; others then write what gets the lost versions.
"""

import os
import random

import pytest

from kvengine import CorruptData, LogCompacted, Store
from kvengine.testing.crashing import CrashedFolder, KeptDirectory
from kvengine.testing.faulty import FaultyDirectory

LONG = os.environ.get("KVENGINE_LONG") == "1"
CUTS = 10**9 if LONG else 120
SMALL = {"segment_bytes": 4096, "key_buffer_entries": 16, "compaction": "manual"}


class Applied:
    """What one who follows has of a store: each change that it was given, and what it acknowledged.

    `acknowledged` has a row (steps, position) for each call of acknowledge that returned.
    """

    def __init__(self, store, name):
        self.consumer, self.acknowledged = store.consumer(name), [(0, 0)]

    def go_on(self, folder):
        last = 0
        for batch in self.consumer.batches(7):
            last = batch[-1].version
        if last:
            self.consumer.acknowledge(last)
            self.acknowledged.append((len(folder.steps), last))

    def least(self, step):
        """Return the position that a crash behind a step must leave, at least."""
        return max(position for steps, position in self.acknowledged if steps <= step)


def recorded(durability, seed):
    source = random.Random(seed)
    folder = FaultyDirectory(KeptDirectory())
    store = Store._in_directory(folder, durability=durability, **SMALL)
    reader = Store._in_directory(folder, read_only=True, **SMALL)
    followers = [Applied(store, "near"), Applied(reader, "far")]
    for turn in range(40):
        level = source.choice([durability, "os"])  # so that some are visible, and not on disk
        value = b"%d" % turn * source.randrange(60)
        store.put(b"%d" % source.randrange(8), value, durability=level)
        if source.random() < 0.2:
            store.delete(b"%d" % source.randrange(8))
        if source.random() < 0.6:
            source.choice(followers).go_on(folder)
        if source.random() < 0.1:
            source.choice([store.checkpoint, store.compact, store.sync])()
    states = len(folder.steps)
    reader.close()
    store.close()
    return folder, followers, states


def check(left, follower, where, *, may_be_lost):
    """Let another writer go on, and see what the follower is given by the next one."""
    name = follower.consumer.name
    with Store._in_directory(left, **SMALL) as store:
        found = store.version
        new = [store.put(b"new %d" % number, b"") for number in range(60)]
        store.close()
    with Store._in_directory(left, **SMALL) as store:
        try:
            consumer = store.consumer(name)
            given = [change.version for change in consumer.changes()]
        except LogCompacted:
            assert may_be_lost, where
            assert consumer.position > found, where
            return "told"
        except CorruptData:
            assert may_be_lost, where
            return "damaged"
        assert consumer.position <= found, where
        assert [version for version in given if version > found] == new, where
        return "given"


@pytest.mark.parametrize("durability", ["group", "sync", "interval", "os"])
def test_every_step(durability):
    results = set()
    for seed in range(3 if LONG else 1):
        folder, followers, steps = recorded(durability, seed)
        source = random.Random(seed)
        cuts = range(steps + 1)
        for step in cuts if len(cuts) <= CUTS else sorted(source.sample(cuts, CUTS)):
            left = CrashedFolder(folder.recording, step)
            for model in ("kill", "ordered", "torn"):
                for follower in followers:
                    name = follower.consumer.name
                    where = f"{durability}, seed {seed}: {model}, step {step} of {steps}, {name}"
                    files = left.folder(model, step)
                    # The one in the process of an "os" store asks for no sync: it may be told.
                    careless = durability == "os" and name == "near" and model != "kill"
                    if not careless:
                        with Store._in_directory(files, **SMALL) as store:
                            position = store.consumer(name).position
                            assert follower.least(step) <= position <= store.version, where
                    results.add(check(files, follower, where, may_be_lost=careless))
    assert "given" in results
    assert bool(results & {"told", "damaged"}) == (durability == "os")
