"""A primary that refuses or hangs, connections that are dead: edges fail fast and come back."""

import contextlib
import threading
import time

import pytest

from kvengine import Edge, RateLimited, UpstreamUnavailable, connect
from tests.server.places import until
from tests.server.proxy import Proxy
from tests.server.running import TOKEN, running

KEYS = [f"k{number}" for number in range(50)]
QUICK = {"poll_timeout_s": 0.3, "grace_s": 0.3, "retry_max_s": 1.0}


@pytest.fixture(scope="module")
def server():
    with running(limits="relaxed") as found:
        found.db.namespace("n").put_many(dict.fromkeys(KEYS, "v"))
        yield found


@pytest.fixture
def proxy(server):
    found = Proxy(server.port)
    yield found
    found.close()


def is_open(edge):
    return edge._node.breaker.error is not None


def is_back(kv):
    try:
        return kv.read("k0", cache_ttl=60).cache_status != "STALE" and kv.get("none") is None
    except UpstreamUnavailable:
        return False


@pytest.mark.parametrize("mishap", ["refuses", "hangs"])
def test_a_stale_answer_costs_no_question(proxy, mishap):
    with Edge(proxy.url, token=TOKEN, timeout_s=30.0, cache_ttl_s=0.5, **QUICK) as edge:
        kv = edge.namespace("n")
        for key in KEYS:
            kv.get(key)
        if mishap == "refuses":
            proxy.refuse()
        else:
            proxy.hangs = True
        until(lambda: is_open(edge), "the polls do not notice it")
        time.sleep(0.6)  # until the copies are too old to be hits
        before = edge.stats().counters.requests
        statuses = {kv.read(key).cache_status for _ in range(200) for key in KEYS}
        assert statuses == {"STALE"}
        counters = edge.stats().counters
        assert counters.requests == before
        assert counters.refused >= 200 * len(KEYS)
        with pytest.raises(UpstreamUnavailable):  # at once, or as the one probe
            kv.get("none")
            kv.get("none2")
        if mishap == "refuses":
            proxy.listen()
        else:
            proxy.hangs = False
        until(lambda: is_back(kv), "it does not come back")
        assert kv.get("none") is None


def test_popular_keys_make_no_storm(proxy):
    """In two seconds a handful of requests, whatever the readers do."""
    with Edge(proxy.url, token=TOKEN, cache_ttl_s=0.2, bound_s=0.4, **QUICK) as edge:
        kv = edge.namespace("n")
        for key in KEYS:
            kv.get(key)
        proxy.refuse()
        until(lambda: is_open(edge), "the polls do not notice it")
        before = edge.stats().counters.requests
        end = time.monotonic() + 2
        reads = 0
        while reads < 2000 or time.monotonic() < end:
            for key in KEYS:
                reads += 1
                with contextlib.suppress(UpstreamUnavailable):
                    kv.get(key)
        assert edge.stats().counters.requests - before <= 20


def test_dead_connections_do_not_hold_the_readers_of_a_key(proxy, server):
    with Edge(proxy.url, token=TOKEN, timeout_s=60.0) as edge:
        kv = edge.namespace("n")
        for key in KEYS[:10]:
            kv.get(key)
        proxy.swallow()
        found = []
        threads = [threading.Thread(target=lambda: found.append(kv.get("none"))) for _ in range(20)]
        began = time.monotonic()
        for one in threads:
            one.start()
        for one in threads:
            one.join(60)
        assert found == [None] * 20
        assert time.monotonic() - began < 40  # of 60: over new connections
        server.db.namespace("n").put("k1", "changed")  # and changes come again
        until(lambda: kv.get("k1") == "changed", "no changes come")
        server.db.namespace("n").put("k1", "v")


def test_who_waits_when_an_edge_is_closed_is_told(proxy):
    edge = Edge(proxy.url, token=TOKEN, timeout_s=60.0)
    kv = edge.namespace("n")
    kv.get("k0")
    proxy.hangs = True
    errors = []

    def read():
        try:
            kv.get("none")
        except Exception as error:  # noqa: BLE001 - whatever it is, it is looked at
            errors.append(error)

    threads = [threading.Thread(target=read) for _ in range(5)]
    for one in threads:
        one.start()
    until(lambda: len(edge._node._in_flight) > 0, "nobody asks")
    edge.close()
    for one in threads:
        one.join(30)
    assert [type(error).__name__ for error in errors] == ["StoreClosed"] * 5


def test_too_many_requests_is_an_error_that_says_how_long_to_wait():
    with running(first_token=TOKEN) as server:
        from kvengine.server.auth.token_store import TokenStore
        from tests.server.running import ACCOUNT

        store = TokenStore(server.db, ACCOUNT)
        secret, _ = store.create(name="slow", rate=1, namespaces=None, write=True)
        with connect(server.url, token=secret) as db:
            kv = db.namespace("n")
            with pytest.raises(RateLimited) as caught:
                for _ in range(200):
                    kv.get("k")
            assert caught.value.retry_after >= 1
            assert "too many requests with this token: try again in" in str(caught.value)
            time.sleep(caught.value.retry_after)
            kv.get("k")
