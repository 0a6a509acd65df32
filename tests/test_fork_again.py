"""What a forked child opens again: the store that was open, and nothing else."""

import os

import pytest

from kvengine import Store
from tests.forking import error_of, in_child

SMALL = {"durability": "os", "segment_bytes": 16384}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "store"


@pytest.mark.parametrize("is_made_again", [True, False])
def test_a_child_does_not_go_on_in_another_store_of_the_same_folder(path, is_made_again):
    replaced, tell = os.pipe()
    store = Store(path, **SMALL)
    store.put(b"key", b"1")

    def fork_and_replace():
        pid = os.fork()
        if pid:
            store.close()
            for file in path.iterdir():
                file.unlink()
            if is_made_again:
                with Store(path, **SMALL) as other:
                    other.put(b"other", b"2")
            os.write(tell, b".")
        return pid

    def look():
        os.read(replaced, 1)
        return [
            error_of(call) for call in (lambda: store.put(b"key", b"3"), store._parts.check_usable)
        ]

    kind = "StoreClosed" if is_made_again else "NotAStore"
    assert [found for found, _ in in_child(look, fork_and_replace)] == [kind, kind]
    if is_made_again:
        with Store(path) as other:
            assert dict(other) == {b"other": b"2"}
    else:
        assert not (path / "MANIFEST").exists()
    os.close(replaced)
    os.close(tell)


def test_a_store_that_was_rebuilt_opens_again_in_the_child(path):
    with Store(path, **SMALL) as store:
        store.put(b"key", b"1")
    with Store(path, rebuild=True, **SMALL) as store:
        assert in_child(lambda: store.get(b"key")) == b"1"
