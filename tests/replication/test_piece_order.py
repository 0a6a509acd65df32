"""PieceOrder passes each change once and in order, whatever the line does."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from kvengine.entry import Change
from kvengine.replication.network.messages import Piece
from kvengine.replication.piece_order import PieceOrder


def piece(after, upto):
    made = (Change(n, "put", b"k", b"%d" % n, b"", None) for n in range(after + 1, upto + 1))
    return Piece(after, upto, tuple(made), True)


def test_a_repeat_an_overlap_a_gap():
    guard = PieceOrder(0)
    assert guard.take(piece(0, 3)) == piece(0, 3)
    assert guard.take(piece(0, 3)) is None
    assert guard.take(piece(1, 2)) is None
    assert guard.ask_from is None
    assert guard.take(piece(2, 5)) == piece(3, 5)
    assert guard.take(piece(6, 7)) is None
    assert guard.ask_from == 5
    assert guard.take(piece(5, 6)) == piece(5, 6)
    assert guard.ask_from is None


def test_a_heartbeat_is_passed_where_it_belongs():
    guard = PieceOrder(3)
    beat = Piece(3, 3, (), True)
    assert guard.take(beat) == beat
    assert guard.take(Piece(2, 2, (), True)) is None
    assert guard.take(Piece(4, 4, (), True)) is None
    assert guard.ask_from == 3


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 8))))
def test_whatever_comes_each_version_is_passed_once_and_in_order(spans):
    guard, passed, position = PieceOrder(0), [], 0
    for after, size in spans:
        found = guard.take(piece(after, after + size))
        if found is not None:
            assert (found.after, guard.ask_from) == (position, None)
            passed += [change.version for change in found.changes]
            position = found.upto
        elif after > position:
            assert guard.ask_from == position
        assert guard.position == position
        assert passed == list(range(1, position + 1))


@given(st.randoms(use_true_random=False), st.integers(1, 40))
def test_who_asks_again_gets_everything(source, newest):
    guard, line = PieceOrder(0), []
    while guard.position < newest:
        start = guard.position if guard.ask_from is None else guard.ask_from
        cuts = sorted({start, newest, *(source.randint(start, newest) for _ in range(4))})
        line = [piece(a, b) for a, b in itertools.pairwise(cuts)]
        line += source.choices(line, k=2)
        source.shuffle(line)
        for one in line[: source.randint(1, len(line))]:
            guard.take(one)
    assert guard.position == newest
