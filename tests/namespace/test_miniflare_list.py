"""Every case of Miniflare's tests of KV.list, by its name; see test_miniflare.py."""

import pytest

from kvengine import InvalidRequest, KeyInfo
from kvengine.testing.clock import START

NOW = int(START)


@pytest.fixture
def kv(strict):
    return strict


def put_all(kv, *names, **options):
    for name in names:
        kv.put(name, f"value of {name}", **options)


def names(page):
    return [key.name for key in page.keys]


def pages(kv, limit, **options):
    """Return the names on each page of a list."""
    found, page = [], kv.list(limit=limit, **options)
    while True:
        found.append(names(page))
        assert page.list_complete == (page.cursor is None)
        if page.list_complete:
            return found
        page = kv.list(limit=limit, cursor=page.cursor, **options)


def test_lists_keys_in_sorted_order(kv):
    put_all(kv, "key3", "key1", "key2")
    page = kv.list()
    assert page.keys == [KeyInfo("key1"), KeyInfo("key2"), KeyInfo("key3")]
    assert (page.list_complete, page.cursor) == (True, None)


def test_lists_keys_matching_prefix(kv):
    put_all(kv, "section1key1", "section1key2", "section2key1")
    assert names(kv.list("section1")) == ["section1key1", "section1key2"]
    assert names(kv.list(prefix="section2key1")) == ["section2key1"]  # exact match
    assert names(kv.list("section3")) == []


def test_prefix_is_case_sensitive(kv):
    put_all(kv, "key1", "key2", "KEY1", "KEY2")
    assert names(kv.list("KEY")) == ["KEY1", "KEY2"]


def test_prefix_permits_special_characters(kv):
    put_all(kv, "key\\_%1", "key\\a", "key\\_%2")
    assert names(kv.list("key\\_%")) == ["key\\_%1", "key\\_%2"]


def test_lists_keys_with_expiration(kv):
    for number in (1, 2, 3):
        kv.put(f"key{number}", "", expiration=NOW + 100 * number)
    kv.put("key4", "", expiration_ttl=60)
    assert [key.expiration for key in kv.list().keys] == [NOW + 100, NOW + 200, NOW + 300, NOW + 60]


def test_lists_keys_with_metadata(kv):
    for number in (1, 2, 3):
        kv.put(f"key{number}", "", metadata={"testing": number})
    assert [key.metadata for key in kv.list().keys] == [{"testing": n} for n in (1, 2, 3)]


def test_lists_keys_with_expiration_and_metadata(kv):
    kv.put("key1", "", expiration=NOW + 100, metadata={"testing": 1})
    kv.put("key2", "", metadata=[None, 1.5, "é"])
    kv.put("key3", "", expiration=NOW + 300)
    assert kv.list().keys == [
        KeyInfo("key1", NOW + 100, {"testing": 1}),
        KeyInfo("key2", None, [None, 1.5, "é"]),
        KeyInfo("key3", NOW + 300, None),
    ]


def test_returns_an_empty_list_with_no_keys(kv):
    assert kv.list() == ([], True, None, ())


def test_returns_an_empty_list_with_no_matching_keys(kv):
    put_all(kv, "key1", "key2")
    assert kv.list("none") == ([], True, None, ())


def test_paginates_keys(kv):
    put_all(kv, "key1", "key2", "key3")
    assert pages(kv, 2) == [["key1", "key2"], ["key3"]]
    assert pages(kv, 3) == [["key1", "key2", "key3"]]


def test_paginates_keys_matching_prefix(kv):
    put_all(kv, "section1key1", "section1key2", "section1key3", "section2key1")
    assert pages(kv, 2, prefix="section1") == [["section1key1", "section1key2"], ["section1key3"]]


def test_accepts_long_prefix(kv):
    key = "k" * 512
    kv.put(key, "value")
    assert names(kv.list(key)) == [key]
    assert names(kv.list(key + "k")) == []


def test_paginates_with_variable_limit(kv):
    put_all(kv, "key1", "key2", "key3")
    page = kv.list(limit=1)
    assert names(page) == ["key1"]
    page = kv.list(limit=2, cursor=page.cursor)
    assert (names(page), page.list_complete) == (["key2", "key3"], True)


def test_returns_keys_inserted_whilst_paginating(kv):
    put_all(kv, "key1", "key3", "key5")
    page = kv.list(limit=2)
    assert names(page) == ["key1", "key3"]
    put_all(kv, "key2", "key4")
    page = kv.list(limit=2, cursor=page.cursor)
    assert (names(page), page.list_complete) == (["key4", "key5"], True)


def test_ignores_expired_keys(kv, clock):
    for number in (1, 2, 3):
        kv.put(f"key{number}", "", expiration_ttl=100 * number)
    clock.advance(100)
    assert names(kv.list()) == ["key2", "key3"]
    clock.advance(200)
    assert names(kv.list()) == []


def test_sorts_lexicographically(kv):
    put_all(kv, ", ", "!")
    assert names(kv.list()) == ["!", ", "]


@pytest.mark.parametrize(
    ("limit", "text"),
    [
        (0, "Please specify an integer greater than 0."),
        (-1, "Please specify an integer greater than 0."),
        (1001, "Please specify an integer less than 1000."),
    ],
)
def test_validates_limit(kv, limit, text):
    with pytest.raises(InvalidRequest) as caught:
        kv.list(limit=limit)
    assert str(caught.value) == f"Invalid key_count_limit of {limit}. {text}"


def test_explorer_respects_limit(kv):
    put_all(kv, *(f"{number:04d}" for number in range(1001)))
    assert [len(page) for page in pages(kv, None)] == [1000, 1]
    assert [len(page) for page in pages(kv, 1000)] == [1000, 1]


def test_workerd_the_cursor_of_the_rest_api_may_be_empty(kv):
    put_all(kv, "key")
    assert names(kv.list("", cursor="")) == ["key"]
    assert names(kv.list(None, None, None)) == ["key"]
