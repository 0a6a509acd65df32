"""How a program is tested against what edges may show: two ways to publish a release.

Both write to the primary and are read at edges.  A release has a note and a number of files.
One way overwrites them in place; the other gives each release keys of its own, which are new and
so seen at once, and writes last which release is the current one.
"""

import doctest
from contextlib import suppress

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

import kvengine.testing.world.world as world_module
from kvengine import UpstreamUnavailable
from kvengine.testing import World

PLACES = ("edge-0", "edge-1", "edge-2")
steps = st.lists(
    st.one_of(
        st.just(("publish",)),
        st.tuples(st.just("read"), st.sampled_from(PLACES)),
        st.tuples(st.sampled_from(["cut", "heal", "crash", "begin"]), st.sampled_from(PLACES)),
        st.tuples(st.just("run"), st.sampled_from([0.05, 0.2, 1.0, 20.0, 61.0])),
    ),
    max_size=40,
)


def publish_in_place(kv, number):
    kv.put("note", f"release {number}")
    kv.put("file", f"content {number}")


def read_in_place(kv):
    return kv.get("note"), kv.get("file")


def publish_anew(kv, number):
    kv.put(f"{number}/note", f"release {number}")
    kv.put(f"{number}/file", f"content {number}")
    kv.put("current", str(number))


def read_anew(kv):
    number = kv.get("current")
    return None if number is None else (kv.get(f"{number}/note"), kv.get(f"{number}/file"))


def check(publish, read, seed, todo):
    """Let the steps happen; no reader may see parts of two releases."""
    world = World(seed=seed, edges=3, regions=1, keys=0, timeout_s=2.0)
    author = world.namespace("primary")
    number = 1
    publish(author, number)
    whole = {(f"release {number}", f"content {number}")}
    for what, *details in todo:
        if what == "publish":
            number += 1
            whole.add((f"release {number}", f"content {number}"))
            publish(author, number)
        elif what == "read":
            with suppress(UpstreamUnavailable):  # a clear error, not a wrong page
                assert read(world.namespace(*details)) in whole
        else:
            getattr(world, what)(*details)
    assert world.report().violations == []


@given(st.integers(0, 99), steps)
@settings(max_examples=60)
def test_releases_with_keys_of_their_own_are_seen_whole(seed, todo):
    check(publish_anew, read_anew, seed, todo)


def test_releases_in_place_are_seen_in_parts():
    @given(st.integers(0, 99), steps)
    @settings(max_examples=2000, phases=[Phase.generate], database=None)
    def in_place(seed, todo):
        check(publish_in_place, read_in_place, seed, todo)

    with pytest.raises(AssertionError):
        in_place()


def test_the_examples_of_world():
    result = doctest.testmod(world_module)
    assert result.failed == 0
    assert result.attempted > 10
