"""Watermarks never decrease, and never lie below a version they advanced to."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvengine.edge.watermarks import Watermarks

KEYS = st.sampled_from([b"a", b"b", b"c", b"", b"\xff" * 9])


@given(
    st.sampled_from([1, 2, 64]),
    st.lists(st.tuples(KEYS, st.integers(0, 2**64 - 1)), max_size=40),
)
def test_a_watermark_is_at_least_what_it_advanced_to(groups, advances):
    watermarks, advanced = Watermarks(groups), {}
    for key, version in advances:
        before = watermarks.of(key)
        watermarks.advance(key, version)
        advanced[key] = max(advanced.get(key, 0), version)
        assert watermarks.of(key) >= before
        for name, least in advanced.items():
            assert watermarks.of(name) >= least
        assert max(advanced.values()) >= max(watermarks.of(name) for name in (b"a", b"zzz"))


def test_keys_of_other_groups_keep_their_floor():
    watermarks = Watermarks(1 << 14)
    watermarks.advance(b"a", 9)
    assert [watermarks.of(key) for key in (b"a", b"b", b"c")] == [9, 0, 0]
    assert watermarks.memory_usage() == 8 << 14


@pytest.mark.parametrize("groups", [0, 3, -1])
def test_the_number_of_groups_is_a_power_of_two(groups):
    with pytest.raises(ValueError, match="power of two"):
        Watermarks(groups)
