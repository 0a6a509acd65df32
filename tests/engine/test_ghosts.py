"""No scan shows a key that was deleted before it began, while key runs merge beside it."""

import sys
import threading

import pytest

from kvengine import Store
from kvengine.testing.crashing import KeptDirectory

ROUNDS = 60
KEYS = [b"key %04d " % number + b"-" * 60 for number in range(400)]


@pytest.fixture(autouse=True)
def quick_turns():
    """Let threads take turns often."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def made():
    """Return a folder with key runs of which every second key is dead."""
    folder = KeptDirectory()
    with Store._in_directory(folder, durability="os", compaction="manual") as store:
        store.update(dict.fromkeys(KEYS, b"v"))
        store.checkpoint()
        for key in KEYS[::2]:
            store.delete(key)
        store.checkpoint()
    return folder


@pytest.mark.parametrize("reverse", [False, True])
def test_a_merge_in_the_middle_of_a_scan_brings_no_dead_key_back(reverse):
    """The merge leaves dead keys out and says so with its mark; the scan may have the old runs."""
    for _ in range(ROUNDS):
        with Store._in_directory(made(), durability="os", compaction="manual") as store:
            thread = threading.Thread(target=store.compact)
            thread.start()
            while True:
                is_last = not thread.is_alive()
                found = list(store.keys(reverse=reverse))
                assert sorted(found) == KEYS[1::2]
                assert len(store) == len(KEYS) // 2
                if is_last:
                    break
            thread.join()
