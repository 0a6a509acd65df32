"""Export: all pairs of a namespace, sorted by key, as a file.

    ndjson      one JSON object on each line
    wrangler    the same lines as one JSON array, for `wrangler kv bulk put`

An export counts like the same calls of a client: a read for each key, and a list for each
thousand keys.

Invariants:

* Each pair is on one line; an interrupted file has complete lines and possibly a partial last one.
* An export shows the namespace as of one moment.  If it was resumed, the part before the
  interruption is as of the first moment, and the rest as of the second.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from contextlib import AbstractContextManager, closing, nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple

from kvengine.engine.order.scan import visit_records
from kvengine.engine.store import Store
from kvengine.errors import InvalidRequest, InvalidType, pass_on
from kvengine.file.exchange import ResultFile, path_of
from kvengine.namespace.interface.results import ExportReport
from kvengine.namespace.layout import PREFIX_BYTES
from kvengine.namespace.listing import text_bytes
from kvengine.namespace.transfer.lines import Lines

if TYPE_CHECKING:
    from kvengine.namespace.namespace import Namespace

BLOCK_BYTES = 1 << 20  # written at once
KEYS_A_LIST = 1000

Progress = Callable[[int, int], None]


class Shape(NamedTuple):
    """The text around the lines of a format."""

    first: bytes  # before the first line
    later: bytes  # before each other line
    end: bytes


SHAPES = {"ndjson": Shape(b"", b"", b""), "wrangler": Shape(b"[", b",", b"]")}


def export(
    namespace: Namespace,
    file: Any,
    format: str,
    prefix: str,
    start_after: str | None,
    resume: bool,
    progress: Progress | None,
) -> ExportReport:
    """Write the pairs of a namespace to a file; Namespace.export_file has the arguments."""
    shape = SHAPES.get(format) if isinstance(format, str) else None
    if shape is None:
        raise InvalidRequest(f"format must be {' or '.join(map(repr, SHAPES))}, not {format!r}")
    start = text_bytes("prefix", prefix)
    after = None if start_after is None else text_bytes("start_after", start_after)
    namespace._check_usable()
    if hasattr(file, "write"):
        if resume:
            raise InvalidRequest("an export can be resumed only if it is written to a path")
        job = Export(namespace, writer_of(file), shape, progress)
        return job.run(start, after)
    with closing(ResultFile(path_of(file), resume=resume)) as result:
        job = Export(namespace, result.write, shape, progress)
        if result.last_line is not None:
            job.goes_on = True
            after = max(after or b"", _last_key(result.last_line, shape, start, path_of(file)))
        report = job.run(start, after)
        result.finish()
    return report


class Export:
    """One export.

    Args:
        namespace: whose pairs are written.
        write: takes the next bytes of the file.
        shape: what stands around the lines.
        progress: called with (keys written, keys there are).
    """

    def __init__(
        self,
        namespace: Namespace,
        write: Callable[[bytearray], Any],
        shape: Shape,
        progress: Progress | None,
    ) -> None:
        self._namespace, self._shape, self._progress = namespace, shape, progress
        self._write_out = write
        self._bytes = 0
        self.goes_on = False  # lines were written before

    def run(self, prefix: bytes, after: bytes | None) -> ExportReport:
        """Write all pairs with a prefix behind a key."""
        namespace = self._namespace
        start = namespace._prefix + prefix
        behind = None if after is None else namespace._prefix + after
        first = self._shape.later if self.goes_on else self._shape.first
        lines = Lines(PREFIX_BYTES, BLOCK_BYTES, first, self._shape.later)
        with one_moment(namespace._store) as store:
            version = store.version
            total = 0 if self._progress is None else self._keys(store, start, behind)
            try:
                while True:
                    namespace._check_usable()
                    behind = visit_records(
                        store._parts, store._parts.key_order, start, behind, lines
                    )
                    if behind is None:
                        break
                    if lines.used >= BLOCK_BYTES:
                        self._write(lines, total)
                self._write(lines, total)
            finally:
                self._count(lines)
        end = self._shape.end if self.goes_on or lines.keys else first + self._shape.end
        self._write_out(bytearray(end))
        return ExportReport(lines.keys, self._bytes + len(end), lines.last_key, version)

    def _write(self, lines: Lines, total: int) -> None:
        data = lines.take()
        self._write_out(data)
        self._bytes += len(data)
        if self._progress is not None:
            self._progress(lines.keys, max(total, lines.keys))

    def _keys(self, store: Store, start: bytes, behind: bytes | None) -> int:
        """Return how many keys there are to write."""
        if start == self._namespace._prefix and behind is None:
            return store.group_size(start).keys
        return sum(1 for _ in store.keys(start, start_after=behind))

    def _count(self, lines: Lines) -> None:
        meter = self._namespace._meter
        meter.reads += lines.keys
        meter.bytes_out += lines.value_bytes
        meter.lists += max(1, -(-lines.keys // KEYS_A_LIST))


def one_moment(store: Store) -> AbstractContextManager[Store]:
    """Return a snapshot of the store, in which later writes do not show."""
    return nullcontext(store) if store._parts.is_frozen else store.snapshot()


def writer_of(file: Any) -> Callable[[bytearray], None]:
    """Return a function that writes all of its bytes to a file object."""
    if isinstance(file, io.TextIOBase):
        raise InvalidType("an export needs a binary file; open it with mode 'wb'")

    def write(data: bytearray) -> None:
        count = file.write(data)
        while isinstance(count, int) and 0 < count < len(data):  # an unbuffered file may take less
            data = data[count:]
            count = file.write(data)

    return write


def _last_key(line: bytes, shape: Shape, prefix: bytes, path: str) -> bytes:
    """Return the key of the last line of an unfinished export.

    Raises:
        InvalidRequest: it is not from an export of this format and prefix.
    """
    lead = line[:1] if shape.first else b""
    try:
        if shape.first and lead not in (shape.first, shape.later):
            raise ValueError
        key: bytes = json.loads(line[len(lead) :])["key"].encode()
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        pass_on(error)
        raise InvalidRequest(
            f"{path}.part is not an unfinished export of this format; remove it to start over"
        ) from None
    if not key.startswith(prefix):
        raise InvalidRequest(
            f"{path}.part is an unfinished export with another prefix; remove it to start over"
        )
    return key
