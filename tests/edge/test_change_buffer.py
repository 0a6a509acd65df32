"""The change buffer gives each listener every change behind its version, or says they are gone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvengine.edge import change_buffer as buffers
from kvengine.edge.change_buffer import ChangeBuffer
from kvengine.edge.messages import ChangeEvent
from kvengine.testing.world.virtual_time import VirtualTime, WorldClock


def event(version, size=10, ago=0.0):
    return ChangeEvent(version, b"key-%d" % version, True, bytes(size), ago=ago)


def make(time, room=1 << 20, age=0.25):
    clock = WorldClock(time)
    return ChangeBuffer(room, clock.monotonic, clock.later, lambda: age)


@given(st.data())
def test_a_listener_learns_of_every_change_or_that_some_are_gone(data):
    time = VirtualTime()
    buffer = make(time, room=2000)
    made, version, heard, position = [], 0, [], 0
    for _ in range(data.draw(st.integers(1, 30))):
        if data.draw(st.booleans()):
            count = data.draw(st.integers(0, 8))
            new = [event(version + 1 + 2 * n, data.draw(st.integers(0, 300))) for n in range(count)]
            version += 2 * count + data.draw(st.integers(0, 1))
            made += new
            buffer.append(new, version)
        else:
            changes = buffer.changes(position)
            if changes.gone:
                assert buffer.start > position
                heard = [n for n in made if n.version <= changes.upto]
            else:
                heard += [n._replace(ago=0.0) for n in changes.events]
            position = changes.upto
            assert heard == [n for n in made if n.version <= position]


def test_who_waits_is_told_at_once_when_something_changes(time):
    buffer, told = make(time), []
    buffer.restart(5)
    buffer.poll(5, 2.0, told.append)
    time.run_until(1.0)
    assert told == []
    buffer.append([event(6, ago=0.5)], 7)
    (changes,) = told
    assert (changes.after, changes.upto, changes.age, changes.waited) == (5, 7, 0.25, 1.0)
    assert [n.version for n in changes.events] == [6]
    assert changes.events[0].ago == 0.5
    time.run_until(10.0)
    assert len(told) == 1


def test_who_waits_is_told_after_a_time_that_nothing_changed(time):
    buffer, told = make(time), []
    buffer.poll(0, 2.0, told.append)
    time.run_until(1.9)
    assert told == []
    time.run_until(2.1)
    (changes,) = told
    assert (changes.upto, changes.events, changes.gone, changes.waited) == (0, (), False, 2.0)


def test_versions_that_concern_nobody_wake_those_who_wait(time):
    buffer, told = make(time), []
    buffer.poll(0, 2.0, told.append)
    buffer.append([], 3)
    assert (told[0].upto, told[0].events) == (3, ())


def test_a_listener_that_is_ahead_is_answered_at_once_and_not_taken_back(time):
    buffer, told = make(time), []
    buffer.restart(5)
    buffer.poll(9, 2.0, told.append)
    assert told[0].upto == 5
    assert told[0].events == ()


def test_a_restart_tells_those_who_wait_that_changes_are_gone(time):
    buffer, told = make(time), []
    buffer.poll(0, 2.0, told.append)
    buffer.restart(9)
    assert (told[0].gone, told[0].upto) == (True, 9)


def test_many_changes_come_in_parts_of_which_only_the_last_is_up_to_now(time, monkeypatch):
    monkeypatch.setattr(buffers, "EVENTS_PER_BATCH", 3)
    buffer = make(time)
    buffer.append([event(n) for n in range(1, 8)], 9)
    parts, position = [], 0
    while position < 9:
        changes = buffer.changes(position)
        parts.append(([n.version for n in changes.events], changes.upto, changes.age))
        position = changes.upto
    assert parts == [([1, 2, 3], 3, float("inf")), ([4, 5, 6], 6, float("inf")), ([7], 9, 0.25)]


def test_nobody_is_told_anything_after_the_end(time):
    buffer, told = make(time), []
    buffer.poll(0, 2.0, told.append)
    buffer.close()
    buffer.append([event(1)], 1)
    time.run_until(10.0)
    assert told == []


@pytest.mark.parametrize("size", [0, 100, 10_000])
def test_memory_is_bounded(time, size):
    buffer = make(time, room=5000)
    for version in range(1, 200):
        buffer.append([event(version, size)], version)
    assert buffer._bytes <= 5000
    assert buffer.changes(0).gone
    assert not buffer.changes(199).gone
