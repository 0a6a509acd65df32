"""One process alone writes to a replica; others read it, and write when it was promoted."""

import pytest

from kvengine import Follower, Store, StoreLocked
from kvengine.replication.promoting import promote


@pytest.fixture
def source():
    with Store.in_memory() as store:
        store[b"key"] = b"value"
        yield store


def test_nobody_else_writes_to_a_replica(source, tmp_path):
    path = tmp_path / "replica"
    with Follower(source, path, background=False) as follower:
        follower.catch_up()
        for refused in (
            lambda: Store(path),
            lambda: Follower(source, path),
            lambda: Follower(source, path, start_over=True),
            lambda: promote(path),
        ):
            with pytest.raises(StoreLocked, match="a Follower's copy"):
                refused()
        with Store(path, read_only=True) as reader:
            assert reader[b"key"] == b"value"
            source[b"key"] = b"other"
            follower.catch_up()
            assert reader[b"key"] == b"other"


def test_a_replica_that_others_have_open_is_not_followed_into(source, tmp_path):
    path = tmp_path / "replica"
    with Follower(source, path, background=False) as follower:
        follower.catch_up()
    with Store(path) as other:
        for refused in (lambda: Follower(source, path), lambda: promote(path)):
            with pytest.raises(StoreLocked):
                refused()
        assert other[b"key"] == b"value"
    assert promote(path) == source.version


@pytest.mark.parametrize("exclusive", [False, True])
def test_what_was_promoted_is_shared_unless_that_was_asked_for(source, tmp_path, exclusive):
    path = tmp_path / "replica"
    options = {"exclusive": True} if exclusive else {}
    follower = Follower(source, path, background=False, **options)
    follower.catch_up()
    with follower.promote() as store:
        store[b"own"] = b"1"
        if exclusive:
            with pytest.raises(StoreLocked):
                Store(path)
            return
        with Store(path) as other:
            other[b"own"] = b"2"
            assert store[b"own"] == b"2"
            store[b"own"] = b"3"
            assert other[b"own"] == b"3"
