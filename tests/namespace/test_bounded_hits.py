"""A bounded namespace as a cache: it hits about as often as exact LRU and LFU do."""

import random
from collections import Counter, OrderedDict

import pytest

from kvengine import Database

REQUESTS = 30_000


def zipf(keys=5000):
    weights = [1 / rank**0.9 for rank in range(1, keys + 1)]
    return random.Random(1).choices(range(keys), weights, k=REQUESTS)


def zipf_with_scans():
    """Return popular keys, now and then between keys that are asked for once, in order."""
    requests = []
    for number, key in enumerate(zipf(2000)):
        requests.append(key)
        if number % 5000 < 1000:
            requests.append(f"scan/{number}")
    return requests


def moving():
    """Return keys whose popularity changes slowly."""
    chance = random.Random(2)
    return [f"{int(n / 20 + chance.paretovariate(0.8)) % 10**6}" for n in range(REQUESTS)]


def exact_lru(requests, most):
    kept, hits = OrderedDict(), 0
    for key in requests:
        if key in kept:
            hits += 1
            kept.move_to_end(key)
        else:
            kept[key] = None
            if len(kept) > most:
                kept.popitem(last=False)
    return hits


def exact_lfu(requests, most):
    """Count the uses of keys that are kept, as diskcache does; of equals the oldest goes."""
    uses, hits = Counter(), 0
    for key in requests:
        if key in uses:
            hits += 1
        elif len(uses) == most:
            del uses[min(uses, key=uses.__getitem__)]
        uses[key] += 1
    return hits


def hits(requests, most, eviction):
    with Database.in_memory() as db:
        db.create_namespace("cache", max_keys=most, eviction=eviction)
        kv, found = db.namespace("cache"), 0
        for key in requests:
            if kv.get(str(key)) is None:
                kv.put(str(key), "v")
            else:
                found += 1
        assert kv.count() <= most
        return found


@pytest.mark.parametrize("most", [50, 500])
@pytest.mark.parametrize("requests", [zipf, zipf_with_scans, moving])
@pytest.mark.parametrize(("eviction", "exact"), [("lru", exact_lru), ("lfu", exact_lfu)])
def test_it_hits_nearly_as_often_as_exact_eviction(eviction, exact, requests, most):
    asked = requests()
    assert hits(asked, most, eviction) >= 0.95 * exact(asked, most)
