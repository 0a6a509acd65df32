"""A database in memory with a clock that stands still, and what most tests ask of it."""

import io
import itertools
import json
from contextlib import contextmanager

import pytest

import kvengine
from kvengine import Database, InvalidRequest
from kvengine.testing.clock import ManualClock
from tests.server.running import TOKEN, running


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def db(clock):
    with Database.in_memory(clock=clock) as opened:
        yield opened


@pytest.fixture
def strict(clock):
    """A namespace with the limits of Cloudflare."""
    with Database.in_memory(clock=clock, limits="strict") as opened:
        yield opened.namespace("strict")


@pytest.fixture
def kv(db):
    return db.namespace("tests")


@pytest.fixture
def refused(db):
    """A block that is refused with exactly this text, and changes nothing."""

    @contextmanager
    def check(text, kind=InvalidRequest, *, status=None):
        before = db.version, list(db.store.scan())
        with pytest.raises(kind) as caught:
            yield caught
        assert str(caught.value) == text
        assert getattr(caught.value, "status", None) == status
        assert (db.version, list(db.store.scan())) == before

    return check


@pytest.fixture(params=["ndjson", "wrangler"])
def form(request):
    """A function that makes a file of pairs to import, in one of the two forms."""

    def make(*pairs: object) -> io.BytesIO:
        texts = [json.dumps(pair) for pair in pairs]
        if request.param == "ndjson":
            return io.BytesIO("".join(text + "\n" for text in texts).encode())
        return io.BytesIO(f"[{', '.join(texts)}]".encode())

    return make


titles = (f"mapping {number}" for number in itertools.count())


@pytest.fixture(scope="module")
def make():
    """Functions that make an empty namespace of each kind."""
    with (
        kvengine.Database.in_memory(limits="relaxed") as db,
        kvengine.Edge(db, name="fra") as edge,
        running(limits="relaxed") as server,
        kvengine.connect(server.url, token=TOKEN) as remote,
    ):
        yield {
            "here": lambda: db.namespace(next(titles)),
            "edge": lambda: edge.namespace(next(titles)),
            "remote": lambda: remote.namespace(next(titles)),
        }
