"""Floors never go down, and never lie below what was lifted."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvengine.edge.floors import Floors

KEYS = st.sampled_from([b"a", b"b", b"c", b"", b"\xff" * 9])


@given(
    st.sampled_from([1, 2, 64]),
    st.lists(st.tuples(KEYS, st.integers(0, 2**64 - 1)), max_size=40),
)
def test_a_floor_is_at_least_what_was_lifted(groups, lifts):
    floors, lifted = Floors(groups), {}
    for key, version in lifts:
        before = floors.of(key)
        floors.lift(key, version)
        lifted[key] = max(lifted.get(key, 0), version)
        assert floors.of(key) >= before
        for name, least in lifted.items():
            assert floors.of(name) >= least
        assert max(lifted.values()) >= max(floors.of(name) for name in (b"a", b"zzz"))


def test_keys_of_other_groups_keep_their_floor():
    floors = Floors(1 << 14)
    floors.lift(b"a", 9)
    assert [floors.of(key) for key in (b"a", b"b", b"c")] == [9, 0, 0]
    assert floors.memory_usage() == 8 << 14


@pytest.mark.parametrize("groups", [0, 3, -1])
def test_the_number_of_groups_is_a_power_of_two(groups):
    with pytest.raises(ValueError, match="power of two"):
        Floors(groups)
