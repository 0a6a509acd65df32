"""The errors, and what the caller should do about each.

* KvError
  x InvalidRequest       correct the call                    (also a ValueError)
    x InvalidType        correct the type of an argument     (also a TypeError)
    x LimitExceeded      send less                           (says what is too large)
  x KeyNotFound          the key does not exist              (also a KeyError)
  x NamespaceNotFound    create it, or correct the name      (also a KeyError)
  x NamespaceExists      choose another title
  x VersionConflict      read again, then decide             (has expected and found)
  x StoreClosed          open the store again                (closed, forked or replaced)
  x StoreLocked          close it there, or open read-only   (has the process id)
  x ConsumerLocked       another process uses the consumer   (has the process id)
  x StoreBusy            call again later                    (called from inside an operation)
  x StoreReadOnly        open it for writing, or see cause   (a failed sync has this effect)
  x NotAStore            give another path
  x UnsupportedFormat    use another version of kvengine
  x StorageError         the operating system's error        (also an OSError)
    x StorageFull        free disk space, then retry
  x CorruptData          restore or salvage                  (has file, offset, expected, found)
  x ProtocolError        reconnect                           (has offset, expected, found)
  x LogCompacted         start over from a snapshot          (old changes are no longer in the log)
  x NotCaughtUp          wait                                (the first copy is incomplete)
  x ReplicaDiverged      find out which one is right         (a replica and its source disagree)
  x UpstreamUnavailable  retry later                         (an edge can't reach its upstream)
  x AccessDenied         use another token                   (the server refused this one)
  x RateLimited          wait ``retry_after`` seconds        (the token's rate is used up)

Invariants:

* Every error can be pickled and copied; text, attributes and arguments stay the same.
"""

from copy import copy
from inspect import CO_VARARGS
from types import FrameType
from typing import Any, TypeVar

HTTP_LIBRARIES = ("httpx", "httpcore", "h11", "anyio")
_Error = TypeVar("_Error", bound=BaseException)


def _rebuilt(kind: type[BaseException], args: tuple[Any, ...], state: dict[str, Any]) -> Any:
    """Restore an error without calling its constructor."""
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class KvError(Exception):
    """Base class of all errors that kvengine raises."""

    def __reduce__(self) -> Any:
        """Support pickle and copy; an OSError does so itself."""
        if isinstance(self, OSError):
            return super().__reduce__()
        return _rebuilt, (type(self), self.args, self.__dict__)


class InvalidRequest(KvError, ValueError):
    """An argument has an invalid value."""


class InvalidType(InvalidRequest, TypeError):
    """An argument has an invalid type."""


class LimitExceeded(InvalidRequest):
    """A key, value or request is too large; ``status`` is the HTTP status for it, 413 or 414."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class KeyNotFound(KvError, KeyError):
    """The key does not exist: raised by ``store[key]``, ``del kv[key]``, ``kv.pop(key)``."""

    def __str__(self) -> str:
        return f"key {self.args[0]!r} is not in the store"


class NamespaceNotFound(KvError, KeyError):
    """No namespace has this title or id, or it was deleted."""

    def __str__(self) -> str:
        return f"namespace {self.args[0]!r} does not exist"


class NamespaceExists(KvError):
    """Another namespace already has this title."""

    def __init__(self, title: str) -> None:
        super().__init__(f"a namespace with the title {title!r} already exists")
        self.title = title


class VersionConflict(KvError):
    """A write with ``if_version`` found a different version, and wrote nothing."""

    def __init__(self, expected: int, found: int) -> None:
        super().__init__(f"expected version {expected}, found {found} (0 means absent)")
        self.expected, self.found = expected, found


class StoreClosed(KvError, ValueError):
    """The store is closed, belongs to the parent of this process, or its folder was replaced."""


class StoreBusy(KvError):
    """Called from inside an operation of the same store, on the same thread; call again later."""


class StoreLocked(KvError):
    """Another process has the store open for writing, and one of the two needs exclusive access.

    ``exclusive=True``, ``rebuild=True``, a Follower's copy, promote() and kvengine 0.1 need it.
    Also raised if another process has been opening or closing the store, or writing one record,
    for more than a minute.

    Attributes:
        path: path of the store.
        pid: id of a process that has the store open, or None; with several writers, one of them.
    """

    def __init__(
        self,
        path: str,
        pid: int | None,
        waited_s: float | None = None,
        *,
        is_writing: bool = False,
    ) -> None:
        holder = f"process {pid}" if pid else "another process"
        if waited_s is None:
            message = (
                f"{path} is open for writing in {holder}, and one of the two needs exclusive "
                "access (exclusive=True, rebuild=True, a Follower's copy, promote, kvengine 0.1); "
                "close the store in all other processes, or open it with read_only=True"
            )
        elif is_writing:
            message = (
                f"{holder} has been in the middle of a write to {path} for {waited_s:.0f} seconds; "
                "it is probably stopped (SIGSTOP, a debugger): resume it or end it"
            )
        else:
            last = f" (last seen: process {pid})" if pid else ""
            message = (
                f"timed out after waiting {waited_s:.0f} seconds while another process{last} "
                f"opened or closed {path}; it may be reading a long log (rebuild=True does), or "
                "be stopped: try again later, or end that process"
            )
        super().__init__(message)
        self.path, self.pid = path, pid


class ConsumerLocked(KvError):
    """Another process is using the consumer with this name; only one process can at a time.

    Raised by methods that move a consumer's position, such as acknowledge() and restart().
    changes() does not raise it: with ``follow=True`` it waits, otherwise it ends.

    Attributes:
        name: name of the consumer.
        pid: id of the process that uses it, or None if unknown.
    """

    def __init__(self, name: str, pid: int | None) -> None:
        holder = f"process {pid}" if pid else "another process"
        super().__init__(
            f"consumer {name!r} is in use by {holder}, and only one process can use it at a time: "
            "call release() or close the store there, or use another name; the process that takes "
            "over gets unacknowledged changes again"
        )
        self.name, self.pid = name, pid


class StoreReadOnly(KvError):
    """The store does not accept writes; ``cause`` is the error that made it read-only, if any."""

    def __init__(self, message: str, cause: BaseException | None = None) -> None:
        super().__init__(message)
        self.cause = cause


class NotAStore(KvError):
    """The path does not exist, is a file, or is a folder without a store."""


class UnsupportedFormat(KvError):
    """A version of kvengine with another file format wrote the store."""


class StorageError(KvError, OSError):
    """The operating system reported an error: see ``errno``, ``filename`` and ``strerror``."""


class StorageFull(StorageError):
    """No space is left on the device; nothing was lost, and reads still work."""


class CorruptData(KvError):
    """Bytes on disk are not those that were written."""

    def __init__(
        self, what: str, *, file: str, offset: int, expected: object, found: object
    ) -> None:
        super().__init__(f"{what} in {file} at byte {offset}: expected {expected}, found {found}")
        self.what, self.file, self.offset = what, file, offset
        self.expected, self.found = expected, found


class ProtocolError(KvError):
    """Bytes received from a stream are not valid; none of them were used."""

    def __init__(self, what: str, offset: int, expected: object, found: object) -> None:
        super().__init__(
            f"{what} at byte {offset} of the stream: expected {expected}, found {found}"
        )
        self.what, self.offset, self.expected, self.found = what, offset, expected, found


class UpstreamUnavailable(KvError):
    """An edge can't reach its upstream, and its own copies are not new enough."""


class AccessDenied(KvError):
    """The server refused the token, or the token does not allow this operation."""


class RateLimited(KvError):
    """The token has used up its rate, or a key was written twice in a second.

    Retry after ``retry_after`` seconds.
    """

    def __init__(
        self, retry_after: float, reason: str = "too many requests with this token"
    ) -> None:
        super().__init__(retry_after, reason)
        self.retry_after, self.reason = retry_after, reason

    def __str__(self) -> str:
        return f"{self.reason}: try again in {self.retry_after:g} s"


class NotCaughtUp(KvError):
    """A replica does not yet have a complete first copy of its source."""


class ReplicaDiverged(KvError):
    """A replica has changes that its source lacks.

    The source is another store, or lost its newest changes. The replica was not overwritten.
    """


class LogCompacted(KvError):
    """The log no longer has the changes after the version asked for; ``oldest`` still works."""

    def __init__(self, after: int, oldest: int) -> None:
        reason = (
            f"changes after version {after} are gone: deletes up to version {oldest} have been "
            "compacted away"
        )
        if after > oldest:
            reason = (
                f"the log does not have version {after}: it continued from version {oldest}, so "
                "changes were lost (by a power cut, or because a backup was restored)"
            )
        super().__init__(
            f"{reason}; start over with tail(after=0), which returns the whole store (for a "
            "consumer: restart())"
        )
        self.after, self.oldest = after, oldest


def copied_error(error: _Error) -> _Error:
    """Return a copy of an error, to raise it more than once.

    Raising the same object again would extend its traceback, and keep every caller's frames.
    """
    try:
        twin = copy(error)
    except Exception:  # noqa: BLE001 - an error of somebody else that can't be copied
        return error
    if error.__cause__ is not None:
        twin.__cause__ = error.__cause__
    return twin


def pass_on(error: BaseException) -> None:
    """Re-raise an error that a signal handler raised in the middle of a step, such as TimeoutError.

    An except clause that takes a ValueError for damaged bytes, or an OSError for a broken
    connection, calls this first: a handler's error means neither.  The traceback shows where the
    error came from.  A handler that is compiled, or deletes its frame argument, leaves no trace
    there, so its error is mistaken.
    """
    found: BaseException | None = error
    while found is not None:
        place = found.__traceback__
        while place is not None:
            if _is_handler(place.tb_frame):
                raise found
            place = place.tb_next
        found = found.__cause__ or _translated(found)


def _is_handler(frame: FrameType) -> bool:
    """True if a frame has its caller's frame as an argument, as a signal handler does."""
    code, caller = frame.f_code, frame.f_back
    if caller is None:
        return False
    count = code.co_argcount + code.co_kwonlyargcount
    rest = bool(code.co_flags & CO_VARARGS)
    values = [frame.f_locals.get(name) for name in code.co_varnames[: count + rest]]
    if rest:
        values += values.pop() or ()
    return any(value is caller for value in values)


def _translated(error: BaseException) -> BaseException | None:
    """Return the original of an error that an HTTP library translated, if it hides it."""
    found = error.__context__
    if found is None or found.__traceback__ is None:
        return None
    # Otherwise the caller is in an except clause, whose error is older than the step.
    module = str(found.__traceback__.tb_frame.f_globals.get("__name__"))
    return found if module.partition(".")[0] in HTTP_LIBRARIES else None
