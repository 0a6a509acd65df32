"""The errors, arranged by what the caller should do about them.

* KvError
  x InvalidRequest       change the call                    (also a ValueError)
    x InvalidType        change the type of an argument     (also a TypeError)
    x LimitExceeded      send less                          (says what is too large)
  x KeyNotFound          the key is not there               (also a KeyError)
  x NamespaceNotFound    create it, or give another name    (also a KeyError)
  x NamespaceExists      give another title
  x VersionConflict      read again, then decide            (says expected and found)
  x StoreClosed          open the store again               (closed, forked, or it was replaced)
  x StoreLocked          close it there, or only read      (exclusive=True; says which process)
  x ConsumerLocked       another process gets its changes   (says which)
  x StoreBusy            call again later, or elsewhere     (called inside a step of the store)
  x StoreReadOnly        open it for writing, or see cause  (a failed sync has this effect)
  x NotAStore            give another path
  x UnsupportedFormat    use another version of kvengine
  x StorageError         the operating system refused       (also an OSError)
    x StorageFull        make room, then try again
  x CorruptData          restore or salvage                 (says file, offset, expected, found)
  x ProtocolError        connect again                    (says what came, and at which byte)
  x LogCompacted          start again from a snapshot        (the log begins later)
  x NotCaughtUp          wait                             (a replica holds nothing whole yet)
  x ReplicaDiverged      see which one is right           (a replica and its source disagree)
  x UpstreamUnavailable  try again later                    (an edge can't reach its upstream)
  x AccessDenied         give another token               (the server refuses this one)
  x RateLimited          wait ``retry_after`` seconds      (the server lets in no more for now)

Invariants:

* Every error can be pickled and copied, and is the same then: text, attributes, arguments.
"""

from copy import copy
from inspect import CO_VARARGS
from types import FrameType
from typing import Any, TypeVar

HTTP_LIBRARIES = ("httpx", "httpcore", "h11", "anyio")
_Error = TypeVar("_Error", bound=BaseException)


def _rebuilt(kind: type[BaseException], args: tuple[Any, ...], state: dict[str, Any]) -> Any:
    """Return an error as it was, without a call of what made its text."""
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class KvError(Exception):
    """Everything that kvengine raises on purpose."""

    def __reduce__(self) -> Any:
        """Say how to make it again, for pickle and copy; an OSError knows that itself."""
        if isinstance(self, OSError):
            return super().__reduce__()
        return _rebuilt, (type(self), self.args, self.__dict__)


class InvalidRequest(KvError, ValueError):
    """An argument has a value that no store accepts."""


class InvalidType(InvalidRequest, TypeError):
    """An argument has a type that no store accepts."""


class LimitExceeded(InvalidRequest):
    """Something is larger than it may be; ``status`` is what HTTP calls that: 413 or 414."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class KeyNotFound(KvError, KeyError):
    """A key that is not there is needed: ``store[key]``, ``del kv[key]``, ``kv.pop(key)``."""

    def __str__(self) -> str:
        return f"key {self.args[0]!r} is not in the store"


class NamespaceNotFound(KvError, KeyError):
    """There is no namespace of this title or id, or it was deleted."""

    def __str__(self) -> str:
        return f"namespace {self.args[0]!r} does not exist"


class NamespaceExists(KvError):
    """Another namespace has the title already."""

    def __init__(self, title: str) -> None:
        super().__init__(f"a namespace with the title {title!r} already exists")
        self.title = title


class VersionConflict(KvError):
    """A write with ``if_version`` found another version, and wrote nothing."""

    def __init__(self, expected: int, found: int) -> None:
        super().__init__(f"expected version {expected}, found {found} (0 means absent)")
        self.expected, self.found = expected, found


class StoreClosed(KvError, ValueError):
    """The store was closed, belongs to the parent of this process, or its folder was replaced."""


class StoreBusy(KvError):
    """Called from inside a step of the store, on the same thread; call again when it is over."""


class StoreLocked(KvError):
    """Another process has the store open for writing, and one of the two wants no other writer.

    That is one with ``exclusive=True`` or ``rebuild=True``, a Follower that keeps its copy there,
    promote(), or kvengine 0.1.  Or another process has been opening or closing the store, or in
    the middle of a write, for more than a minute.

    Attributes:
        path: of the store.
        pid: of a process that has it open, or None.  With several writers it is one of them.
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
                f"{path} is open for writing in {holder}, and one of the two wants no other "
                "writer (exclusive=True, rebuild=True, a Follower's copy, promote, kvengine 0.1): "
                "close it in every other process first, or open it with read_only=True"
            )
        elif is_writing:
            message = (
                f"{holder} has been in the middle of a write to {path} for {waited_s:.0f} seconds: "
                "it was stopped there (SIGSTOP, a debugger); let it go on, or end it"
            )
        else:
            last = f" (process {pid} came last)" if pid else ""
            message = (
                f"another process{last} has been opening or closing {path} for {waited_s:.0f} "
                "seconds, and this one waited that long for its turn: it is reading a long log "
                "(rebuild=True does that), or it is stopped; try again later, or end that process"
            )
        super().__init__(message)
        self.path, self.pid = path, pid


class ConsumerLocked(KvError):
    """Another process is using the consumer of this name, and one at a time can.

    Raised by what moves a consumer's position, such as acknowledge() and restart().  changes() does
    not raise it: it waits with ``follow=True``, and ends otherwise.

    Attributes:
        name: of the consumer.
        pid: of the process that uses it, or None if that is not known.
    """

    def __init__(self, name: str, pid: int | None) -> None:
        holder = f"process {pid}" if pid else "another process"
        super().__init__(
            f"consumer {name!r} is in use in {holder}, and only one process at a time can use it: "
            "call release() or close the store there, or use another name; changes that were not "
            "acknowledged are given again to the process that takes over"
        )
        self.name, self.pid = name, pid


class StoreReadOnly(KvError):
    """The store does not accept writes; ``cause`` says why if a failure did it."""

    def __init__(self, message: str, cause: BaseException | None = None) -> None:
        super().__init__(message)
        self.cause = cause


class NotAStore(KvError):
    """The path is a file, or a folder that holds something else."""


class UnsupportedFormat(KvError):
    """The store was written by a version of kvengine with another file format."""


class StorageError(KvError, OSError):
    """The operating system refused: ``errno``, ``filename`` and ``strerror`` as in OSError."""


class StorageFull(StorageError):
    """No space is left on the device; nothing was lost, and reads go on."""


class CorruptData(KvError):
    """Bytes on disk are not what was written."""

    def __init__(
        self, what: str, *, file: str, offset: int, expected: object, found: object
    ) -> None:
        super().__init__(f"{what} in {file} at byte {offset}: expected {expected}, found {found}")
        self.what, self.file, self.offset = what, file, offset
        self.expected, self.found = expected, found


class ProtocolError(KvError):
    """Bytes that came over a stream are not what was sent; nothing of them was used."""

    def __init__(self, what: str, offset: int, expected: object, found: object) -> None:
        super().__init__(
            f"{what} at byte {offset} of the stream: expected {expected}, found {found}"
        )
        self.what, self.offset, self.expected, self.found = what, offset, expected, found


class UpstreamUnavailable(KvError):
    """An edge can't reach its upstream, and holds nothing that is new enough."""


class AccessDenied(KvError):
    """A server refuses the token, or the token does not allow this."""


class RateLimited(KvError):
    """A server lets in no more requests with this token for now; ``retry_after``: seconds."""

    def __init__(self, retry_after: float) -> None:
        super().__init__(retry_after)
        self.retry_after = retry_after

    def __str__(self) -> str:
        return f"too many requests with this token: try again in {self.retry_after:g} s"


class NotCaughtUp(KvError):
    """A replica has not got a first whole state of its source yet."""


class ReplicaDiverged(KvError):
    """A replica holds what its source does not: another store, or one that lost its last changes.

    Nothing of the replica was overwritten.
    """


class LogCompacted(KvError):
    """The log does not reach back, or not on, to the version asked for; ``oldest`` still works."""

    def __init__(self, after: int, oldest: int) -> None:
        reason = (
            f"changes after version {after} are gone: deletes up to version {oldest} have been "
            "compacted away"
        )
        if after > oldest:
            reason = (
                f"the log does not have version {after}: it went on from version {oldest}, so "
                "changes were lost (a power cut, a backup that was restored)"
            )
        super().__init__(
            f"{reason}; start again from tail(after=0), which gives the whole store (a consumer: "
            "restart())"
        )
        self.after, self.oldest = after, oldest


def copied_error(error: _Error) -> _Error:
    """Return a copy of an error that is raised more than once.

    One and the same would keep the frames of everyone who ever got it: its traceback grows.
    """
    try:
        twin = copy(error)
    except Exception:  # noqa: BLE001 - an error of somebody else that can't be copied
        return error
    if error.__cause__ is not None:
        twin.__cause__ = error.__cause__
    return twin


def pass_on(error: BaseException) -> None:
    """Raise what a signal handler has raised in the middle of a step, such as TimeoutError.

    Where a ValueError means damaged bytes, or an OSError a broken connection, the except clause
    calls this first: the error of a handler means neither.  It is known by its traceback.  A
    handler that is compiled, or drops the frame it was given, leaves no trace there: its error is
    taken for the other thing.
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
    """True if a frame has its caller's as an argument: that is how signal handlers are called."""
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
    """Return the error that an HTTP library caught and translated, if it hides that."""
    found = error.__context__
    if found is None or found.__traceback__ is None:
        return None
    # Else its caller is in an except clause, whose error is older than the step.
    module = str(found.__traceback__.tb_frame.f_globals.get("__name__"))
    return found if module.partition(".")[0] in HTTP_LIBRARIES else None


def __getattr__(name: str) -> Any:
    """Know an error by its name in 0.1."""
    if name == "ChangesGone":
        return LogCompacted
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
