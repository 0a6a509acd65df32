"""Pages of keys: their order, what changes between them, and where empty ones come from."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kvengine
from kvengine import Database, KeyInfo, NamespaceNotFound
from kvengine.namespace import listing

# Sorted by UTF-8 bytes: as by code points, but not as by UTF-16 (JavaScript), in which the last
# two come before U+E000.
ORDERED = [
    "\0",
    "\0\0",
    " ",
    "!",
    "/",
    "A",
    "Z",
    "a",
    "a\0",
    "a/",
    "aa",
    "b",
    "~",
    "\x7f",
    "\x80",
    "é",
    "\u07ff",
    "\u0800",
    "日本",
    "\ud7ff",
    "\ue000",
    "\uffff",
    "\U00010000",
    "😀",
]


def names(page):
    return [key.name for key in page.keys]


def pages(kv, **options):
    """Return all pages of a list."""
    found = [kv.list(**options)]
    while not found[-1].list_complete:
        assert found[-1].cursor
        options.pop("start_after", None)
        found.append(kv.list(cursor=found[-1].cursor, **options))
    assert found[-1].cursor is None
    return found


def fill(kv, all_names):
    for name in all_names:
        kv.put(name, "value")


@pytest.mark.parametrize("limit", [1, 2, 5, 23, 24, 25, None])
@pytest.mark.parametrize("reverse", [False, True])
def test_the_order_is_that_of_utf8(db, kv, limit, reverse):
    fill(kv, sorted(ORDERED, key=hash))
    fill(db.namespace("before"), ["other"])
    fill(db.namespace("after"), ["\0", "other", "\U0010ffff"])
    assert sorted(ORDERED, key=str.encode) == ORDERED
    found = [name for page in pages(kv, limit=limit, reverse=reverse) for name in names(page)]
    assert found == (ORDERED[::-1] if reverse else ORDERED)
    for place, name in enumerate(ORDERED):
        rest = ORDERED[:place][::-1] if reverse else ORDERED[place + 1 :]
        assert names(kv.list(start_after=name, reverse=reverse)) == rest


def test_start_after_need_not_be_a_key(kv):
    fill(kv, ["a1", "a3", "b1"])
    assert names(kv.list(start_after="a2")) == ["a3", "b1"]
    assert names(kv.list(start_after="a2", reverse=True)) == ["a1"]
    assert names(kv.list("a", start_after="a2")) == ["a3"]
    for before in ("", "\0", "a"):
        assert names(kv.list("a", start_after=before)) == ["a1", "a3"]
        assert names(kv.list("a", start_after=before, reverse=True)) == []
    for behind in ("b", "\U0010ffff", "x" * 1000):
        assert names(kv.list("a", start_after=behind)) == []
        assert names(kv.list("a", start_after=behind, reverse=True)) == ["a3", "a1"]


# -- dead keys


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("delimiter", [None, "/"])
def test_a_page_may_be_empty_before_the_last(kv, clock, monkeypatch, reverse, delimiter):
    """Nobody waits for a page while thousands of dead keys are looked at."""
    monkeypatch.setattr(listing, "EXAMINE_KEYS", 100)
    fill(kv, ["a", "z"])
    for number in range(2000):
        kv.put(f"dead{number:04d}", "value", expiration_ttl=10)
    fill(kv, (f"killed{number:04d}" for number in range(2000)))
    clock.advance(10)
    for number in range(2000):
        kv.delete(f"killed{number:04d}")
    found = pages(kv, limit=10, reverse=reverse, delimiter=delimiter)
    sizes = [len(page.keys) for page in found]
    assert sum(sizes) == 2
    assert 0 in sizes[1:-1]
    assert len(found) <= 4000 / 100 + 2
    kv._store.compact()
    assert pages(kv, limit=10, delimiter=delimiter) == [
        ([KeyInfo("a"), KeyInfo("z")], True, None, ())
    ]


def test_living_keys_do_not_end_a_page(monkeypatch):
    monkeypatch.setattr(listing, "EXAMINE_KEYS", 10)
    with Database.in_memory(limits=kvengine.Limits(list_keys=5000)) as db:
        kv = db.namespace("ns")
        fill(kv, (f"{number:04d}" for number in range(5000)))
        assert len(kv.list().keys) == 5000
        assert len(kv.list(limit=4999).keys) == 4999


def test_a_full_last_page_is_the_last(kv):
    fill(kv, ORDERED)
    for limit in (1, 2, 3, 4, 6, 8, 12, 24):
        assert len(pages(kv, limit=limit)) == 24 // limit


# -- changes between pages

numbers = st.integers(0, 60)


@given(
    start=st.sets(numbers, max_size=40),
    steps=st.lists(st.lists(st.tuples(st.booleans(), numbers), max_size=5), max_size=20),
    limit=st.integers(1, 7),
    reverse=st.booleans(),
)
def test_what_stays_is_given_once_whatever_else_comes_and_goes(start, steps, limit, reverse):
    with Database.in_memory(key_buffer_entries=16, segment_bytes=4096) as db:
        kv = db.namespace("ns")
        fill(kv, (f"{number:02d}" for number in start))
        always, ever = set(start), set(start)
        found: list[str] = []
        page = kv.list(limit=limit, reverse=reverse)
        while True:
            assert len(page.keys) <= limit
            found += names(page)
            if page.list_complete:
                break
            for added, number in steps.pop() if steps else []:
                if added:
                    kv.put(f"{number:02d}", "value")
                    ever.add(number)
                else:
                    kv.delete(f"{number:02d}")
                    always.discard(number)
            if len(steps) % 5 == 1:
                db.store.compact()
            page = kv.list(limit=limit, reverse=reverse, cursor=page.cursor)
    assert found == sorted(set(found), reverse=reverse)
    assert {f"{number:02d}" for number in always} <= set(found)
    assert set(found) <= {f"{number:02d}" for number in ever}


# -- all keys, and how many


def test_keys_goes_through_all_pages(kv, clock):
    wanted = [f"{number:04d}" for number in range(2500)]
    for number, name in enumerate(wanted):
        kv.put(name, "", expiration_ttl=10 if number % 5 == 0 else None, metadata=number)
    assert [info.name for info in kv.keys("")] == wanted
    assert [info.name for info in kv.keys(reverse=True)] == wanted[::-1]
    assert [info.metadata for info in kv.keys("1")] == list(range(1000, 2000))
    assert [info.name for info in kv.keys("1", start_after="1998")] == ["1999"]
    assert [info.name for info in kv.keys("1", start_after="1002", reverse=True)] == [
        "1001",
        "1000",
    ]
    assert kv._meter.lists == 3 + 3 + 1 + 1 + 1
    assert kv.count("1") == 1000
    assert kv.count("nothing") == 0
    clock.advance(10)
    assert kv.count("1") == 800
    assert len(list(kv.keys())) == 2000


def test_keys_asks_for_a_page_when_it_is_needed(kv):
    fill(kv, (f"{number:04d}" for number in range(1500)))
    keys = kv.keys()
    assert kv._meter.lists == 0
    assert next(keys).name == "0000"
    kv.put("0500a", "too late for this page")
    kv.put("1400a", "in time for the next")
    found = [info.name for info in keys]
    assert ("0500a" in found, "1400a" in found) == (False, True)
    assert len(found) == 1500


def test_a_namespace_is_deleted_between_pages(db, kv):
    fill(kv, (f"{number:04d}" for number in range(1500)))
    keys = kv.keys()
    cursor = kv.list(limit=10).cursor
    next(keys)
    db.delete("tests")
    with pytest.raises(NamespaceNotFound, match="namespace 'tests' does not exist"):
        list(keys)
    for call in (kv.list, kv.keys, lambda: kv.list(cursor=cursor), lambda: kv.count("1")):
        with pytest.raises(NamespaceNotFound, match="namespace 'tests' does not exist"):
            call()


needs_group_size = pytest.mark.skipif(
    not hasattr(kvengine.Store, "group_size"), reason="the engine does not count groups yet"
)


@needs_group_size
def test_count_and_size_without_a_prefix_need_no_scan(db, kv, clock):
    assert (kv.count(), kv.size()) == (0, (0, 0))
    kv.put("key", "value", metadata=[1])  # "[1]": 3 bytes
    kv.put("é", b"12", expiration_ttl=10)
    db.namespace("other").put("key", "value")
    assert kv.count() == 2
    assert kv.size() == (2, len("key") + len("value") + len("[1]") + 2 + 2)
    kv.put("key", "")
    assert kv.size() == (2, 3 + 4)
    clock.advance(10)
    assert kv.count() == 1
    assert kv.size() == (1, 3)
    kv.delete("key")
    db.store.compact()
    assert (kv.count(), kv.size()) == (0, (0, 0))
    assert db.namespace("other").size() == (1, 8)
