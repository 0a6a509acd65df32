"""A store that starts over while its threads read and write: none of them goes back."""

import threading
import time
from contextlib import nullcontext

import pytest

from kvengine import StorageError, Store, StoreBusy
from kvengine.engine.access.applying import packed
from kvengine.engine.log import segment_file
from kvengine.engine.log.segment import bytes_at
from kvengine.engine.recovery import loading
from kvengine.testing.check import check_store


@pytest.mark.parametrize("goes_back", [True, False])
def test_a_write_whose_store_starts_over_from_an_older_index_is_on_disk(tmp_path, goes_back):
    """Or the call says that it may be lost: only a damaged page lets a store go back."""
    with Store(tmp_path, segment_bytes=4096) as store:
        first = store.put(b"first", bytes(3000))
        seen = []

        def start_over():
            seen.append(store._parts.applied_version)
            loading.recover(
                store._parts,
                store._parts.control_page,
                store._parts.manifest,
                until=first,
                goes_back=goes_back,
            )

        store._parts._has_begun = start_over  # type: ignore[method-assign]
        expected = pytest.raises(StorageError, match="undone") if goes_back else nullcontext()
        with expected:
            while not seen:
                store.put(b"next", bytes(3000))
        assert (store._parts.commits.durable_version >= seen[0]) == (not goes_back)
        assert store.version == seen[0]


def start_over_at(store, version):
    """Start over from files that were read when others had come to `version`; is it used?"""
    return loading.recover(
        store._parts,
        store._parts.control_page,
        store._parts.manifest,
        until=version,
        goes_back=False,
    )


@pytest.mark.parametrize("durability", ["os", "group"])
def test_no_read_goes_back_when_the_store_starts_over_from_an_older_index(tmp_path, durability):
    with Store(tmp_path, durability=durability) as store:
        first = store.put(b"key", b"1")
        last = store.put(b"key", b"2")
        assert start_over_at(store, first)
        assert store._parts.applied_version == last  # without a look at what others have written
        assert store[b"key"] == b"2"
        assert store.put(b"key", b"3") == last + 1
        assert store.digest() == store.digest()
    with Store(tmp_path) as store:
        check_store(store)
        assert dict(store) == {b"key": b"3"}


def test_an_index_that_is_a_segment_behind_is_not_used(tmp_path):
    with Store(tmp_path, segment_bytes=4096, durability="os", groups=(b"f", 1)) as store:
        first = store.put(b"first", bytes(3000))
        for number in range(3):
            last = store.put(b"%d" % number, bytes(3000))
        before = (
            store._parts.applied_version,
            store._parts.rows,
            store._parts.key_order,
            store.group_size(b"f"),
        )
        assert not start_over_at(store, first)
        assert (store._parts.applied_version, store._parts.rows, store._parts.key_order) == before[
            :3
        ]
        assert store.group_size(b"f") == before[3]
        assert len(store) == 4
        store._parts.follower.start_over()
        assert store._parts.applied_version == last
        check_store(store)


def test_what_a_killed_writer_left_behind_a_segment_is_not_read_on_in(tmp_path):
    with Store(tmp_path, segment_bytes=4096, durability="os", compaction="manual") as store:
        first = store.put(b"first", bytes(3000))
        last = store.put(b"second", bytes(3000))
        segment = store._parts.rows[-1]
        _, end, _, _, _ = store._parts.segment_table.counters(segment.id)
        file = store._parts.segment_table.segment_file(segment.id)
        header = bytes_at(file, 0, segment_file.HEADER_BYTES)
        salt = segment_file.decode(header, segment_file.file_name(segment.id)).salt
        never = (last + 1, "put", b"key", b"never visible", b"", None)
        file.write(packed((never,), last, salt, end), end)
        store.put(b"key", b"1")
        assert store._parts.rows[-1].id != segment.id
        assert not start_over_at(store, first)
        assert store[b"key"] == b"1"


def test_who_is_outrun_again_and_again_keeps_writers_out(tmp_path, monkeypatch):
    recover, done = loading.recover, []

    def outrun(parts, *args, **options):
        try:
            for number in range(3):
                store.put(b"%d" % number, bytes(3000))
            done.append("outrun")
        except StoreBusy:
            done.append("alone")
        return recover(parts, *args, **options)

    with Store(tmp_path, segment_bytes=4096, durability="os", compaction="manual") as store:
        store.put(b"key", b"1")
        monkeypatch.setattr(loading, "recover", outrun)
        store._parts.follower.start_over()
        monkeypatch.undo()
        assert done == ["outrun"] * loading.OUTRUN_MAX + ["alone"]
        check_store(store)
        assert store[b"key"] == b"1"
        assert store.version == 1 + 3 * loading.OUTRUN_MAX


def test_nobody_reads_on_in_the_log_while_others_are_kept_out(tmp_path):
    with Store(tmp_path, durability="os") as store, Store(tmp_path, durability="os") as other:
        store.put(b"key", b"1")
        assert other.version == 1
        store.put(b"key", b"2")
        seen = []

        def look():
            thread.start()
            for _ in range(50):
                seen.append(other._parts.applied_version)
                time.sleep(0.001)

        thread = threading.Thread(target=other._parts.keep_up_to, args=(2,))
        other._parts.exclusively(look)
        thread.join()
        assert set(seen) == {1}
        assert other._parts.applied_version == 2


def test_a_reader_that_starts_over_while_another_thread_looks_is_not_set_back(
    tmp_path, monkeypatch
):
    with Store(tmp_path, durability="os") as writer, Store(tmp_path, read_only=True) as reader:
        writer.put(b"key", b"1")
        writer.checkpoint()
        read = reader._parts.directory.read

        def read_then_start_over(name):
            found = read(name)
            monkeypatch.undo()
            writer.put(b"key", b"2")
            writer.checkpoint()
            reader._parts.follower.start_over()
            return found

        monkeypatch.setattr(reader._parts.directory, "read", read_then_start_over)
        reader._parts.follower._look()
        assert reader[b"key"] == b"2"
