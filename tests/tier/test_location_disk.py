"""A location with copies on disk: what is read there, and when it comes to memory."""

from kvengine.tier.disk import DiskCopies
from kvengine.tier.messages import Answer, Notice
from tests.tier.bench import Bench


def test_news_that_come_while_a_copy_is_read_from_disk_are_not_undone(time, clock, monkeypatch):
    disk = DiskCopies(None, 1 << 20)
    bench = Bench(time, clock, disk=disk)
    bench.hold(version=5, value=b"old")
    assert bench.hear(10, 10)
    bench.location.copies.values.clear()
    get = disk.get

    def slow(key):
        found = get(key)
        if found is not None:
            monkeypatch.undo()
            assert bench.hear(10, 11, Notice(11, b"k", False))
        return found

    monkeypatch.setattr(disk, "get", slow)
    assert bench.read()[0].as_of == 10  # it began before
    assert bench.read() == []  # and the next one asks
    bench.upstream.answer(Answer(0, 11, 0.0))


def test_a_copy_that_is_too_large_for_memory_stays_on_disk(time, clock):
    bench = Bench(time, clock, disk=DiskCopies(None, 1 << 20), memory_bytes=16_000)
    bench.hold(value=b"v" * 5000)
    assert bench.hear(10, 10)
    assert bench.read()[0].value == b"v" * 5000
    assert len(bench.location.copies.values) == 0
