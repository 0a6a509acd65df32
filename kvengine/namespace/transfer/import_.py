"""Import: the pairs of a file become keys of a namespace.

The file has the format of an export: a JSON object on each line, or a JSON array of such objects as
for `wrangler kv bulk put`.  Each pair is checked as in put(), and counts as a write.

The progress of an import is stored under the name of the file, in the same batch as the pairs, and
removed with the last batch.

Invariants:

* Each batch is atomic: it has the pairs of the file up to some place, and that place.
* A resumed import continues after the last pair that was written, in a file that is unchanged up to
  there; the rest may have been corrected.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing, nullcontext
from typing import TYPE_CHECKING, Any, NoReturn

import xxhash

from kvengine.errors import InvalidRequest, InvalidType
from kvengine.file.exchange import bytes_to_come, open_source, path_of
from kvengine.namespace.interface.results import ImportReport, RefusedLine
from kvengine.namespace.layout import import_key
from kvengine.namespace.limits import Limits
from kvengine.namespace.transfer.fields import NotJson, fields_of, json_type
from kvengine.namespace.transfer.pairs import encode_pair_value, pair_of
from kvengine.namespace.transfer.source import Place, Source
from kvengine.namespace.values import encode_metadata

if TYPE_CHECKING:
    from kvengine.namespace.namespace import Namespace

BATCH_PAIRS = 4096
BATCH_BYTES = 16 << 20
REFUSED_MAX = 1000  # in a report
ESCAPED_BYTES = 6  # of JSON for one byte, at most
FORMATS = ("ndjson", "wrangler")

Piece = bytes | dict[str, Any] | None  # a line, an object, a line that is too long
Progress = Callable[[int, int], None]


def import_(
    namespace: Namespace,
    file: Any,
    format: str | None,
    atomic: bool,
    resume: bool,
    on_error: str,
    progress: Progress | None,
) -> ImportReport:
    """Write the pairs of a file to a namespace; Namespace.import_file has the arguments."""
    if format is not None and format not in FORMATS:
        raise InvalidRequest(f"format must be {' or '.join(map(repr, FORMATS))}, not {format!r}")
    if on_error not in ("stop", "skip"):
        raise InvalidRequest(f"on_error must be 'stop' or 'skip', not {on_error!r}")
    if atomic and resume:
        raise InvalidRequest(
            "atomic and resume can't be combined: an atomic import is never partly done"
        )
    namespace._check_usable()
    is_open = hasattr(file, "read")
    name = str(getattr(file, "name", "the stream")) if is_open else path_of(file)
    with nullcontext(file) if is_open else closing(open_source(name)) as stream:
        total = bytes_to_come(stream)
        source = Source(stream, name, _longest(namespace.limits))
        job = Import(namespace, source, str(getattr(stream, "name", "")), atomic, on_error)
        is_array = job.resume(format) if resume else None
        if is_array is None:
            is_array = source.begin()
            if format is not None:
                is_array = format == "wrangler"
        return job.run(is_array, progress, total)


def _longest(limits: Limits) -> int:
    """Return how many bytes of JSON a pair can have."""
    return ESCAPED_BYTES * (limits.value_bytes + limits.key_bytes + limits.metadata_bytes) + 4096


class _TooLarge(InvalidRequest):
    """The pairs of an atomic import do not fit into one batch."""


class Import:
    """One import.

    Args:
        namespace: where the pairs go.
        source: the file.
        identity: the name under which the position is kept.
        atomic: write everything together or nothing.
        on_error: "stop" or "skip", at a pair that is refused.
    """

    def __init__(
        self, namespace: Namespace, source: Source, identity: str, atomic: bool, on_error: str
    ) -> None:
        self._namespace, self._source, self._atomic = namespace, source, atomic
        self._skips = on_error == "skip"
        digest = xxhash.xxh3_128_digest(identity.encode("utf-8", "surrogateescape"))
        self._position_key = import_key(namespace._number, digest)
        self._has_position = namespace._store.get(self._position_key) is not None
        self._resumed_at = 0
        self._keys = self._bytes = self._expired = self._skipped = 0
        self._refused: list[RefusedLine] = []
        self._begin_batch()

    def _begin_batch(self) -> None:
        self._batch = self._namespace._store.batch()
        self._names: list[bytes] = []  # of everything in it
        self._pairs = self._value_bytes = 0

    def resume(self, format: str | None) -> bool | None:
        """Go to where the last import of the file ended; None: there is nothing to resume.

        Returns whether the file is an array.
        """
        data = self._namespace._store.get(self._position_key)
        if data is None:
            return None
        position = json.loads(data)
        if format is not None and format != position["format"]:
            raise InvalidRequest(
                f"{self._source.name} was imported as {position['format']} before; "
                "import it from the beginning"
            )
        self._source.go_to(Place(*position["place"]), position["digest"])
        self._resumed_at = self._source.done.offset
        return bool(position["format"] == "wrangler")

    def run(self, is_array: bool, progress: Progress | None, total: int) -> ImportReport:
        """Import what is left of the file."""
        self._format = FORMATS[is_array]
        source = self._source
        pieces: Iterator[Piece] = source.items() if is_array else source.lines()
        try:
            for piece in pieces:
                self._take(piece)
                source.accept()
                if not self._atomic and (
                    len(self._batch) >= BATCH_PAIRS or self._batch.size_bytes >= BATCH_BYTES
                ):
                    self._write()
                    if progress is not None:
                        progress(source.done.offset, max(total, source.done.offset))
        except InvalidRequest as error:
            self._give_up(error)
        self._write(last=True)
        if progress is not None:
            progress(source.done.offset, source.done.offset)
        return ImportReport(
            self._keys, self._bytes, self._expired, self._skipped, self._refused, self._resumed_at
        )

    def _give_up(self, error: InvalidRequest) -> NoReturn:
        """Write the pairs before an error, then raise it."""
        if self._atomic:
            raise InvalidRequest(f"{error}; nothing was imported") from None
        self._write()
        raise InvalidRequest(f"{error}; pairs imported before it: {self._keys}") from None

    # -- one pair

    def _take(self, piece: Piece) -> None:
        """Add a pair to the batch, or record why it is skipped."""
        source = self._source
        try:
            if piece is None:
                raise InvalidRequest(
                    f"a pair has at most {source.longest} bytes; this line has more"
                )
            self._add(fields_of(piece) if isinstance(piece, bytes) else piece)
        except InvalidRequest as error:
            is_cut = source.is_cut and isinstance(error, NotJson)
            if is_cut or isinstance(error, _TooLarge) or not self._skips:
                end = "; the file ends in this line" if is_cut else ""
                raise source.error(f"{error}{end}") from None
            self._skipped += 1
            if len(self._refused) < REFUSED_MAX:
                self._refused.append({"line": source.line, "error": str(error)})

    def _add(self, fields: dict[str, Any]) -> None:
        """Add a pair to the batch, unless it has expired."""
        namespace, limits = self._namespace, self._namespace.limits
        pair = pair_of(fields)
        name = namespace._name(pair.key)
        if not isinstance(pair.value, str):
            raise InvalidType(f"the value must be a string, not {json_type(pair.value)}")
        value = encode_pair_value(limits, pair)
        metadata = encode_metadata(limits, pair.metadata)
        namespace._check_fits(name, value, metadata)
        now = namespace._store._parts.options.clock.time()
        end = pair.expiration if pair.expiration_ttl is None else None
        if type(end) is int and end <= now:
            self._expired += 1
            return
        expires_at = limits._expires_at(now, pair.expiration, pair.expiration_ttl)
        try:
            self._batch.put(name, value, metadata=metadata, expires_at=expires_at)
        except InvalidRequest as error:  # the pair is right, so it is the size of the batch
            if expires_at is None or expires_at > namespace._store._parts.options.clock.time():
                raise _TooLarge(str(error)) from None
            self._expired += 1  # in this very moment
            return
        self._names.append(name)
        self._pairs += 1
        self._value_bytes += len(value)

    # -- writing

    def _write(self, last: bool = False) -> None:
        """Write the batch, with the progress of the import."""
        namespace = self._namespace
        if self._names and not last and not self._atomic:
            self._batch.put(self._position_key, self._position())
            self._names.append(self._position_key)
            self._has_position = True
        elif last and self._has_position:
            self._batch.delete(self._position_key)
        if not len(self._batch):
            return
        namespace._check_usable()
        self._batch.commit()
        namespace._meter.writes += self._pairs
        namespace._meter.bytes_in += self._value_bytes
        namespace._stays(*self._names)
        self._keys += self._pairs
        self._bytes += self._value_bytes
        self._begin_batch()

    def _position(self) -> bytes:
        source = self._source
        return json.dumps(
            {"format": self._format, "place": source.done, "digest": source.digest()}
        ).encode()
