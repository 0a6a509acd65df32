"""Lists with a delimiter: each folder once, no key missing, whatever the pages."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kvengine import Database, Limits
from kvengine.namespace.page import key_infos

FILES = [
    "a",
    "a/",
    "a/b",
    "a/b/c",
    "a/b/d",
    "a/e",
    "a0",
    "b",
    "b//",
    "b//x",
    "é/é",
    "é/ü/x",
    "😀/a",
]


@pytest.fixture
def kv(kv):
    for name in FILES:
        kv.put(name, "value")
    return kv


def names(page):
    return [key.name for key in page.keys]


def expected(files, prefix, delimiter, start_after, reverse):
    """Return what a list should show: names of keys, and folders, each in order."""
    keys, folders = [], []
    for name in sorted(files, key=str.encode, reverse=reverse):
        behind = start_after is None or (
            name.encode() < start_after.encode()
            if reverse
            else name.encode() > start_after.encode()
        )
        if not name.startswith(prefix) or not behind:
            continue
        end = name.find(delimiter, len(prefix))
        folder = name[: end + len(delimiter)]
        if end < 0:
            keys.append(name)
        elif folder not in folders:
            folders.append(folder)
    return keys, folders


def listed(kv, limit, **options):
    """Return (names, folders) of all pages; check each page on the way."""
    keys, folders = [], []
    page = kv.list(limit=limit, **options)
    while True:
        keys += names(page)
        folders += page.folders
        assert limit is None or len(page.keys) + len(page.folders) <= limit
        assert page.list_complete == (page.cursor is None)
        if page.list_complete:
            return keys, folders
        options.pop("start_after", None)
        page = kv.list(limit=limit, cursor=page.cursor, **options)


def test_as_a_file_browser_does(kv):
    page = kv.list(delimiter="/")
    assert names(page) == ["a", "a0", "b"]
    assert page.folders == ("a/", "b/", "é/", "😀/")
    page = kv.list("a/", delimiter="/")
    assert names(page) == ["a/", "a/b", "a/e"]
    assert page.folders == ("a/b/",)
    assert kv.list("b/", delimiter="/").folders == ("b//",)
    assert names(kv.list("b//", delimiter="/")) == ["b//", "b//x"]
    assert kv.list("a/b", delimiter="/").folders == ("a/b/",)
    assert kv.list("nothing", delimiter="/") == ([], True, None, ())


def test_without_a_delimiter_there_are_no_folders(kv):
    assert kv.list().folders == kv.list(delimiter="").folders == ()
    assert len(kv.list(delimiter="").keys) == len(FILES)


def test_one_list_is_one_operation(kv):
    kv.list(delimiter="/")
    assert kv._meter.lists == 1


def test_a_delimiter_inside_the_prefix_does_not_count(kv):
    assert kv.list("b//", delimiter="//") == kv.list("b//")
    assert kv.list("b/", delimiter="//").folders == ()
    assert kv.list("b", delimiter="//").folders == ("b//",)
    assert kv.list("b", delimiter="//x").folders == ("b//x",)


def test_a_folder_is_shown_if_anything_in_it_lies_behind_the_start(kv):
    page = kv.list(delimiter="/", start_after="a/b")
    assert (names(page), page.folders) == (["a0", "b"], ("a/", "b/", "é/", "😀/"))
    page = kv.list(delimiter="/", start_after="a/e")
    assert page.folders == ("b/", "é/", "😀/")
    page = kv.list(delimiter="/", start_after="a/b", reverse=True)
    assert (names(page), page.folders) == (["a"], ("a/",))
    page = kv.list(delimiter="/", start_after="a/", reverse=True)
    assert (names(page), page.folders) == (["a"], ())


def test_folders_are_jumped_over_however_large(kv, monkeypatch):
    """A folder costs one look, not one for each of its keys."""
    for number in range(3000):
        kv.put(f"c/{number:04d}", "value")
    kv.put("d/last", "value")
    sizes = []

    def infos(heads, skip):
        sizes.append(len(heads))
        return key_infos(heads, skip)

    monkeypatch.setattr("kvengine.namespace.listing.key_infos", infos)
    assert kv.list(delimiter="/").folders == ("a/", "b/", "c/", "d/", "é/", "😀/")
    assert sum(sizes) < 500


@pytest.mark.parametrize("reverse", [False, True])
def test_dead_keys_between_folders(kv, clock, monkeypatch, reverse):
    monkeypatch.setattr("kvengine.namespace.listing.EXAMINE_KEYS", 50)
    for number in range(400):
        kv.put(f"dead{number}/x", "value", expiration_ttl=1)
    clock.advance(1)
    wanted = expected(FILES, "", "/", None, reverse)
    for limit in (1, 3, 1000):
        assert listed(kv, limit, delimiter="/", reverse=reverse) == wanted


texts = st.text("a/:é😀\0", min_size=1, max_size=5).filter(lambda text: text not in {".", ".."})


@given(
    files=st.sets(texts, max_size=30),
    prefix=st.text("a/:é", max_size=2),
    delimiter=st.sampled_from(["/", ":", "//", "/:", "é", "😀", "\0", "a/a"]),
    start_after=st.none() | texts,
    limit=st.integers(1, 5) | st.none(),
    reverse=st.booleans(),
)
@example({"a/", "a/a", "a", "b"}, "", "/", "a/", 1, True)
@example({f"{number}/x" for number in range(200)}, "", "/", None, 3, False)
def test_pages_never_repeat_or_miss(files, prefix, delimiter, start_after, limit, reverse):
    with Database.in_memory(limits=Limits(list_keys=7)) as db:
        kv = db.namespace("ns")
        for name in files:
            kv.put(name, "value")
        found = listed(
            kv,
            limit,
            prefix=prefix,
            delimiter=delimiter,
            start_after=start_after,
            reverse=reverse,
        )
    assert found == expected(files, prefix, delimiter, start_after, reverse)
