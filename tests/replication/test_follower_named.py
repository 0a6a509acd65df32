"""A follower with a name: its source keeps deletes for it."""

import pytest

from kvengine import Follower, InvalidRequest, Store, connect_log


def forget_deletes(store):
    for _ in range(4):
        store.put(b"filler", b"x" * 4096)
        store.checkpoint()
        store.compact()
    return store._parts.manifest.forgotten


@pytest.fixture
def source():
    with Store.in_memory(segment_bytes=4096, compaction="manual") as store:
        store.put(b"victim", b"1")
        yield store


def test_deletes_are_kept_while_it_is_away(source, tmp_path):
    for name, is_kept in (("replica", True), (None, False)):
        with Follower(source, tmp_path / str(name), name=name) as replica:
            assert replica.wait()
            position = replica.position
        source.delete(b"victim")
        forgotten = forget_deletes(source)
        assert (forgotten <= position) is is_kept
        with Follower(source, tmp_path / str(name), name=name) as replica:
            assert replica.wait()
            assert dict(replica.store) == dict(source)
        if is_kept:
            assert [(info.name, info.lag) for info in source.consumers()] == [("replica", 0)]
            source.consumer("replica").remove()
            source.put(b"victim", b"2")


def test_a_name_needs_a_source_of_this_process(tmp_path):
    with pytest.raises(InvalidRequest, match="works only with a source in this process"):
        Follower(connect_log(str(tmp_path / "log")), name="replica")
    assert not (tmp_path / "log").exists()


def test_its_source_may_be_closed_first():
    source = Store.in_memory()
    source.put(b"k", b"v")
    replica = Follower(source, name="replica")
    assert replica.wait()
    source.close()
    replica.close()
