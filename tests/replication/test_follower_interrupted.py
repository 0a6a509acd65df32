"""A replica whose catching up is interrupted: nothing is missed, nothing is taken in twice."""

import pytest

from kvengine import Follower, KvError, Store, StoreBusy
from kvengine.testing.interrupting import ERRORS, Interruption

SMALL = {"durability": "os", "segment_bytes": 4096, "key_buffer_entries": 16}


@pytest.mark.parametrize("start_over", [False, True], ids=["goes on", "begins anew"])
def test_an_exception_at_every_line(tmp_path, start_over):
    """The first time a whole state is staged and put in place; then changes are applied."""
    with Store.in_memory(**SMALL, compaction="manual") as source:
        source.update({b"%02d" % n: b"0" for n in range(30)})
        step, tried = (31, 0) if start_over else (1, 0)
        follower = Follower(source, tmp_path / "0", background=False, **SMALL)
        follower.catch_up()
        for at in range(1, 2000, step):
            if start_over:
                follower.close()
                follower = Follower(source, tmp_path / str(at), background=False, **SMALL)
            source.update({b"%02d" % n: b"%d" % at for n in range(5)})
            source.delete(b"%02d" % (5 + at % 20))
            source.put(b"%02d" % (5 + at % 20), b"again")
            interruption = Interruption(at, ERRORS[at % 3])
            error = interruption.run(follower.catch_up)
            where = f"point {at}: {interruption.place}"
            assert error is None or isinstance(error, (*ERRORS, KvError)), where
            assert follower.catch_up() == source.version, where
            assert dict(follower.store) == dict(source), where
            tried += 1
            if not interruption.place:
                break
        assert tried > 10
        assert follower.differences() == []
        follower.close()


def test_a_handler_in_the_middle_of_it_is_told(tmp_path):
    with Store.in_memory() as source:
        source.put(b"a", b"1")
        follower = Follower(source, tmp_path / "replica", background=False)
        follower.catch_up()
        found = []

        class Interrupted:
            def __getattr__(self, name):
                return getattr(kept, name)

            def take(self, piece):
                found.append(follower.store.get(b"a"))
                for call in (follower.catch_up, follower.wait, follower.promote, follower.close):
                    with pytest.raises(StoreBusy):
                        call()
                return kept.take(piece)

        kept = follower._applier
        follower._applier = Interrupted()  # type: ignore[assignment]
        source.put(b"a", b"2")
        assert follower.catch_up() == 2
        assert found[0] == b"1"
        assert follower.store.get(b"a") == b"2"
        follower._applier = kept
        follower.close()
