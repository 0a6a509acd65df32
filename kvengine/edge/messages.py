"""The messages between an edge and its upstream, as plain data.

    request, answer    a request for a key, and what the upstream knows of it
    poll, changes      a request for the changes since a version, and these changes

All versions are those of the primary's log.  Ages are durations, so the clocks of two machines need
not agree.  An edge subtracts an age from the moment, on its own clock, at which it sent the
request; that makes everything look a little older than it is, and never younger.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

Done = Callable[[Any], None]  # takes what was asked for, or the error instead
NEVER = float("-inf")  # a moment: nothing is known since


class ReadOptions(NamedTuple):
    """What a reader requests."""

    ttl: float  # seconds: how old it may be
    min_version: int = 0  # it must be true of this version of the primary, or of a later one
    stale_if_error: float = 0.0  # seconds: how old it may be if the upstream does not answer


class KeyRequest(NamedTuple):
    """A key that an edge asks for."""

    key: bytes
    min_version: int = (
        0  # an answer that is true only of an older version of the primary is of no use
    )
    known: int = 0  # the asker holds the value of this version: it need not be sent again
    within_s: float = 0.0  # how old the answer may be


class Answer(NamedTuple):
    """What an upstream knows of a key: its value, or that it is absent (`version` is 0)."""

    version: int  # of the value
    as_of: int  # it was the newest at this version of the primary
    age: float  # seconds: how long ago it was the newest, at the most
    value: bytes | None = None  # None: absent, or the asker has it
    metadata: bytes = b""
    expires_at: float | None = None
    unchanged: bool = False  # the asker holds it: the version is the one it knows


class Notice(NamedTuple):
    """A key has changed."""

    version: int
    key: bytes
    is_put: bool
    value: bytes | None = None  # None: deleted, or too large to be sent to everyone
    metadata: bytes = b""
    expires_at: float | None = None
    ago: float = 0.0  # seconds since it was made


class ChangeBatch(NamedTuple):
    """What has changed between two versions of the primary."""

    after: int
    upto: int  # there is no other change up to this version
    age: float  # seconds: how long ago nothing newer was there, at the most; inf: there is more
    notices: tuple[Notice, ...] = ()
    waited: float = 0.0  # seconds: how long the answer waited for something to say
    gone: bool = False  # changes behind `after` are forgotten: nothing is known between the two


class ReadResult(NamedTuple):
    """What a read gives."""

    value: bytes | None  # None: absent
    metadata: bytes
    expires_at: float | None
    version: int  # 0: absent
    age: float  # seconds: how long ago it was the newest, at the most
    status: str  # HIT, MISS, REVALIDATE, STALE
    as_of: int  # it was the newest at this version of the primary


class Upstream(Protocol):
    """Where an edge gets what it does not hold: the primary, or another edge."""

    def fetch(self, requests: Sequence[KeyRequest], done: Done) -> None:
        """Call `done` with a list of Answers, or with the error instead.

        An upstream that may be silent calls it with UpstreamUnavailable after some time.
        """

    def poll(self, after: int, poll_timeout_s: float, done: Done) -> None:
        """Call `done` with the next ChangeBatch, at the latest after `poll_timeout_s`."""

    def origin_version(self, done: Done) -> None:
        """Call `done` with the newest version of the primary, asked now."""
