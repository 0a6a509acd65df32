"""sort_entries(): the order of bytes, stable, whatever keys have in common."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvengine.engine.order.key_sort import sort_order


def check(keys):
    order = sort_order(keys)
    assert order == sorted(range(len(keys)), key=lambda i: keys[i])  # both are stable


@given(st.lists(st.binary(min_size=1, max_size=20), max_size=300))
def test_any_keys(keys):
    check(keys)


@given(
    st.binary(max_size=30),
    st.lists(st.text("\0\1a\xff", max_size=12).map(lambda s: s.encode("latin-1")), min_size=65),
)
def test_keys_that_share_a_prefix(prefix, ends):
    check([prefix + end + (b"" if prefix or end else b"x") for end in ends])


@pytest.mark.parametrize("count", [0, 1, 2, 63, 64, 65, 66, 1000, 20_000])
@pytest.mark.parametrize(
    "make",
    [
        lambda n: b"%016d" % n,
        lambda n: b"user:%d" % (n % 97),  # many equals
        lambda n: b"x",
        lambda n: b"x" * (n % 40 + 1),  # one is the beginning of the other
        lambda n: b"x" + b"\0" * (n % 40),
        lambda n: n.to_bytes(8, "little"),
        lambda n: b"shared for more than eight bytes %d" % (n % 3) + b"%d" % n,
    ],
)
def test_shapes_of_keys(make, count):
    numbers = list(range(count))
    random.Random(count).shuffle(numbers)
    check([make(number) for number in numbers])
