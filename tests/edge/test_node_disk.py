"""An edge with copies on disk: what is read there, and when it comes to memory."""

from kvengine.edge import disk as disks
from kvengine.edge.disk import DiskCache
from kvengine.edge.messages import Answer, ChangeBatch, ChangeEvent
from kvengine.testing.world.nodes import copy_of
from tests.edge.bench import Bench


def test_news_that_come_while_a_copy_is_read_from_disk_are_not_undone(time, clock, monkeypatch):
    disk = DiskCache(None, 1 << 20)
    bench = Bench(time, clock, disk=disk)
    bench.hold(version=5, value=b"old")
    assert bench.apply_changes(10, 10)
    bench.edge.copies.values.clear()
    get = disk.get

    def slow(key):
        found = get(key)
        if found is not None:
            monkeypatch.undo()
            assert bench.apply_changes(10, 11, ChangeEvent(11, b"k", False))
        return found

    monkeypatch.setattr(disk, "get", slow)
    assert bench.read()[0].as_of == 10  # it began before
    assert bench.read() == []  # and the next one asks
    bench.upstream.answer(Answer(0, 11, 0.0))


def test_a_crash_between_any_two_writes_to_the_disk_shows_nothing_old(time, clock, monkeypatch):
    """Whatever of one apply_changes() was written: after a restart no copy has a false age."""
    monkeypatch.setattr(disks, "POSITION_EVERY", 1)
    bench = Bench(time, clock, disk=DiskCache(None, 1 << 20))
    for key in (b"a", b"b", b"c"):
        bench.hold(version=5, value=b"old", key=key)
    assert bench.apply_changes(10, 11)
    store = bench.edge.copies.disk.store
    first = store.version
    changes = ChangeBatch(
        11,
        20,
        0.0,
        (
            ChangeEvent(12, b"a", False),
            ChangeEvent(15, b"b", True),  # too large to come with the changes
            ChangeEvent(20, b"c", True, b"new"),
        ),
    )
    assert bench.edge.apply_changes(changes, clock.monotonic())
    assert store.version >= first + 4
    for version in range(first, store.version + 1):
        again = Bench(time, clock, disk=DiskCache(copy_of(store, version), 1 << 20), begin=False)
        again.edge.begin(20)
        position = again.edge.position
        rest = tuple(one for one in changes.events if one.version > position)
        assert again.edge.apply_changes(ChangeBatch(position, 20, 0.0, rest), clock.monotonic())
        assert again.read(b"a") == again.read(b"b") == []
        assert [one.value for one in again.read(b"c")] in ([], [b"new"])


def test_what_an_earlier_life_knew_of_a_later_primary_is_not_believed(time, clock):
    """The primary was restored to a version above the position on disk, below the copy."""
    bench = Bench(time, clock, disk=DiskCache(None, 1 << 20))
    bench.hold(version=5, as_of=10, value=b"kept", key=b"kept")
    bench.apply_changes(10, 100)
    bench.hold(version=90, as_of=100, value=b"lost")
    left = copy_of(bench.edge.copies.disk.store)
    again = Bench(time, clock, disk=DiskCache(left, 1 << 20), begin=False)
    again.edge.begin(50)
    again.apply_changes(again.edge.position, 200)
    assert again.read() == []
    again.upstream.answer(Answer(40, 150, 0.0, b"true"))
    again.edge.copies.values.clear()
    assert again.read()[0].value == b"true"  # what this life wrote is believed
    assert again.read(b"kept")[0].value == b"kept"


def test_a_copy_that_is_too_large_for_memory_stays_on_disk(time, clock):
    bench = Bench(time, clock, disk=DiskCache(None, 1 << 20), memory_bytes=16_000)
    bench.hold(value=b"v" * 5000)
    assert bench.apply_changes(10, 10)
    assert bench.read()[0].value == b"v" * 5000
    assert len(bench.edge.copies.values) == 0
