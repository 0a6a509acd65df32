"""The checker of histories passes what is right, and sees each kind of mistake."""

import pytest

from tests.processes.history_check import Check, check_numbers
from tests.processes.recording import NEVER, Call, tag_of, value_of


def write(began, ended, version, *changes, expected=None):
    """Return a call that wrote; version None: nobody knows."""
    asked = {"changes": [list(change) for change in changes], "expected": expected}
    answer = {} if version is None else {"version": version}
    return Call("p", "write", began, ended, asked, answer)


def read(began, ended, **found):
    """Return a call that read; each key has [version, tag] or None."""
    return Call("p", "read", began, ended, {"keys": list(found)}, {"found": list(found.values())})


def tail(began, ended, after, *changes):
    return Call("p", "tail", began, ended, {"after": after}, {"changes": list(changes)})


def version(began, ended, found):
    return Call("p", "version", began, ended, {}, {"version": found})


def add(began, ended, total):
    return Call("p", "add", began, ended, {"key": "n"}, {"total": total} if total else {})


A, B, C = ("x", "a"), ("x", "b"), ("x", "c")
GONE = ("x", None)
FIRST = write(1, 2, 1, A)
RIGHT = {
    "writes that overlap": [write(1, 5, 2, A), write(2, 4, 1, B)],
    "a read that overlaps a write": [FIRST, write(3, 6, 2, B), read(4, 5, x=[1, "a"])],
    "a write that nobody acknowledged is read": [write(1, NEVER, None, A), read(3, 4, x=[1, "a"])],
    "one that nobody acknowledged is never read": [write(1, NEVER, None, A), read(3, 4, x=None)],
    "a delete that nobody acknowledged": [FIRST, write(3, NEVER, None, GONE), read(5, 6, x=None)],
    "a compare-and-set": [FIRST, write(3, 4, 2, B, expected=1)],
    "a compare-and-set of what is absent": [
        FIRST,
        write(3, 4, 2, GONE),
        write(5, 6, 3, B, expected=0),
    ],
    "a tail without what was overwritten": [FIRST, write(3, 4, 2, B), tail(5, 6, 0, (2, "x", "b"))],
    "a tail with a delete that nobody acknowledged": [
        FIRST,
        write(3, NEVER, None, GONE),
        tail(5, 6, 0, (2, "x", None)),
    ],
    "a tail with a delete of one of two that died": [
        FIRST,
        write(3, 4, 2, B),
        write(5, NEVER, None, GONE, expected=1),
        write(5, NEVER, None, GONE, expected=2),
        tail(7, 8, 0, (2, "x", "b"), (3, "x", None)),
    ],
    "a batch": [write(1, 2, 2, A, ("y", "a")), read(3, 4, x=[1, "a"], y=[2, "a"])],
    "increments that overlap": [add(1, 5, 2), add(2, 4, 1)],
}
WRONG = {
    "a version twice": [FIRST, write(3, 4, 1, B)],
    "versions against time": [write(1, 2, 2, A), write(3, 4, 1, B)],
    "a lost write": [FIRST, read(3, 4, x=None)],
    "an old value": [FIRST, write(3, 4, 2, B), read(5, 6, x=[1, "a"])],
    "a read goes back": [
        FIRST,
        write(3, 9, 2, B),
        read(4, 5, x=[2, "b"]),
        read(6, 7, x=[1, "a"]),
    ],
    "a value that nobody wrote": [FIRST, read(3, 4, x=[2, "z"])],
    "a value of the future": [read(1, 2, x=[1, "a"]), write(3, 4, 1, A)],
    "a write that was done twice": [FIRST, read(3, 4, x=[2, "a"])],
    "a change in between": [FIRST, write(3, 9, 2, B), write(4, 8, 3, C, expected=1)],
    "a compare-and-set of what was not there": [FIRST, write(3, 4, 2, B, expected=0)],
    "a torn batch": [
        write(1, 2, 2, A, ("y", "a")),
        write(3, NEVER, None, B, ("y", "b")),
        read(5, 6, x=[3, "b"]),
        read(7, 8, y=[2, "a"]),
    ],
    "a reader that is behind": [
        FIRST,
        write(3, NEVER, None, B),
        write(4, NEVER, None, ("y", "b")),
        read(5, 6, y=[3, "b"]),
        tail(7, 8, 0, (2, "x", "b")),
        read(9, 10, x=[1, "a"]),
    ],
    "a delete of one that died and expected another version": [
        FIRST,
        write(3, 4, 2, B),
        write(5, NEVER, None, GONE, expected=1),
        tail(7, 8, 0, (2, "x", "b"), (3, "x", None)),
    ],
    "a delete that nobody has called": [FIRST, tail(3, 4, 0, (1, "x", "a"), (2, "x", None))],
    "nothing to delete": [FIRST, write(3, 4, 0, GONE)],
    "an old version": [FIRST, version(3, 4, 0)],
    "a tail that lacks a change": [FIRST, write(3, 4, 2, ("y", "b")), tail(5, 6, 0, (2, "y", "b"))],
    "a tail that lacks the newest": [FIRST, write(3, 4, 2, B), tail(5, 6, 0, (1, "x", "a"))],
    "a tail out of order": [
        write(1, 2, 2, A, ("y", "a")),
        tail(3, 4, 0, (2, "y", "a"), (1, "x", "a")),
    ],
    "an increment twice": [add(1, 5, 1), add(2, 4, 1)],
    "an increment that went back": [add(1, 2, 2), add(3, 4, 1)],
    "a counter that skips": [
        write(1, 2, 1, ("c", "a#1"), expected=0),
        write(3, 4, 2, ("c", "b#3"), expected=1),
    ],
}


def by_time(calls):
    return sorted(calls, key=lambda call: call.began)


@pytest.mark.parametrize("name", RIGHT)
def test_what_is_right_passes(name):
    Check(by_time(RIGHT[name])).run()


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_seen(name):
    with pytest.raises(AssertionError):
        Check(by_time(WRONG[name])).run()


def test_a_torn_batch_is_seen_in_one_read():
    calls = [write(1, 9, 2, A, ("y", "a")), write(2, 8, 4, B, ("y", "b"))]
    torn = read(3, 4, x=[0, "b"], y=[0, "a"])
    torn.asked["same"] = True
    with pytest.raises(AssertionError, match="torn"):
        Check([*calls, torn]).run()


@pytest.mark.parametrize(("last", "is_right"), [(1, False), (2, True), (3, True), (4, False)])
def test_a_number_is_how_often_it_was_incremented(last, is_right):
    calls = [add(1, 2, 1), add(3, 4, 2), add(5, NEVER, None)]
    if is_right:
        check_numbers(calls, {"n": last})
        return
    with pytest.raises(AssertionError):
        check_numbers(calls, {"n": last})


@pytest.mark.parametrize("tag", ["1-0.5", "12-2.77#3"])
def test_a_value_says_who_wrote_it(tag):
    assert tag_of(value_of(tag)) == tag
    with pytest.raises(AssertionError):
        tag_of(value_of(tag) + b"more")
