"""The messages between an edge and its upstream, as plain data.

    request, answer    a request for a key, and what the upstream knows about it
    poll, changes      a request for the changes since a version, and those changes

All versions are versions of the primary's log.  Ages are durations, so two machines' clocks need
not agree.  An edge subtracts an age from the moment, on its own clock, at which it sent the
request, so everything looks a little older than it is, never younger.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

Done = Callable[[Any], None]  # called with the result, or with the error
NEVER = float("-inf")  # a moment: nothing is known since


class ReadOptions(NamedTuple):
    """What a reader requests."""

    ttl: float  # seconds: the maximum age of the value
    min_version: int = 0  # the value must be current as of this version of the primary or later
    stale_if_error: float = 0.0  # seconds: the maximum age if the upstream does not answer


class KeyRequest(NamedTuple):
    """A key that an edge asks for."""

    key: bytes
    min_version: int = (
        0  # an answer that is true only of an older version of the primary is of no use
    )
    known: int = 0  # the sender has the value of this version: do not send it again
    max_age_s: float = 0.0  # the maximum age of the answer


class Answer(NamedTuple):
    """What an upstream knows about a key: its value, or that it is absent (`version` is 0)."""

    version: int  # of the value
    as_of: int  # it was current at this version of the primary
    age: float  # seconds: it was current at most this long ago
    value: bytes | None = None  # None: absent, or unchanged
    metadata: bytes = b""
    expires_at: float | None = None
    unchanged: bool = False  # the version is the one that the sender has


class ChangeEvent(NamedTuple):
    """A change of a key."""

    version: int
    key: bytes
    is_put: bool
    value: bytes | None = None  # None: deleted, or too large to push
    metadata: bytes = b""
    expires_at: float | None = None
    ago: float = 0.0  # seconds since the change


class ChangeBatch(NamedTuple):
    """The changes between two versions of the primary."""

    after: int
    upto: int  # there are no other changes up to this version
    age: float  # seconds: nothing newer existed at most this long ago; inf: there is more
    events: tuple[ChangeEvent, ...] = ()
    waited: float = 0.0  # seconds that the poll waited for a change
    gone: bool = False  # changes after `after` were compacted away, so some are missing


class ReadResult(NamedTuple):
    """The result of a read."""

    value: bytes | None  # None: absent
    metadata: bytes
    expires_at: float | None
    version: int  # 0: absent
    age: float  # seconds: it was current at most this long ago
    status: str  # HIT, MISS, REVALIDATE, STALE
    as_of: int  # it was current at this version of the primary


class Upstream(Protocol):
    """Where an edge gets what it has not cached: the primary, or another edge."""

    def fetch(self, requests: Sequence[KeyRequest], done: Done) -> None:
        """Call `done` with a list of Answers or the error; on a timeout, UpstreamUnavailable."""

    def poll(self, after: int, poll_timeout_s: float, done: Done) -> None:
        """Call `done` with the next ChangeBatch, at the latest after `poll_timeout_s`."""

    def origin_version(self, done: Done) -> None:
        """Ask the primary for its newest version, and call `done` with it."""
