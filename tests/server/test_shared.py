"""What the processes of a server share, without processes."""

from __future__ import annotations

import os

from kvengine.server.api import calls
from kvengine.server.auth.rate import KeyWrites
from kvengine.server.monitoring.figure_rows import ACTIONS, STATUSES, kind_number, status_number
from kvengine.server.shared import KEYS_BYTES, Shared, shared_memory, size_of
from tests.server.buckets import table


def test_what_has_no_place_is_counted_as_other() -> None:
    assert kind_number("rest", "made up") == kind_number("rest", "other")
    assert kind_number("made up", "read") == kind_number("other", "read")
    assert STATUSES[status_number(418)] == 400
    assert STATUSES[status_number(200)] == 200
    assert len(set(STATUSES)) == len(STATUSES)


def test_every_action_has_a_place() -> None:
    """Else figures of it would be those of "other"."""
    of_namespaces = (calls.NAMESPACE_CALLS, calls.NAMESPACE_STREAMS)
    tables = (*of_namespaces, calls.DATABASE_CALLS, calls.DATABASE_STREAMS)
    assert {call.action for one in tables for call in one.values()} <= set(ACTIONS)


def test_rows_go_on_from_what_they_were() -> None:
    memory = shared_memory(size_of(2))
    try:
        first = Shared(2, 1, memory, b"secret")
        first.own[5] += 7
        assert first.rows[0][5] == 0
        again = Shared(2, 1, memory, b"secret")
        again.own[5] += 1
        assert first.own[5] == 8
        assert first.tokens.take_only(b"12345678", 5.0, 1.0)
        assert not again.tokens.take_only(b"12345678", 5.5, 1.0)
        assert again.tokens.take_only(b"12345678", 6.0, 1.0)
    finally:
        os.close(memory)


def test_many_keys_leave_each_its_second() -> None:
    """A place is given to another key when its second is over, and not before."""
    now = [10.0]
    limit = KeyWrites(1.0, lambda: now[0], table(KEYS_BYTES), b"secret")
    for moment in range(3):
        now[0] = 10.0 + 2 * moment
        assert all(limit.take("ns", f"{moment} {number}") for number in range(20_000))
        now[0] += 0.5
        assert not any(limit.take("ns", f"{moment} {number}") for number in range(20_000))
