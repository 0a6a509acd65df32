"""The manifest: the list of files that make up the store.  Replaced as a whole, never changed.

Invariants:

* A file that the manifest does not name is not part of the store, with one exception: segments
  that continue the log after the last one named here (recovery checks that they fit).
* A segment with a `size_bytes` is closed: it has exactly that size, and all of it is on disk.
* Segments are listed in the order of their versions.
* The text ends with its own checksum, so a damaged manifest is never trusted; nor is one with a
  valid checksum and inconsistent numbers.
"""

import json
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from typing import Any

from kvengine.engine.index.hash import xxh3_64
from kvengine.engine.log.names import is_data
from kvengine.errors import CorruptData, UnsupportedFormat, pass_on
from kvengine.options import VERSION_LIMIT

FORMAT = 2  # 1 was that of 0.1, in which one process wrote
FORMATS = (1, 2)
LOG, COMPACTED = 0, 1
UUID_BYTES = 16
SEED_LIMIT = 1 << 64
NUMBER_LIMIT = 1 << 62  # no counter comes so far


@dataclass(frozen=True, slots=True)
class SegmentRow:
    """One segment file."""

    id: int
    kind: int  # LOG: gaps between versions are marked; COMPACTED: growing versions
    first_version: int
    last_version: int | None = None  # None while it is written
    size_bytes: int | None = None  # None while it is written

    def ended(self, last_version: int | None) -> "SegmentRow":
        """Return the row of a segment that nothing is appended to any more; None: it goes on."""
        return replace(self, last_version=last_version)

    def closed(self, size_bytes: int) -> "SegmentRow":
        """Return the row of a segment that is on disk as a whole."""
        return replace(self, size_bytes=size_bytes)


@dataclass(frozen=True, slots=True)
class Origin:
    """Which store a replica follows."""

    uuid: str  # of the source, 32 hexadecimal digits
    position: int | None  # what it wrote up to this version is here; None: nothing is
    prefixes: tuple[bytes, ...] = (b"",)  # keys that begin with one of them are asked for
    keys: tuple[bytes, ...] = ()  # and these

    def encode(self) -> list[Any]:
        """Return the origin as the manifest has it."""
        prefixes, keys = ([one.hex() for one in some] for some in (self.prefixes, self.keys))
        return [self.uuid, self.position, prefixes, keys]


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a store consists of."""

    uuid: bytes
    seed: int  # of the key hash
    generation: int = 0  # grows with each replacement
    next_id: int = 1  # ids of files are never used again
    version: int = 0  # versions up to here have been given
    forgotten: int = 0  # deletes up to this version may be gone
    segments: tuple[SegmentRow, ...] = ()
    index: tuple[int, int] | None = None  # id and size of the saved index
    key_runs: tuple[str, ...] = field(default=())
    origin: Origin | None = None  # of a replica that was not promoted
    format: int = FORMAT  # of the file that it was read from

    def encode(self) -> bytes:
        """Return the manifest as the bytes of its file."""
        body = json.dumps(
            {
                "format": FORMAT,
                "uuid": self.uuid.hex(),
                "seed": self.seed,
                "generation": self.generation,
                "next_id": self.next_id,
                "version": self.version,
                "forgotten": self.forgotten,
                "segments": [
                    [row.id, row.kind, row.first_version, row.last_version, row.size_bytes]
                    for row in self.segments
                ],
                "index": list(self.index) if self.index else None,
                "key_runs": list(self.key_runs),
                "origin": self.origin.encode() if self.origin else None,
            },
            separators=(",", ":"),
        ).encode()
        return body + b"\n" + b"%016x\n" % xxh3_64(body)

    def next(self, **changes: Any) -> "Manifest":
        """Return the manifest that replaces this one."""
        return replace(self, generation=self.generation + 1, format=FORMAT, **changes)


def decode(data: bytes, file: str) -> Manifest:
    """Return the manifest in `data`.

    Raises:
        CorruptData: the bytes are not a whole, undamaged manifest.
        UnsupportedFormat: it was written by a version with another format.
    """
    body, newline, checksum = data[:-18], data[-18:-17], data[-17:]
    expected = b"%016x\n" % xxh3_64(body)
    if newline != b"\n" or checksum != expected:
        raise CorruptData(
            "manifest checksum",
            file=file,
            offset=max(len(data) - 17, 0),
            expected=expected.decode().strip(),
            found=repr(bytes(checksum)),
        )
    try:
        fields = json.loads(body)
        if fields["format"] not in FORMATS:
            raise UnsupportedFormat(
                f"{file} has format {fields['format']}; "
                f"this version of kvengine reads formats {FORMATS[0]} to {FORMATS[-1]}"
            )
        found = _manifest(fields)
        _check_consistent(found)
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        pass_on(error)
        raise CorruptData(
            "manifest",
            file=file,
            offset=0,
            expected=f"the fields of format {FORMAT}",
            found=f"{type(error).__name__}: {error}",
        ) from None
    return found


def _manifest(fields: dict[str, Any]) -> Manifest:
    uuid = bytes.fromhex(fields["uuid"])
    if len(uuid) != UUID_BYTES:
        raise ValueError(f"a uuid of {len(uuid)} bytes")
    return Manifest(
        uuid=uuid,
        seed=_number(fields["seed"], SEED_LIMIT),
        generation=_number(fields["generation"]),
        next_id=_number(fields["next_id"]),
        version=_number(fields["version"], VERSION_LIMIT),
        forgotten=_number(fields["forgotten"], VERSION_LIMIT),
        segments=with_actual_ends([_segment(*row) for row in fields["segments"]]),
        index=None if fields["index"] is None else _index(*fields["index"]),
        key_runs=tuple(_run_name(name) for name in fields["key_runs"]),
        origin=None if fields["origin"] is None else _origin(*fields["origin"]),
        format=fields["format"],
    )


def with_actual_ends(rows: list[SegmentRow]) -> tuple[SegmentRow, ...]:
    """Return rows of which none ends behind the beginning of the next.

    After a crash 0.1 could write that several segments end with the version of the saved index.
    """
    found = []
    for row, following in zip_longest(rows, rows[1:]):
        if following is not None and (row.last_version or 0) >= following.first_version:
            row = row.ended(following.first_version - 1)
        found.append(row)
    return tuple(found)


def with_others(
    rows: list[SegmentRow], old: list[SegmentRow], new: list[SegmentRow]
) -> list[SegmentRow]:
    """Return rows with others in the place of neighboring ones; as they are if these are gone."""
    ids = {row.id for row in old}
    position = next((i for i, row in enumerate(rows) if row.id in ids), None)
    if position is None:
        return list(rows)
    kept = [row for row in rows if row.id not in ids]
    return kept[:position] + new + kept[position:]


def _check_consistent(found: Manifest) -> None:
    """Refuse numbers that can't be so together, whatever the files hold."""
    if len(set(found.key_runs)) < len(found.key_runs):
        raise ValueError("a key run is named twice")
    ids = [row.id for row in found.segments]
    if len(set(ids)) < len(ids) or not all(1 <= number < found.next_id for number in ids):
        raise ValueError(f"next_id {found.next_id} beside the segments {ids}")
    before = 0
    for position, row in enumerate(found.segments):
        is_last = position == len(found.segments) - 1
        if row.first_version <= before:
            raise ValueError(f"segment {row.id} begins with version {row.first_version}")
        if row.last_version is None:
            if not is_last or row.size_bytes is not None:
                raise ValueError(f"segment {row.id} has no end")
            before = row.first_version - 1
        elif row.last_version < row.first_version - 1:
            raise ValueError(f"segment {row.id} ends with version {row.last_version}")
        else:
            before = max(row.last_version, before)
        if row.size_bytes is None and row.kind != LOG:
            raise ValueError(f"the compacted segment {row.id} has no size")


def _number(value: object, limit: int = NUMBER_LIMIT) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < limit:
        raise ValueError(f"{value!r} is not a number from 0 to {limit - 1}")
    return value


def _segment(
    segment_id: object, kind: object, first_version: object, last_version: object, size: object
) -> SegmentRow:
    return SegmentRow(
        _number(segment_id),
        _number(kind, 2),
        _number(first_version, VERSION_LIMIT),
        None if last_version is None else _number(last_version, VERSION_LIMIT),
        None if size is None else _number(size),
    )


def _index(index_id: object, size_bytes: object) -> tuple[int, int]:
    return _number(index_id), _number(size_bytes)


def _origin(uuid: object, position: object, prefixes: object, keys: object) -> Origin:
    if not isinstance(uuid, str):
        raise TypeError(f"{uuid!r} is not a uuid")
    if uuid and len(bytes.fromhex(uuid)) != UUID_BYTES:
        raise ValueError(f"a uuid of {len(uuid)} digits")
    known = None if position is None else _number(position, VERSION_LIMIT)
    return Origin(uuid, known, _bytes_list(prefixes), _bytes_list(keys))


def _bytes_list(values: object) -> tuple[bytes, ...]:
    if not isinstance(values, list):
        raise TypeError(f"{values!r} is not a list")
    return tuple(bytes.fromhex(value) for value in values)


def _run_name(name: object) -> str:
    if not isinstance(name, str) or not is_data(name) or not name.endswith(".keys"):
        raise ValueError(f"{name!r} is not a name of a key run")
    return name
