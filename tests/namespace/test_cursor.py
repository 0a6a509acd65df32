"""A cursor works after anything that happens to the store, and for no other list than its own."""

import pytest

from kvengine import InvalidRequest, InvalidType, NamespaceNotFound, open  # noqa: A004
from kvengine.namespace import cursor as cursors
from kvengine.namespace.cursor import ListQuery

NAMES = [f"key{number:02d}" for number in range(20)]
DAMAGED = 'invalid "list keys" cursor: it is damaged'
OTHER_PREFIX = "it belongs to another prefix or delimiter; repeat them with each page"
BASE64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


@pytest.fixture
def kv(kv):
    for name in NAMES:
        kv.put(name, "value")
    return kv


def names(page):
    return [key.name for key in page.keys]


def test_a_cursor_is_text_that_needs_no_quoting_in_a_url(kv):
    cursor = kv.list(limit=1).cursor
    assert isinstance(cursor, str)
    assert set(cursor) <= set(BASE64)


@pytest.mark.parametrize("last", ["a", "\0", "é" * 256, "😀", "a/b", "~"])
@pytest.mark.parametrize("reverse", [False, True])
def test_a_cursor_says_where_to_go_on(last, reverse):
    query = ListQuery(2**32 - 1, b"prefix", b"/", reverse)
    assert cursors.decode(query, cursors.encode(query, last.encode())) == last.encode()
    behind = last.encode() + b"\xff"  # as after a folder
    assert cursors.decode(query, cursors.encode(query, behind)) == behind


def test_after_a_compaction_and_a_checkpoint(kv):
    page = kv.list(limit=5)
    for name in NAMES[3:9]:
        kv.delete(name)
    kv._store.compact()
    kv._store.checkpoint()
    assert names(kv.list(cursor=page.cursor)) == NAMES[9:]


@pytest.mark.parametrize("reverse", [False, True])
def test_after_a_restart(tmp_path, reverse):
    with open(tmp_path, durability="os") as db:
        kv = db.namespace("ns")
        for name in NAMES:
            kv.put(name, "value")
        page = kv.list("key", limit=5, reverse=reverse)
    ordered = NAMES[::-1] if reverse else NAMES
    with open(tmp_path, read_only=True) as db:
        kv = db.namespace("ns")
        assert names(kv.list("key", cursor=page.cursor, reverse=reverse)) == ordered[5:]
    with open(tmp_path, durability="os") as db:
        db.store.compact()
        db.rename("ns", "other")
        kv = db.namespace("other")
        page = kv.list("key", limit=5, cursor=page.cursor, reverse=reverse)
        assert names(page) == ordered[5:10]


def test_twice_gives_the_same(kv):
    cursor = kv.list(limit=5).cursor
    assert kv.list(cursor=cursor) == kv.list(cursor=cursor)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"prefix": "ke"}, "it belongs to another prefix or delimiter; repeat them with each page"),
        (
            {"prefix": "key0"},
            "it belongs to another prefix or delimiter; repeat them with each page",
        ),
        (
            {"delimiter": "/"},
            "it belongs to another prefix or delimiter; repeat them with each page",
        ),
        ({"reverse": True}, "it belongs to a list in the other direction"),
    ],
)
def test_of_another_list(kv, refused, arguments, why):
    cursor = kv.list("key", limit=5).cursor
    with refused(f'invalid "list keys" cursor: {why}'):
        kv.list(cursor=cursor, **{"prefix": "key", **arguments})
    other = kv.list(limit=5, **{"prefix": "key", **arguments}).cursor
    with refused(f'invalid "list keys" cursor: {why}'):
        kv.list("key", cursor=other)


def test_prefix_and_delimiter_are_told_apart(kv, refused):
    cursor = kv.list("key", delimiter="0", limit=1).cursor
    with refused(f'invalid "list keys" cursor: {OTHER_PREFIX}'):
        kv.list("key0", cursor=cursor)


def test_of_another_namespace(db, kv, refused):
    other = db.namespace("other")
    for name in NAMES:
        other.put(name, "value")
    cursor = other.list(limit=5).cursor
    with refused('invalid "list keys" cursor: it belongs to another namespace'):
        kv.list(cursor=cursor)


def test_of_a_deleted_namespace(db, kv, refused):
    cursor = kv.list(limit=5).cursor
    db.delete("tests")
    db._remover.wait()
    with refused("namespace 'tests' does not exist", NamespaceNotFound):
        kv.list(cursor=cursor)
    again = db.namespace("tests")
    for name in NAMES:
        again.put(name, "value")
    with refused('invalid "list keys" cursor: it belongs to another namespace'):
        again.list(cursor=cursor)


def test_damaged_at_every_character(kv):
    cursor = kv.list(limit=7).cursor
    for place in range(len(cursor)):
        for other in (*BASE64[:: 1 if place == len(cursor) - 1 else 9], "=", "+", " ", "é", "\0"):
            damaged = cursor[:place] + other + cursor[place + 1 :]
            if damaged != cursor:
                with pytest.raises(InvalidRequest) as caught:
                    kv.list(cursor=damaged)
                assert str(caught.value) == DAMAGED


def test_cut_and_lengthened(kv):
    cursor = kv.list(limit=7).cursor
    for length in range(1, len(cursor)):
        for part in (cursor[:length], cursor[length:]):
            with pytest.raises(InvalidRequest) as caught:
                kv.list(cursor=part)
            assert str(caught.value) == DAMAGED
    for more in ("A", "=", "==", "====", " ", "\n", "\ud800", cursor):
        with pytest.raises(InvalidRequest) as caught:
            kv.list(cursor=cursor + more)
        assert str(caught.value) == DAMAGED


def test_what_was_never_a_cursor(kv, refused):
    for cursor in (b"abc", 5, 0, False, [], b"", 1.5):
        text = f"it must be a str that list() returned, not {type(cursor).__name__}"
        with refused(f'invalid "list keys" cursor: {text}', InvalidType):
            kv.list(cursor=cursor)
    for text in ("key05", "a", "=", "\ud800", "x" * 10_000):
        with refused(DAMAGED):
            kv.list(cursor=text)


def test_with_start_after(kv, refused):
    cursor = kv.list(limit=5).cursor
    with refused("pass only one of cursor and start_after"):
        kv.list(cursor=cursor, start_after="key05")
    assert names(kv.list(cursor="", start_after="key05")) == NAMES[6:]
