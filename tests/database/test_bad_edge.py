"""What an edge can't be made with or asked for is refused with a sentence that says why."""

import pytest

import kvengine
from kvengine import (
    Database,
    Edge,
    InvalidRequest,
    InvalidType,
    LimitExceeded,
    NamespaceNotFound,
    NotAStore,
    Store,
    StoreClosed,
    StoreReadOnly,
    UpstreamUnavailable,
)


@pytest.fixture
def db():
    with Database.in_memory() as opened:
        yield opened


@pytest.fixture
def kv(db):
    with Edge(db) as edge:
        found = edge.namespace("n")
        found.put("k", "v")
        yield found


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            {"memory_bytes": "1MB"},
            "memory_bytes must be .*, a whole number, not '1MB'",
        ),
        ({"memory_bytes": 1000.5}, r"a whole number, not 1000\.5"),
        ({"memory_bytes": None}, "memory_bytes must be between .* not None"),
        ({"memory_bytes": True}, "memory_bytes must be between .* not True"),
        ({"watermark_groups": 3}, "watermark_groups must be a power of two, not 3"),
        ({"watermark_groups": 4.0}, "watermark_groups must be between"),
        ({"push_bytes": 2.5}, "push_bytes must be between"),
        ({"cache_ttl_s": float("nan")}, "cache_ttl_s must be between 0 and .* not nan"),
        ({"cache_ttl_s": float("inf")}, "cache_ttl_s must be between 0 and .* not inf"),
        ({"name": 5}, "an edge's name must be str, not int"),
        ({"name": ""}, "an edge's name must consist of printable characters, not ''"),
        ({"name": "a\nb"}, "an edge's name must consist of printable characters"),
        ({"always_current": 1}, "always_current must be True or False, not 1"),
        ({"path": 5}, "the path of a store: expected str, bytes or os.PathLike"),
    ],
)
def test_arguments(db, arguments, said):
    with pytest.raises(InvalidRequest, match=said):
        Edge(db, **arguments)


@pytest.mark.parametrize("upstream", [None, Database, b"http://x", 5])
def test_upstreams(upstream):
    with pytest.raises(InvalidType, match="the upstream must be a Database or an Edge, the"):
        Edge(upstream)


def test_folders(db, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(NotAStore, match="is not a folder"):
        Edge(db, path=tmp_path / "file")
    with Store(tmp_path / "s") as store:
        store.put(b"k", b"v")
    with pytest.raises(NotAStore, match="does not hold an edge's copies"):
        Edge(db, path=tmp_path / "s")


def test_closed_upstreams_leave_the_folder_free(db, tmp_path):
    closed = Edge(db)
    closed.close()
    with pytest.raises(StoreClosed, match="the edge was closed"):
        Edge(closed, path=tmp_path / "d")
    Store(tmp_path / "d").close()


@pytest.mark.parametrize(
    ("call", "kind", "said"),
    [
        (
            lambda kv: kv.get("k", min_version=10**30),
            InvalidRequest,
            "of at least 0, not",
        ),
        (lambda kv: kv.get("k", min_version=None), InvalidRequest, "min_version .* not None"),
        (lambda kv: kv.get("k", min_version=False), InvalidRequest, "min_version .* not False"),
        (lambda kv: kv.get("k", min_version=""), InvalidRequest, "min_version .* not ''"),
        (lambda kv: kv.get("k", stale_if_error=float("nan")), InvalidRequest, "stale_if_error"),
        (lambda kv: kv.get("k", cache_ttl=True), InvalidType, "cache_ttl"),
        (lambda kv: kv.get("k", min_version=10**6), UpstreamUnavailable, "not at version 1000000"),
        (lambda kv: kv.get_many("k"), InvalidType, "keys must be a list of str, not one str"),
        (lambda kv: kv.get_many(5), InvalidType, "a key must be a str, not int"),
        (lambda kv: kv.get_many(["k", 5]), InvalidType, "a key must be a str, not int"),
        (lambda kv: kv.get(b"k"), InvalidType, "a key must be a str, not bytes"),
        (lambda kv: kv.get("x" * 600), LimitExceeded, "key length limit of 512"),
        (lambda kv: kv.get("k", None), InvalidRequest, "Unknown response type"),
        (lambda kv: kv.get_many(["k"], "xml"), InvalidRequest, '"xml" is not a valid type'),
        (lambda kv: kv.get_with_metadata("k", "xml"), InvalidRequest, "Unknown response type"),
        (lambda kv: kv.get_metadata(["k"]), InvalidType, "a key must be a str, not list"),
        (lambda kv: kv.read(["k"]), InvalidType, "a key must be a str, not list"),
        (lambda kv: 5 in kv, InvalidType, "a key must be a str, not int"),
        (lambda kv: kv.put("k", object()), InvalidType, "not object"),
        (lambda kv: kv.put("k", "v", expiration_ttl=-1), InvalidRequest, "expiration_ttl of -1"),
        (lambda kv: kv.list(limit=0), InvalidRequest, "greater than 0"),
        (lambda kv: kv.list(cursor="zz"), InvalidRequest, "cursor: it is damaged"),
        (lambda kv: list(kv.keys(5)), InvalidType, "prefix must be a str, not int"),
        (lambda kv: kv.count(5), InvalidType, "prefix must be a str, not int"),
    ],
)
def test_calls(kv, call, kind, said):
    with pytest.raises(kind, match=said):
        call(kv)
    assert kv.get("k") == "v"


def test_a_closed_edge_does_nothing(db):
    with Edge(db) as edge:
        kv = edge.namespace("n")
    version = db.version
    calls = [
        lambda: kv.get("k"),
        lambda: kv.get_many(["k"]),
        lambda: kv.put("k", "v"),
        lambda: kv.put_many({"k": "v"}),
        lambda: kv.delete("k"),
        lambda: kv.increment("k"),
        kv.list,
        kv.keys,
        kv.count,
        kv.size,
        lambda: kv.title,
    ]
    for call in calls:
        with pytest.raises(StoreClosed, match="the edge was closed"):
            call()
    assert db.version == version


def test_lists_fail_clearly_when_the_upstream_is_closed(db, kv):
    db.close()
    for call in (kv.list, kv.keys, kv.count, kv.size, lambda: kv.get("other")):
        with pytest.raises(StoreClosed, match="the store is closed"):
            call()


def test_an_edge_of_a_reader_refuses_writes(tmp_path):
    with kvengine.open(tmp_path / "db") as writer:
        writer.namespace("n").put("k", "1")
        with kvengine.open(tmp_path / "db", read_only=True) as reader, Edge(reader) as edge:
            kv = edge.namespace("n")
            assert kv.get("k") == "1"
            calls = [
                lambda: kv.put("k", "2"),
                lambda: kv.put_many({"k": "2"}),
                lambda: kv.delete("k"),
                lambda: kv.delete_many(["k"]),
                lambda: kv.delete_prefix(""),
                lambda: kv.increment("k"),
                lambda: kv.touch("k", expiration_ttl=60),
                lambda: kv.get_or_set("new", lambda: "made"),
            ]
            for call in calls:
                with pytest.raises(StoreReadOnly, match="read_only=True"):
                    call()
            with pytest.raises(NamespaceNotFound, match="'other' does not exist"):
                edge.namespace("other")
            assert kv.get("k") == "1"
