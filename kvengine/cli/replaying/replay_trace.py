"""Traces: requests that were made somewhere, one a line, to be made again.

    key                       traces of caches, as /work/shared/traces has them
    key,size                  the same with the sizes of values
    time,op,key[,size]        what a log of requests gives; with a line of names in any order

Invariants:
* a trace is read whole, or refused with the number of the line that can't be understood;
* a key keeps its bytes, whatever they are.
"""

from __future__ import annotations

import csv
import gzip
import io
import math
import zlib
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import IO, Any, BinaryIO, NamedTuple, cast

from kvengine.errors import InvalidRequest
from kvengine.file.exchange import bytes_to_come
from kvengine.options import KEY_BYTES_MAX, VALUE_BYTES_MAX

READ, WRITE, DELETE = range(3)
NOT_SAID = -1  # a size that the trace does not tell
GAP_S_MAX = 86_400
LINES_A_STEP = 20_000
NAMES = {
    "time": ("time", "timestamp", "ts"),
    "op": ("op", "operation", "method", "verb"),
    "key": ("key", "id", "object", "name", "path", "url"),
    "size": ("size", "size_bytes", "bytes", "length", "value_size"),
}
NAME_OF = {alias: name for name, aliases in NAMES.items() for alias in aliases}
WITHOUT_NAMES = {
    1: ("key",),
    2: ("key", "size"),
    3: ("time", "op", "key"),
    4: ("time", "op", "key", "size"),
}
OPERATIONS = {
    READ: ("get", "gets", "read", "head", "r"),
    WRITE: ("put", "set", "write", "add", "replace", "cas", "append", "prepend", "incr", "decr",
            "update", "insert", "post", "w"),
    DELETE: ("delete", "del", "remove", "d"),
}  # fmt: skip
OPERATION_OF = {name: op for op, names in OPERATIONS.items() for name in names}
UNITS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
Progress = Callable[[int, int], None]


class Request(NamedTuple):
    """A line of a trace."""

    time: float | None  # as it stands there
    op: int
    key: bytes
    size: int


@dataclass(slots=True)
class Trace:
    """All requests of a trace, in its order."""

    keys: list[bytes] = field(default_factory=list)  # in the order of their first requests
    times: array[float] = field(default_factory=lambda: array("d"))  # seconds from the first one
    ops: bytearray = field(default_factory=bytearray)
    picks: array[int] = field(default_factory=lambda: array("q"))  # which of the keys
    sizes: array[int] = field(default_factory=lambda: array("q"))

    def __len__(self) -> int:
        return len(self.ops)

    @property
    def has_times(self) -> bool:
        """True if the trace says when requests were made."""
        return bool(self.times)

    def check_gaps(self) -> None:
        """Refuse times that would take forever: a world with nothing to do polls all the same.

        Raises:
            InvalidRequest: two requests are more than a day apart.
        """
        for number, (before, moment) in enumerate(pairwise(self.times), 2):
            if moment - before > GAP_S_MAX:
                raise InvalidRequest(
                    f"request {number} of the trace is {moment - before:,.0f} s behind the one "
                    f"before it; at most {GAP_S_MAX:,} s can be replayed: is --time-unit right?"
                )

    def at_rate(self, per_s: float) -> None:
        """Let requests come evenly, so many a second."""
        self.times = array("d", (number / per_s for number in range(len(self))))


class Columns:
    """What stands where in the lines of a trace.

    Args:
        names: time, op, key or size for each column, or something else for what has no meaning.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.count, self._names = len(names), names
        places = {name: place for place, name in enumerate(names)}
        self._time, self._op = places.get("time"), places.get("op")
        self._key, self._size = places["key"], places.get("size")

    def request(self, row: Sequence[str]) -> Request:
        """Return what a line says.

        Raises:
            InvalidRequest: it can't be understood.
        """
        if len(row) != self.count:
            raise InvalidRequest(
                f"expected {self.count} columns ({', '.join(self._names)}), found {len(row)}"
            )
        return Request(
            None if self._time is None else _moment(row[self._time]),
            READ if self._op is None else _operation(row[self._op]),
            _key(row[self._key]),
            NOT_SAID if self._size is None else _size(row[self._size]),
        )


def _moment(text: str) -> float:
    try:
        moment = float(text)
    except ValueError:
        moment = math.nan
    if not math.isfinite(moment):
        raise InvalidRequest(f"a time is a number, not {text!r}")
    return moment


def _operation(text: str) -> int:
    op = OPERATION_OF.get(text.strip().lower())
    if op is None:
        raise InvalidRequest(f"an op is get, put or delete, or a usual name of these, not {text!r}")
    return op


def _key(text: str) -> bytes:
    key = text.encode("utf-8", "surrogateescape")
    if not 1 <= len(key) <= KEY_BYTES_MAX:
        raise InvalidRequest(f"a key has 1 to {KEY_BYTES_MAX:,} bytes, not {len(key):,}")
    return key


def _size(text: str) -> int:
    if not text.strip():
        return NOT_SAID
    try:
        size = int(text)
    except ValueError:
        size = -1
    if not 0 <= size <= VALUE_BYTES_MAX:
        raise InvalidRequest(f"a size is 0 to {VALUE_BYTES_MAX:,} bytes, not {text!r}")
    return size


def columns_of(first: Sequence[str]) -> tuple[Columns, bool]:
    """Return the columns that a first line names or has, and whether it only names them.

    Raises:
        InvalidRequest: it does neither.
    """
    names = [NAME_OF.get(text.strip().lower(), text) for text in first]
    if "key" in names and not any(map(_is_number, first)):
        double = sorted({name for name in NAMES if names.count(name) > 1})
        if double:
            raise InvalidRequest(f"two columns are named {double[0]}")
        return Columns(names), True
    if len(first) not in WITHOUT_NAMES:
        raise InvalidRequest(
            f"expected key; key,size; time,op,key or time,op,key,size; found {len(first)} columns"
        )
    return Columns(WITHOUT_NAMES[len(first)]), False


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def read_trace(
    file: BinaryIO,
    name: str,
    *,
    unit: str = "s",
    limit: int | None = None,
    progress: Progress | None = None,
) -> Trace:
    """Return the trace in a file, which may be packed with gzip.

    Args:
        file: an open file.
        name: what messages call it.
        unit: of its times: s, ms, us or ns.
        limit: read at most so many requests.
        progress: called with how many bytes were read, and how many there are.

    Raises:
        InvalidRequest: a line is not valid, or there is none.
    """
    trace = Trace()
    numbers: dict[bytes, int] = {}
    scale, start, before = UNITS[unit], 0.0, -math.inf
    for line, request in _requests(file, name, progress):
        if request.time is not None:
            if request.time < before:
                raise InvalidRequest(
                    f"{name}, line {line}: its time, {request.time:.17g}, is before that of the "
                    f"line above, {before:.17g}"
                )
            if before == -math.inf:
                start = request.time
            before = request.time
            trace.times.append((before - start) * scale)
        pick = numbers.setdefault(request.key, len(numbers))
        if pick == len(trace.keys):
            trace.keys.append(request.key)
        trace.picks.append(pick)
        trace.ops.append(request.op)
        trace.sizes.append(request.size)
        if len(trace) == limit:
            break
    if not trace:
        raise InvalidRequest(f"{name} has no requests")
    return trace


def _requests(
    file: BinaryIO, name: str, progress: Progress | None
) -> Iterator[tuple[int, Request]]:
    """Yield each request with the number of its line."""
    total = bytes_to_come(file)
    columns: Columns | None = None
    with _text(file) as text:
        rows = csv.reader(text, strict=True)
        try:
            for row in rows:
                if progress is not None and rows.line_num % LINES_A_STEP == 0:
                    progress(total - bytes_to_come(file), total)
                if not row:
                    continue
                if columns is None:
                    columns, has_names = columns_of(row)
                    if has_names:
                        continue
                yield rows.line_num, columns.request(row)
        except InvalidRequest as error:
            raise InvalidRequest(f"{name}, line {rows.line_num}: {error}") from None
        except csv.Error as error:
            line = max(rows.line_num, 1)
            raise InvalidRequest(f"{name}, line {line}: this is not CSV: {error}") from None
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            line = rows.line_num + 1
            raise InvalidRequest(
                f"{name}, line {line}: the gzip file is damaged: {error}"
            ) from None


@contextmanager
def _text(file: BinaryIO) -> Iterator[IO[str]]:
    """Give the lines of a file as text, unpacked if it is packed; it stays open."""
    is_raw = not isinstance(file, io.BufferedReader)
    source: Any = io.BufferedReader(cast(Any, file)) if is_raw else file
    is_packed = source.peek(2)[:2] == b"\x1f\x8b"
    data: Any = gzip.GzipFile(fileobj=source) if is_packed else source
    text = io.TextIOWrapper(data, "utf-8-sig", "surrogateescape", newline="")
    try:
        yield text
    finally:
        text.detach()
        if is_raw:
            source.detach()
