"""A store that starts over while its threads write: what is acknowledged is on disk."""

import threading
import time

from kvengine import Store
from kvengine.engine import loading
from kvengine.engine.log_walk import Selector
from kvengine.engine.tail import Tail


def test_a_write_whose_store_started_over_from_an_older_index_is_on_disk(tmp_path):
    with Store(tmp_path, segment_bytes=4096) as store:
        first = store.put(b"first", bytes(3000))
        started_over = []

        def start_over():
            started_over.append(store.applied_version)
            loading.recover(store, store.control_page, store.manifest, until=first)

        store._has_begun = start_over  # type: ignore[method-assign]
        version = first
        while not started_over:
            version = store.put(b"next", bytes(3000))
        assert started_over == [version]
        assert store.commits.durable_version >= version
        assert store.version == version


def test_nobody_reads_on_in_the_log_while_others_are_kept_out(tmp_path):
    with Store(tmp_path, durability="os") as store, Store(tmp_path, durability="os") as other:
        store.put(b"key", b"1")
        assert other.version == 1
        store.put(b"key", b"2")
        seen = []

        def look():
            thread.start()
            for _ in range(50):
                seen.append(other.applied_version)
                time.sleep(0.001)

        thread = threading.Thread(target=other.keep_up_to, args=(2,))
        other.exclusively(look)
        thread.join()
        assert set(seen) == {1}
        assert other.applied_version == 2


def test_a_tail_does_not_take_a_store_that_starts_over_for_one_that_lost_changes(tmp_path):
    with Store(tmp_path, durability="os") as store, Store(tmp_path, durability="os") as other:
        for number in range(10):
            other.put(b"key", b"%d" % number)
        places = [Tail(store, after, Selector(b"")) for after in (0, 7, 10)]
        assert [len(list(tail.news())) for tail in places] == [10, 3, 0]
        for tail in places:
            loading.recover(store, store.control_page, store.manifest, until=5)
            assert store.applied_version == 5
            assert list(tail.news()) == []
        other.put(b"key", b"new")
        assert store.version == 11
        assert [[change.version for change in tail.news()] for tail in places] == [[11]] * 3
