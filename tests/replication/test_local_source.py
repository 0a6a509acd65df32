"""The log of a store in pieces: bounded, without a gap, whole at the end of each pull."""

import itertools

import pytest

from kvengine import LogCompacted, Store
from kvengine.replication import local_source
from kvengine.replication.local_source import LocalSource

OPTIONS = {"segment_bytes": 4096, "compaction": "manual", "durability": "os"}


@pytest.fixture
def store():
    with Store.in_memory(**OPTIONS) as opened:
        yield opened


def check(pieces, after, version):
    """Pieces follow on each other from `after` to `version`; the last one alone is whole."""
    assert pieces[0].after == after
    assert pieces[-1].upto == version
    for before, piece in itertools.pairwise(pieces):
        assert piece.after == before.upto
    assert [piece.whole for piece in pieces] == [False] * (len(pieces) - 1) + [True]
    for piece in pieces:
        versions = [piece.after, *(change.version for change in piece.changes), piece.upto + 1]
        assert versions == sorted(set(versions))


def test_all_changes_in_pieces(store, monkeypatch):
    monkeypatch.setattr(local_source, "PIECE_CHANGES", 10)
    for turn in range(3):
        store.update({b"%03d" % n: b"%d" % turn for n in range(95)})
        if turn == 1:
            store.compact()
        for after in (0, 7, store.version - 1, store.version):
            pieces = list(LocalSource(store).pieces(after))
            check(pieces, after, store.version)
            assert [c for piece in pieces for c in piece.changes] == list(store.tail(after))
            assert max(len(piece.changes) for piece in pieces) <= 10


def test_an_empty_store_has_one_whole_piece(store):
    check(list(LocalSource(store).pieces(0)), 0, 0)


def test_large_values_make_small_pieces():
    with Store.in_memory() as store:
        for number in range(8):
            store.put(b"%d" % number, bytes(3 << 20))
        pieces = list(LocalSource(store).pieces(0))
        check(pieces, 0, 8)
        assert [len(piece.changes) for piece in pieces] == [2, 2, 2, 2]


def test_of_other_keys_only_the_versions_pass(store):
    store.update({b"a%d" % n: b"" for n in range(5)} | {b"b": b"", b"a": b""})
    pieces = list(LocalSource(store, prefix=b"b").pieces(0))
    check(pieces, 0, 7)
    assert [change.key for piece in pieces for change in piece.changes] == [b"b"]


def test_following_gives_heartbeats_and_then_what_comes(tmp_path):
    with Store(tmp_path / "s", **OPTIONS) as store, Store(tmp_path / "s", read_only=True) as other:
        pieces = LocalSource(other, heartbeat_s=0.01).pieces(0, follow=True)
        assert next(pieces)[:3] == (0, 0, ())
        assert next(pieces)[:3] == (0, 0, ())
        with store.batch() as batch:
            batch.put(b"a", b"1")
            batch.put(b"b", b"2")
        piece = next(piece for piece in pieces if piece.changes)
        check([piece], 0, 2)


def test_forgotten_deletes_are_refused(store):
    for number in range(100):
        store.put(b"%d" % number, b"x" * 100)
        store.delete(b"%d" % number)
    version = store.version
    store.put(b"kept", b"")
    store.checkpoint()
    store.compact()
    with pytest.raises(LogCompacted):
        list(LocalSource(store).pieces(version - 50))
    check(list(LocalSource(store).pieces(0)), 0, version + 1)
