"""A follower beside a source under any operations: what it shows is what the source had."""

import contextlib
import shutil

from hypothesis import given, settings
from hypothesis import strategies as st

from kvengine import Entry, Store
from kvengine.replication import applier
from kvengine.replication.follower import Follower
from kvengine.replication.frozen import Snapshot
from kvengine.testing.check import check_store
from kvengine.testing.clock import ManualClock
from tests.replication.store_source import StoreSource

SMALL = {"durability": "os", "segment_bytes": 4096, "key_buffer_entries": 16}
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(0, 12), st.sampled_from([None, None, 5, 100.5])),
        st.tuples(st.just("delete"), st.integers(0, 12)),
        st.tuples(st.just("many"), st.integers(2, 9)),
        st.tuples(st.just("pass"), st.integers(1, 60)),
        st.tuples(
            st.sampled_from(
                ["follow", "follow", "cut", "compact", "checkpoint", "open source", "open",
                 "kill", "compact replica", "compare", "promote"]
            )
        ),
    ),
    max_size=50,
)  # fmt: skip


class Pair:
    """A source, its follower, and what the source held at each version."""

    def __init__(self, folder, prefixes):
        self.folder, self.prefixes, self.opens = folder, prefixes, 0
        self.clock = ManualClock()
        self.options = {**SMALL, "clock": self.clock}
        self.source = Store(folder / "source", compaction="manual", **self.options)
        self.held: dict[int, tuple[Entry, ...]] = {0: ()}
        self.open_follower()

    def open_follower(self, **more):
        self.origin = StoreSource(self.source, seed=self.opens)
        self.follower = Follower(
            self.origin,
            self.folder / f"replica {self.opens}",
            background=False,
            prefixes=self.prefixes,
            **more,
            **self.options,
        )

    def note(self):
        self.held[self.source.version] = tuple(self.source.scan())

    def wanted(self, version):
        if self.prefixes is not None:  # after a kill it may count from within a batch
            version = min(number for number in self.held if number >= version)
        now = self.clock.time()
        return [
            entry
            for entry in self.held[version]
            if (entry.expires_at is None or entry.expires_at > now)
            and (self.prefixes is None or entry.key.startswith(tuple(self.prefixes)))
        ]

    def check(self):
        if self.follower.lag and not self.follower.position:
            return
        store = self.follower._store
        wanted = self.wanted(self.follower.position)
        assert list(store.scan()) == wanted
        assert len(store) == len(wanted)
        for entry in wanted:
            assert store.get_entry(entry.key) == entry
        newest = {change.key: change for change in store.tail()}
        now = self.clock.time()
        living = [
            (change.key, change.value, change.metadata, change.expires_at, change.version)
            for change in newest.values()
            if change.kind == "put" and not (change.expires_at and change.expires_at <= now)
        ]
        assert sorted(living) == wanted

    def do(self, step, arguments):
        source, follower = self.source, self.follower
        if step == "put":
            number, lifetime = arguments
            expires_at = None if lifetime is None else self.clock.time() + lifetime
            value = b"%d" % source.version * 500
            source.put(b"%d" % number, value, metadata=b"m", expires_at=expires_at)
        elif step == "delete":
            source.delete(b"%d" % arguments[0])
        elif step == "many":
            with source.batch() as batch:
                for number in range(arguments[0]):
                    batch.put(b"%d" % number, b"%d" % source.version)
        elif step == "pass":
            self.clock.advance(arguments[0])
        elif step == "follow":
            assert follower.catch_up() == source.version
            assert follower.caught_up
        elif step == "cut":
            self.cut_short()
        elif step == "compare":
            with Snapshot(source) as view:
                assert follower.differences(view) == []
        elif step == "promote":
            self.promote()
        elif step in ("compact", "checkpoint"):
            getattr(source, step)()
        elif step == "compact replica":
            follower._store.compact()
        else:
            self.open_again(step)

    def cut_short(self):
        """Follow, but the connection breaks after a piece or two."""
        pieces = iter([True, True])

        def between():
            if next(pieces, None) is None:
                raise ConnectionError

        self.origin.between = between
        with contextlib.suppress(ConnectionError):
            self.follower.catch_up()
        self.origin.between = lambda: None

    def open_again(self, step):
        if step == "open source":
            self.source.close()
            self.source = Store(self.folder / "source", compaction="manual", **self.options)
        if step == "kill":
            self.opens += 1
            store = self.follower._store
            with store._parts.jobs:
                shutil.copytree(store.path, self.folder / f"replica {self.opens}")
        self.follower.close()
        self.open_follower()

    def promote(self):
        """Turn the replica into the source of the next one."""
        if self.prefixes is not None or not self.follower._ready:
            return
        position = self.follower.position
        held = self.held[position]
        store = self.follower.promote()
        assert store.put(b"1", b"new") == position + 1
        assert list(store.scan(start_after=b"1")) == [
            entry for entry in self.wanted(position) if entry.key > b"1"
        ]
        self.source.close()
        store.close()
        shutil.rmtree(self.folder / "source")
        (self.folder / f"replica {self.opens}").rename(self.folder / "source")
        self.opens += 1
        self.source = Store(self.folder / "source", compaction="manual", **self.options)
        self.held = {0: (), position: held}
        self.open_follower()


@settings(deadline=None, max_examples=150)
@given(STEPS, st.sampled_from([None, [b"1"], [b"2", b"10"]]), st.sampled_from([300, 1 << 20]))
def test_a_replica_is_its_source(tmp_path_factory, steps, prefixes, stage_bytes):
    folder = tmp_path_factory.mktemp("pair")
    kept, applier.STAGE_BYTES = applier.STAGE_BYTES, stage_bytes
    try:
        pair = Pair(folder, prefixes)
        for step, *arguments in steps:
            pair.do(step, arguments)
            pair.note()
            pair.check()
        pair.follower.catch_up()
        pair.check()
        check_store(pair.follower.store)
        pair.follower.close()
        pair.source.close()
    finally:
        applier.STAGE_BYTES = kept
        shutil.rmtree(folder)
