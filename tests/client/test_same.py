"""What a call over the network gives, or raises, is what it does in one process."""

import io
import itertools
from dataclasses import asdict

import pytest

import kvengine

titles = (f"title {number}" for number in itertools.count())

PREPARED = {
    "text": "hello",
    "bytes": b"\x00\xff\x80",
    "json": '{"a": [1, 2.5, null]}',
    "umlaut ä/%2F": "ä",
    "$b": "a key that looks like our own framing",
    "number": "41",
    "empty": "",
}


def prepare(namespace):
    for key, value in PREPARED.items():
        namespace.put(key, value, metadata={"$b": 3, "key": [key]})
    return namespace


@pytest.fixture
def pair(server, remote):
    title = next(titles)
    own = kvengine.Database.in_memory(limits=server.db.limits)
    yield prepare(own.namespace(title)), prepare(remote.namespace(title))
    own.close()


class Endless(io.RawIOBase):
    def readable(self):
        return True

    def readinto(self, buffer):
        return len(buffer)

    def read(self, size=-1):
        assert size > 0, "all of it does not fit into memory"
        return bytes(size)


def outcome(namespace, call):
    """What a call gives, with streams read and without versions, which are those of a store."""
    try:
        return plain(call(namespace))
    except (kvengine.KvError, KeyError) as error:
        return type(error), str(error), getattr(error, "status", None)


def plain(value):
    if isinstance(value, kvengine.ValueWithMetadata | kvengine.KeyDetails | kvengine.KeyChange):
        value = value._replace(version=value.version and 1)
    if hasattr(value, "read"):
        return value.read()
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items()}
    if isinstance(value, tuple):
        return (type(value), *map(plain, value))
    return list(map(plain, value)) if isinstance(value, list) else value


CALLS = {
    "get": lambda ns: [ns.get(key) for key in PREPARED],
    "get bytes": lambda ns: [ns.get(key, "bytes") for key in PREPARED],
    "get json": lambda ns: ns.get("json", "json"),
    "get no json": lambda ns: ns.get("text", "json"),
    "get stream": lambda ns: ns.get("bytes", "stream"),
    "get absent": lambda ns: (ns.get("nothing"), ns.get("nothing", "stream")),
    "get another type": lambda ns: ns.get("text", "xml"),
    "get cache_ttl": lambda ns: ns.get("text", cache_ttl=60),
    "get short cache_ttl": lambda ns: ns.get("text", cache_ttl=1),
    "get many": lambda ns: ns.get(["text", "nothing", "bytes"]),
    "get many bytes": lambda ns: ns.get_many(iter(["text", "bytes"]), "bytes"),
    "get many streams": lambda ns: ns.get_many(["text", "bytes"], "stream"),
    "get many of a str": lambda ns: ns.get_many("text"),
    "get many of bytes": lambda ns: ns.get_many(b"text"),
    "get many of a number": lambda ns: ns.get_many(5),
    "get_or_set of many": lambda ns: ns.get_or_set(["text"], lambda: "v"),
    "get many none": lambda ns: ns.get_many([]),
    "get too many": lambda ns: len(ns.get_many([f"{number}" for number in range(101)])),
    "get_with_metadata": lambda ns: ns.get_with_metadata("bytes", "bytes"),
    "get_with_metadata stream": lambda ns: ns.get_with_metadata("bytes", "stream"),
    "get_with_metadata absent": lambda ns: ns.get_with_metadata("nothing"),
    "get_with_metadata many": lambda ns: ns.get_with_metadata(["text", "nothing"]),
    "get_metadata": lambda ns: (ns.get_metadata("text"), ns.get_metadata("nothing")),
    "contains": lambda ns: ("text" in ns, "nothing" in ns),
    "a long key": lambda ns: ns.get("ä" * 300),
    "an empty key": lambda ns: ns.get(""),
    "a dot": lambda ns: ns.put("..", "v"),
    "a key of bytes": lambda ns: ns.get(b"text"),
    "a key that is a number": lambda ns: ns.get(7),
    "a lone surrogate": lambda ns: ns.get("\ud800"),
    "put and read": lambda ns: (ns.put("new", b"\x00new"), ns.get("new", "bytes"))[1],
    "put json": lambda ns: (ns.put("new", {"$s": [1]}, type="json"), ns.get("new", "json"))[1],
    "put stream": lambda ns: (ns.put("new", io.BytesIO(b"a" * 99)), ns.get("new"))[1],
    "put a view": lambda ns: (ns.put("new", memoryview(b"view")), ns.get("new"))[1],
    "put a long text": lambda ns: (ns.put("new", "ä" * 5000), ns.get("new"))[1],
    "put a stream of another size": lambda ns: ns.put("new", io.BytesIO(b"abc"), size=5),
    "put no value": lambda ns: ns.put("new", object()),
    "put no json": lambda ns: ns.put("new", {1, 2}, type="json"),
    "put another type": lambda ns: ns.put("new", "x", type="xml"),
    "put no metadata": lambda ns: ns.put("new", "x", metadata={1, 2}),
    "put nan": lambda ns: ns.put("new", "x", metadata=float("nan")),
    "put long metadata": lambda ns: ns.put("new", "x", metadata="m" * 2000),
    "put metadata": lambda ns: (
        ns.put("new", "x", metadata={"ä": (1, "\ud800")}), ns.get_with_metadata("new")
    )[1],
    "put too early": lambda ns: ns.put("new", "x", expiration=5),
    "put a fraction": lambda ns: ns.put("new", "x", expiration_ttl=60.5) > 0,
    "put a bool": lambda ns: ns.put("new", "x", expiration_ttl=True),
    "put a short life": lambda ns: ns.put("new", "x", expiration_ttl=30) > 0,
    "put ends": lambda ns: (
        ns.put("new", "x", expiration=9_999_999_999), ns.get_metadata("new")
    )[1],
    "put if absent": lambda ns: ns.put("text", "x", if_version=0, metadata=None) > 0
    if "text" not in ns else "it is there",
    "a large value": lambda ns: ns.put("new", bytes(25 * 2**20 + 1)),
    "delete": lambda ns: (ns.delete("text") > 0, ns.delete("text"), ns.get("text")),
    "touch": lambda ns: (
        ns.touch("text", expiration=9_999_999_999) > 0, ns.get_metadata("text").expiration,
        ns.touch("nothing", expiration_ttl=60),
    ),
    "increment": lambda ns: (
        ns.increment("number"), ns.increment("fresh", 3, initial=4), ns.get("number")
    ),
    "increment text": lambda ns: ns.increment("text"),
    "increment by text": lambda ns: ns.increment("number", "1"),
    "put_many": lambda ns: (
        ns.put_many({"a": "b", "c": b"\xff", "d": io.BytesIO(b"d").getvalue()}),
        ns.get_many(["a", "c", "d"]),
    ),
    "put_many pairs": lambda ns: ns.put_many(
        [("a", "b"), {"key": "c", "value": "eHk=", "base64": True, "metadata": {"m": 1}}]
    ),
    "put_many streams": lambda ns: (
        ns.put_many({"a": io.BytesIO(b"a" * 99)}), ns.get("a"),
    ),
    "put_many a long stream": lambda ns: ns.put_many([("a", "b"), ("c", Endless())]),
    "put_many a text file": lambda ns: ns.put_many({"a": io.StringIO("text")}),
    "put_many reports": lambda ns: ns.put_many([("a", "b"), ("", "c")], atomic=False),
    "put_many refuses": lambda ns: ns.put_many([("a", "b"), ("", "c")]),
    "put_many misspelled": lambda ns: ns.put_many([{"key": "a", "value": "b", "ttl": 1}]),
    "put_many no value": lambda ns: ns.put_many([{"key": "a"}]),
    "put_many triple": lambda ns: ns.put_many([["a", "b", "c"]]),
    "put_many too many": lambda ns: ns.put_many((f"{number}", "") for number in itertools.count()),
    "put_many progress": lambda ns: ns.put_many({"a": "b"}, progress=lambda done, of: None),
    "delete_many": lambda ns: (ns.delete_many(["text", "nothing"]), ns.get("text")),
    "delete_many str": lambda ns: ns.delete_many("text"),
    "delete_prefix": lambda ns: (
        ns.delete_prefix("e", dry_run=True), ns.delete_prefix("e"), ns.get("empty")
    ),
    "delete_prefix none": lambda ns: ns.delete_prefix(None),
    "list": lambda ns: ns.list(),
    "list a page": lambda ns: ns.list(limit=2).keys,
    "list options": lambda ns: ns.list("u", reverse=True, delimiter="/"),
    "list refuses": lambda ns: ns.list(limit=0),
    "list no cursor": lambda ns: ns.list(cursor="nonsense"),
    "keys": lambda ns: list(ns.keys()),
    "keys reverse": lambda ns: list(ns.keys("e", reverse=True)),
    "count": lambda ns: (ns.count(), ns.count("e")),
    "size": lambda ns: ns.size(),
    "history": lambda ns: list(ns.history("text")),
    "get_or_set": lambda ns: (
        ns.get_or_set("made", lambda: "once"), ns.get_or_set("made", lambda: "twice")
    ),
    "title": lambda ns: ns.title.startswith("title"),
    "array buffer": lambda ns: (
        ns.get("bytes", "arrayBuffer"), ns.get_many(["bytes"], "arrayBuffer"),
        ns.get_with_metadata("bytes", "arrayBuffer"), ns.pop("bytes", type="arrayBuffer"),
    ),
    "put an array buffer": lambda ns: ns.put("new", b"1", type="arrayBuffer"),
    "exists": lambda ns: (ns.exists("text"), ns.exists("nothing")),
    "exists many": lambda ns: ns.exists(["text"]),
    "add": lambda ns: (ns.add("new", "1", metadata=[1]), ns.add("new", "2"), ns.get("new")),
    "add json": lambda ns: (ns.add("new", None, type="json"), ns.get("new")),
    "add nothing": lambda ns: ns.add("new", None),
    "add too early": lambda ns: ns.add("new", "1", expiration=5),
    "add durability": lambda ns: ns.add("new", "1", durability="now"),
    "pop": lambda ns: (ns.pop("text"), ns.pop("text", 7), ns.exists("text")),
    "pop absent": lambda ns: ns.pop("nothing"),
    "pop null": lambda ns: (ns.put("new", None, type="json") > 0, ns.pop("new", 7, type="json")),
    "pop no json": lambda ns: ns.pop("text", type="json"),
    "pop a stream": lambda ns: (ns.pop("bytes", type="stream").read(), ns.exists("bytes")),
    "pop another type": lambda ns: ns.pop("text", type="xml"),
    "pop many": lambda ns: ns.pop(["text"], None),
    "pop a number": lambda ns: ns.pop(7, None),
    "ttl": lambda ns: (
        ns.touch("text", expiration_ttl=600) > 0, 599 < ns.ttl("text") <= 601,
        ns.ttl("number"), ns.ttl("nothing"),
    ),
    "ttl many": lambda ns: ns.ttl(["text"]),
    "ttl dot": lambda ns: ns.ttl("."),
    "persist": lambda ns: (
        ns.persist("text"), ns.touch("text", expiration_ttl=600) > 0, ns.persist("text") > 0,
        ns.ttl("text"), ns.persist("nothing"),
    ),
    "persist many": lambda ns: ns.persist(["text"]),
    "touch nothing": lambda ns: ns.touch("text"),
    "touch a version": lambda ns: ns.touch("text", expiration_ttl=600, if_version="1"),
    "increment what exists": lambda ns: (
        ns.increment("number", must_exist=True), ns.increment("fresh", must_exist=True)
    ),
    "increment nothing": lambda ns: ns.increment("fresh", must_exist=True),
    "increment from a fraction": lambda ns: ns.increment("fresh", initial=1.5),
    "put_many if absent": lambda ns: (
        ns.put_many([("a", "1"), ("a", "2")], if_version=0), ns.get("a")
    ),
    "put_many a version": lambda ns: ns.put_many({"a": "1"}, if_version="1"),
    "put_many a bool": lambda ns: ns.put_many({}, if_version=True),
    "put_many below 0": lambda ns: ns.put_many({"a": "1"}, if_version=-1),
    "put_many above all": lambda ns: ns.put_many({"a": "1"}, if_version=1 << 70),
    "put_many each": lambda ns: ns.put_many({"a": "1"}, if_version=0, atomic=False),
    "item": lambda ns: (ns["text"], ns["empty"]),
    "item absent": lambda ns: ns["nothing"],
    "items many": lambda ns: ns["text", "number"],
    "set an item": lambda ns: (ns.__setitem__("new", b"1"), ns["new"]),
    "set nothing": lambda ns: ns.__setitem__("new", None),
    "delete an item": lambda ns: (ns.__delitem__("text"), len(ns)),
    "delete an absent item": lambda ns: ns.__delitem__("nothing"),
    "pairs": lambda ns: (list(ns.items()), list(reversed(ns.values()))),
    "popitem": lambda ns: (ns.popitem(), len(ns)),
    "popitem of none": lambda ns: (ns.clear(), ns.popitem()),
    "setdefault": lambda ns: (ns.setdefault("text", "1"), ns.setdefault("new", b"\xff")),
    "setdefault nothing": lambda ns: ns.setdefault("new"),
    "setdefault many": lambda ns: ns.setdefault(["text"], "1"),
    "update": lambda ns: (ns.update({"a": "1"}, b="2"), ns.update([("c", "3")]), len(ns)),
    "update a number": lambda ns: ns.update({5: "1"}),
    "keys of a number": lambda ns: ns.keys(5),
    "keys after a number": lambda ns: ns.keys(start_after=5),
    "watch until before": lambda ns: ns.watch(timeout=-1),
    "watch until never": lambda ns: ns.watch(timeout=float("nan")),
    "watch a number": lambda ns: ns.watch(5),
    "get_or_set null": lambda ns: (
        ns.get_or_set("new", lambda: None, type="json"), ns.get_or_set("new", int, type="json")
    ),
    "get_or_set nothing": lambda ns: ns.get_or_set("new", lambda: None),
}  # fmt: skip


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_call_does_the_same(pair, call):
    own, far = (outcome(namespace, call) for namespace in pair)
    assert far == own


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_and_leaves_the_same(pair, call):
    for namespace in pair:
        outcome(namespace, call)
    own, far = (
        {key.name: plain(ns.get_with_metadata(key.name, "bytes")) for key in ns.list().keys}
        for ns in pair
    )
    assert far == own


def test_version_conflicts_say_what_was_found(pair):
    _, far = pair
    version = far.put("text", "newer")
    with pytest.raises(kvengine.VersionConflict) as caught:
        far.put("text", "x", if_version=1)
    assert (caught.value.expected, caught.value.found) == (1, version)
    assert far.put("text", "x", if_version=version) > version


def test_pages_go_on(pair):
    _, far = pair
    names, cursor = [], None
    while True:
        page = far.list(limit=2, cursor=cursor)
        names += [key.name for key in page.keys]
        if page.list_complete:
            break
        cursor = page.cursor
    assert names == sorted(PREPARED, key=str.encode)


def test_memoize(pair):
    _, far = pair
    calls = []

    @far.memoize(type="json")
    def square(number):
        calls.append(number)
        return number * number

    assert (square(7), square(7), calls) == (49, 49, [7])


def test_namespaces_are_listed_renamed_and_deleted(server, remote):
    title = next(titles)
    info = remote.create_namespace(title)
    assert info in remote.namespaces()
    with pytest.raises(kvengine.NamespaceExists, match="already exists"):
        remote.create_namespace(title)
    assert remote.rename(title, title + "!").title == title + "!"
    namespace = remote.namespace_by_id(info.id)
    assert namespace is remote.namespace(title + "!")
    namespace.put("a", "b")
    remote.delete(title + "!")
    with pytest.raises(kvengine.NamespaceNotFound, match=info.id):
        namespace.get("a")
    with pytest.raises(kvengine.NamespaceNotFound):
        remote.namespace_by_id(info.id)
    remote.wait_for_removals()
    assert remote.namespaces(order="title", direction="desc", per_page=1) == (
        server.db.namespaces(order="title", direction="desc", per_page=1)
    )


def test_usage_is_that_of_the_server(server, remote):
    remote.namespace(next(titles)).put("a", "b")
    assert asdict(remote.usage()) == asdict(server.db.usage())
    with pytest.raises(kvengine.InvalidRequest):
        remote.usage(month="november")


def test_the_log_and_the_version(server, remote):
    namespace = remote.namespace(next(titles))
    after = remote.version
    namespace.put("a", "b")
    (change,) = remote.tail(after)
    assert (change.namespace_id, change.name, change.value) == (namespace.id, "a", b"b")
    assert change.version == remote.version == server.db.version
    remote.sync()


def test_watch_gives_each_change_once(remote):
    namespace = remote.namespace(next(titles))
    changes = namespace.watch("w")
    for number in range(20):
        namespace.put(f"w{number % 3}", f"{number}")
        namespace.put("other", "x")
    found = [next(changes) for _ in range(20)]
    assert [change.value for change in found] == [b"%d" % number for number in range(20)]
    assert next(namespace.watch("w", after=found[-2].version)) == found[-1]
    assert list(namespace.watch("w", after=found[-1].version, timeout=0.1)) == []
    followed = remote.tail(found[-2].version - 1, follow=True)
    assert next(followed).name.startswith("w")
