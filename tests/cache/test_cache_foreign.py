"""Whatever runs in the middle of a call of the cache finds it whole, and leaves the call right.

Finalizers that the collector runs, timers, keys and values call the cache again and let other
threads run.  Each program here is a process of its own: a crash is a failure, not the end.
"""

import os
import subprocess
import sys

import pytest

from kvengine.cache.cache import POLICIES

TURNS = 4000 if os.environ.get("KVENGINE_LONG") else 400
every_policy = pytest.mark.parametrize("policy", POLICIES)

PRELUDE = """
import faulthandler, gc, random, sys, threading, time, weakref
from kvengine.cache.memory import Cache
faulthandler.enable()
policy, turns = sys.argv[1], int(sys.argv[2])
sys.setswitchinterval(1e-6)
chance = random.Random(7)

class Session:
    "Cyclic garbage: the collector ends it, in the middle of whatever allocates."
    def __init__(self, call):
        self.me = self
        weakref.finalize(self, call).atexit = False

def whole(cache):
    pairs = dict(cache.items())
    assert all(value == key for key, value in pairs.items()), pairs
    assert cache.cache_info().currsize <= cache.maxsize
"""


def run(program, policy):
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + program, policy, str(TURNS)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Traceback" not in done.stderr, done.stderr[-3000:]


@every_policy
def test_finalizers_that_the_collector_runs_at_each_allocation(policy):
    run(
        """
gc.set_threshold(1)
cache = Cache(60, ttl=0.001, policy=policy)
depth = 0

def meddle():
    global depth
    if depth > 3:
        return
    depth += 1
    number = chance.randrange(200)
    what = chance.randrange(9)
    if what == 0: cache.clear()
    elif what == 1: cache[number] = number
    elif what == 2: cache.expire()
    elif what == 3: cache.delete(number)
    elif what == 4: cache.pop(number, None)
    elif what == 5 and len(cache): cache.pop(next(iter(cache), None), None)
    elif what == 6: list(cache)
    elif what == 7: cache.setdefault(number, number)
    else: cache.get(number)
    depth -= 1

for turn in range(turns):
    number = chance.randrange(200)
    Session(meddle)
    cache.set(number, number, None, chance.choice([None, 0.0005, 60.0]))
    Session(meddle)
    assert cache.get(number) in (None, number)
    assert cache.pop(chance.randrange(200), -1) is not None
    Session(meddle)
    cache.setdefault(number, number)
    cache.expire()
    Session(meddle)
    try:
        key, value = cache.popitem()
        assert key == value
    except KeyError:
        pass
    Session(meddle)
    if turn % 10 == 0:
        whole(cache)
""",
        policy,
    )


@every_policy
def test_a_timer_that_clears_and_lets_others_run(policy):
    run(
        """
cache, now, inside = None, 0.0, False

def timer():
    global now, inside
    now += chance.choice([0.0, 0.0, 0.4])
    if cache is not None and not inside and chance.random() < 0.3:
        inside = True
        what = chance.randrange(4)
        if what == 0: cache.clear()
        elif what == 1:
            for number in range(30): cache[number] = number
        elif what == 2: cache.delete(chance.randrange(60))
        else: time.sleep(0)
        inside = False
    return now

cache = Cache(50, ttl=2.0, policy=policy, timer=timer)
wrong = []

def work(seed):
    mine = random.Random(seed)
    for _ in range(turns):
        number = mine.randrange(60)
        for found in (
            cache.get(number, number), cache.peek(number, number), cache.pop(number, number),
            cache.setdefault(number, number),
        ):
            if found != number: wrong.append((number, found))
        number in cache
        cache[number] = number
        cache.delete(mine.randrange(60))
        len(cache), list(cache)

threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert wrong == []
whole(cache)
""",
        policy,
    )


@every_policy
def test_keys_that_change_the_cache_when_compared_hashed_and_dropped(policy):
    run(
        """
cache = Cache(40, ttl=60, policy=policy)
depth = 0

def meddle():
    global depth
    if depth or chance.random() < 0.5:
        return
    depth = 1
    what = chance.randrange(5)
    if what == 0: cache.clear()
    elif what == 1: cache.delete(Key(chance.randrange(60)))
    elif what == 2: cache[Key(chance.randrange(60))] = -1
    elif what == 3:
        for number in range(50): cache[("other", number)] = number
    else: cache.expire()
    depth = 0

class Key:
    def __init__(self, number): self.number = number
    def __hash__(self): meddle(); return self.number % 3
    def __eq__(self, other):
        meddle()
        return isinstance(other, Key) and self.number == other.number
    def __del__(self): meddle()

for turn in range(turns):
    number = chance.randrange(60)
    cache[Key(number)] = number
    assert cache.get(Key(number), -1) in (number, -1)
    assert cache.pop(Key(chance.randrange(60)), -1) is not None
    assert cache.setdefault(Key(number), number) in (number, -1)
    Key(number) in cache
    cache.delete(Key(chance.randrange(60)))
    if turn % 3 == 0:
        try: cache.popitem()
        except KeyError: pass
keys = list(cache)
assert len(keys) == len(cache) <= 40
""",
        policy,
    )


def test_threads_and_garbage_that_sleeps_when_it_goes():
    run(
        """
class Slow:
    def __init__(self): self.me = self
    def __del__(self):
        if time.monotonic() < stop: time.sleep(0.0005)  # later, no other thread uses the cache

cache, stop = Cache(500, ttl=0.002, policy="adaptive"), time.monotonic() + 1.5
wrong = []

def work(seed):
    mine = random.Random(seed)
    while time.monotonic() < stop:
        number = mine.randrange(1000)
        if mine.random() < 0.01: Slow()
        if mine.random() < 0.001: cache.clear()
        found = cache.get(number)
        if found not in (None, number): wrong.append((number, found))
        cache[number] = number
        if mine.random() < 0.05: cache.expire()

gc.set_threshold(50)
threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert wrong == []
whole(cache)
""",
        "adaptive",
    )
