"""A Follower holds what its source held at some version, equal in content and versions."""

import io
import shutil
import threading

import pytest

from kvengine import (
    Change,
    InvalidRequest,
    KvError,
    NotAStore,
    NotCaughtUp,
    ReplicaDiverged,
    Store,
    StoreClosed,
    StoreLocked,
    StoreReadOnly,
)
from kvengine.replication import applier
from kvengine.replication.follower import Follower
from kvengine.replication.local_source import LocalSource
from kvengine.replication.network import stream
from kvengine.replication.network.messages import Piece
from kvengine.testing.check import check_store
from kvengine.testing.clock import ManualClock
from tests.replication.store_source import StoreSource

SMALL = {"durability": "os", "segment_bytes": 4096, "key_buffer_entries": 16}


def entries(store):
    return list(store.scan())


@pytest.fixture
def source():
    with Store.in_memory(segment_bytes=4096, compaction="manual") as store:
        yield store


def fill(store, keys, value=b"value"):
    with store.batch() as batch:
        for key in keys:
            batch.put(b"key %03d" % key, value, metadata=b"%d" % key)


@pytest.mark.parametrize("in_memory", [True, False])
def test_it_follows_in_the_background(source, tmp_path, in_memory):
    fill(source, range(100))
    with Follower(StoreSource(source), None if in_memory else tmp_path, **SMALL) as follower:
        assert follower.wait(timeout=20)
        assert entries(follower.store) == entries(source)
        source.put(b"later", b"1")
        source.delete(b"key 007")
        assert follower.wait(timeout=20)
        assert follower.caught_up
        assert follower.lag == 0
        assert follower.position == source.version == follower.store.version
        assert follower.error is None
        assert entries(follower.store) == entries(source)
        with pytest.raises(StoreReadOnly, match="promote"):
            follower.store.put(b"a", b"b")
    with pytest.raises(StoreClosed):
        follower.store.get(b"a")


def test_there_is_nothing_to_read_before_the_first_whole_state(source):
    with Follower(StoreSource(source), background=False) as follower:
        fill(source, range(10))
        assert not follower.caught_up
        assert follower.lag == 10
        with pytest.raises(NotCaughtUp):
            _ = follower.store
        with pytest.raises(NotCaughtUp):
            follower.promote()
        assert not follower.wait(timeout=0)
        follower.catch_up()
        assert follower.caught_up
        assert entries(follower.store) == entries(source)


@pytest.mark.parametrize("stage_bytes", [100, 1 << 20])
def test_readers_see_only_states_that_the_source_had(source, tmp_path, monkeypatch, stage_bytes):
    monkeypatch.setattr(applier, "STAGE_BYTES", stage_bytes)
    monkeypatch.setattr(applier, "CHUNK_BYTES", 500)
    fill(source, range(50), b"0")
    origin = StoreSource(source)
    with Follower(origin, tmp_path, background=False, **SMALL) as follower:
        follower.catch_up()
        with Store(tmp_path, read_only=True) as reader:
            seen = []

            def look():
                for store in (follower.store, reader):
                    seen.append({entry.value for entry in store.scan()})
                    assert len(seen[-1]) == 1
                    assert len(store) == 50

            origin.between = look
            for number in range(1, 8):
                fill(source, range(50), b"%d" % number)
                source.compact()
                follower.catch_up()
            assert {b"7"} not in seen
            look()
            assert seen[-1] == seen[-2] == {b"7"}
            assert entries(reader) == entries(source)


def test_what_was_forgotten_meanwhile_is_not_missed(source, tmp_path):
    fill(source, range(50))
    with Follower(StoreSource(source), tmp_path, background=False, **SMALL) as follower:
        follower.catch_up()
        store = follower.store
        for number in range(0, 50, 2):
            source.delete(b"key %03d" % number)
        fill(source, [1])
        source.compact()
        assert source._parts.manifest.forgotten > follower.position
        follower.catch_up()
        assert follower.store is store
        assert entries(store) == entries(source)
        check_store(store)


def test_a_replica_goes_on_where_it_was(source, tmp_path):
    fill(source, range(50))
    for turn in range(5):
        with Follower(StoreSource(source), tmp_path, background=False, **SMALL) as follower:
            if turn:
                assert len(follower.store) == 50 + turn
            source.put(b"more %d" % turn, b"")
            follower.catch_up()
            assert entries(follower.store) == entries(source)


def test_only_keys_with_a_prefix(source, tmp_path):
    asked = []
    with source.batch() as batch:
        for number in range(100):
            batch.put(b"%d" % number, b"v")
    options = {"prefixes": [b"1", b"5", b"12"], "background": False, **SMALL}
    with Follower(StoreSource(source), tmp_path, **options) as follower:
        follower.catch_up()
        source.delete(b"12")
        source.put(b"2", b"other")
        source.put(b"1", b"new")
        source.put(b"3", b"other")
        follower.catch_up()
        wanted = [entry for entry in source.scan() if entry.key.startswith((b"1", b"5"))]
        assert entries(follower.store) == wanted
        assert follower.position == source.version

    class Asked(StoreSource):
        def pieces(self, after, *, follow=False):
            asked.append(after)
            return super().pieces(after, follow=follow)

    with Follower(Asked(source), tmp_path, **options) as follower:
        assert follower.position == source.version
        follower.catch_up()
        assert asked[0] >= source.version - 10
    with pytest.raises(InvalidRequest, match="other keys"):
        Follower(StoreSource(source), tmp_path, prefixes=[b"1"], **SMALL)


def test_promotion(source, tmp_path):
    fill(source, range(50))
    source.delete(b"key 001")
    source.checkpoint()
    source.compact()
    follower = Follower(StoreSource(source), tmp_path, background=False, **SMALL)
    follower.catch_up()
    store = follower.promote()
    assert store is follower.promote()
    assert store.put(b"mine", b"1") == source.version + 1 == 52
    source.put(b"theirs", b"1")
    with pytest.raises(StoreClosed):
        follower.catch_up()
    follower.close()
    assert store[b"mine"] == b"1"
    store.close()
    with pytest.raises(InvalidRequest, match="promoted"):
        Follower(StoreSource(source), tmp_path, **SMALL)
    with Store(tmp_path, **SMALL) as store:
        assert store[b"mine"] == b"1"
    with Follower(
        StoreSource(source), tmp_path, start_over=True, background=False, **SMALL
    ) as follower:
        with pytest.raises(NotCaughtUp):
            _ = follower.store
        follower.catch_up()
        assert entries(follower.store) == entries(source)


def test_to_begin_anew_clears_a_store_that_has_come_further(source, tmp_path):
    source.put(b"a", b"1")
    with Store(tmp_path, **SMALL) as store:
        store.update({b"%d" % number: b"old" for number in range(1000)})
    follower = Follower(StoreSource(source), tmp_path, start_over=True, background=False, **SMALL)
    follower.close()  # before anything came
    with Follower(StoreSource(source), tmp_path, background=False, **SMALL) as follower:
        with pytest.raises(NotCaughtUp):
            _ = follower.store
        follower.catch_up()
        assert entries(follower.store) == entries(source)
        with pytest.raises(StoreLocked):
            Follower(StoreSource(source), tmp_path, start_over=True)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "letter.txt").write_text("dear")
    with pytest.raises(NotAStore):
        Follower(StoreSource(source), tmp_path / "sub", start_over=True)


def test_another_store_is_no_source(source, tmp_path):
    source.put(b"a", b"1")
    with Follower(StoreSource(source), tmp_path, background=False) as follower:
        follower.catch_up()
    with Store.in_memory() as other, pytest.raises(ReplicaDiverged, match="another folder"):
        Follower(StoreSource(other), tmp_path)
    with Store(tmp_path, read_only=True) as store:
        assert store[b"a"] == b"1"


@pytest.mark.parametrize("background", [True, False])
@pytest.mark.parametrize("given", [0, 1, 3, 4, 9])
def test_a_source_that_lost_its_last_changes_is_noticed(tmp_path, given, background):
    source = Store(tmp_path / "source", durability="os")
    fill(source, range(20))
    shutil.copytree(tmp_path / "source", tmp_path / "before")
    for number in range(3):
        source.put(b"lost %d" % number, b"1")
    with Follower(StoreSource(source), tmp_path / "replica", background=False) as follower:
        follower.catch_up()
        wanted = entries(follower.store)
    source.close()
    with Store(tmp_path / "before", durability="os") as source:
        for number in range(given):
            source.put(b"lost %d" % number, b"2")
        options = {"background": background}
        with Follower(StoreSource(source), tmp_path / "replica", **options) as follower:
            if background:
                with pytest.raises(ReplicaDiverged):
                    follower.wait(source.version + 24, timeout=20)
                assert isinstance(follower.error, ReplicaDiverged)
            else:
                with pytest.raises(ReplicaDiverged):
                    follower.catch_up()
            assert entries(follower.store) == wanted


def test_what_expires_and_is_buried_is_no_divergence(tmp_path):
    clock = ManualClock()
    with Store.in_memory(segment_bytes=4096, compaction="manual", clock=clock) as source:
        source.put(b"stays", b"1")
        source.put(b"goes", b"1", expires_at=clock.time() + 10)
        source.put(b"stays too", b"1")
        with Follower(StoreSource(source), tmp_path, background=False, clock=clock) as follower:
            follower.catch_up()
            clock.advance(20)
            source.compact()
            source.put(b"more", b"1")
            follower.catch_up()
            assert entries(follower.store) == entries(source)
            assert len(follower.store) == len(source) == 3


class Scripted:
    """Gives the pieces of a script, each list in one call."""

    uuid = b"\0" * 16

    def __init__(self, *calls, version=100):
        self.calls, self.version, self.asked = list(calls), version, []

    def pieces(self, after, *, follow=False):
        self.asked.append(after)
        for piece in self.calls.pop(0) if self.calls else []:
            if isinstance(piece, Exception):
                raise piece
            yield piece


def piece(after, upto, *versions, whole=True):
    changes = [Change(v, "put", b"%d" % v, b"", b"", None) for v in versions]
    return Piece(after, upto, tuple(changes), whole)


def test_repeats_are_left_out_and_gaps_are_asked_for_again():
    source = Scripted(
        [
            piece(0, 2, 1, 2),
            piece(0, 2, 1, 2),
            piece(1, 4, 2, 3, 4, whole=False),
            piece(0, 2, 1, 2),
            piece(3, 5, 4, 5, whole=False),
            piece(7, 8, 8),
        ],
        [piece(5, 7, 7), piece(7, 8, 8)],
    )
    with Follower(source, background=False) as follower:
        with pytest.raises(KvError, match="6 to 7"):
            follower.catch_up()
        assert follower.position == 2
        assert list(follower.store) == [b"1", b"2"]
        follower.catch_up()
        assert source.asked == [0, 5]
        assert list(follower.store) == [b"1", b"2", b"3", b"4", b"5", b"7", b"8"]
        assert follower.position == 8


def test_a_source_that_fails_is_asked_again():
    source = Scripted([OSError("cut")], [piece(0, 1, 1), OSError("cut")], [piece(1, 2, 2)])
    with Follower(source) as follower:
        assert follower.wait(2, timeout=20)
        assert list(follower.store) == [b"1", b"2"]


def test_closing_does_not_wait_for_a_source_that_is_silent():
    silent = threading.Event()

    class Silent(Scripted):
        def pieces(self, after, *, follow=False):
            silent.wait(60)
            yield piece(0, 1, 1)

    follower = Follower(Silent())
    follower.close()
    silent.set()
    with pytest.raises(StoreClosed):
        follower.wait()


class Wired(LocalSource):
    """A source at the far end of a stream of bytes, which is opened anew for each call."""

    def pieces(self, after, *, follow=False):
        sent = bytearray()
        stream.send(LocalSource(self.store), sent.extend, after, uuid=self.uuid)
        return stream.receive(io.BytesIO(sent).read).pieces(after)


def test_over_a_stream(source, tmp_path):
    fill(source, range(50))
    with Follower(Wired(source), tmp_path, background=False, **SMALL) as follower:
        for turn in range(6):
            source.put(b"key 001", b"%d" % turn)
            source.delete(b"key 0%02d" % (turn + 10))
            if turn % 2:
                source.compact()
            follower.catch_up()
            assert entries(follower.store) == entries(source)
            assert follower.position == source.version
