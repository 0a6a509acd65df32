"""Changes to the files of a store that leave every checksum right: what a broken writer may write.

Each structure of FORMAT.md has a function here that changes one of its fields and then seals it
again.  mutated() picks one by chance; mutation_judge.py looks at what the store makes of it.

Invariants:

* A mutation is a function of its seed and of the files.
* Each changes one thing: a field, an entry, or a few bytes.
"""

import json
import random
import struct
from collections.abc import Callable
from dataclasses import dataclass

from kvengine.engine.index.hash import xxh3_64
from tests.crash.derived_mutations import (
    FLOATS,
    Changed,
    change_index,
    change_run,
    other_number,
)

SEGMENT_HEADER = 64
COMPACTED = 1  # the kind of a segment whose versions have gaps
TEXTS: tuple[object, ...] = (
    None,
    True,
    "",
    "x",
    "\ud800",
    [],
    {},
    [[]],
    0.5,
    -1,
    1 << 48,
    1 << 62,
    1 << 64,
    10**400,
)


@dataclass(frozen=True, slots=True)
class Mutation:
    """One change: the file, the structure, and the keys whose records were changed themselves."""

    file: str
    structure: str  # manifest, consumer, control, segment header, record, index, run
    detail: str
    keys: tuple[bytes, ...] = ()


def mutated(files: dict[str, bytes], seed: int) -> tuple[dict[str, bytes], Mutation]:
    """Return the files with one mutation."""
    source = random.Random(seed)
    while True:
        name = source.choice(sorted(files))
        change = _changer(name)
        if change is None:
            continue
        data, structure, detail, keys = change(source, name, files[name])
        if data != files[name]:
            return {**files, name: data}, Mutation(name, structure, detail, keys)


def _changer(name: str) -> Callable[[random.Random, str, bytes], Changed] | None:
    if name == "MANIFEST" or name.endswith(".consumer"):
        return _change_text
    if name == "CONTROL":
        return _change_control
    changers = {"log": _change_log, "index": change_index, "keys": change_run}
    return changers.get(name.rpartition(".")[2])


# -- lines of JSON


def _change_text(source: random.Random, name: str, data: bytes) -> Changed:
    body = data[:-18]
    fields = json.loads(body)
    field = source.choice(sorted(fields))
    what = source.randrange(8)
    if what == 0:
        del fields[field]
    elif what == 1:
        fields[source.choice(("another", "format", field + "s"))] = source.choice(TEXTS)
    elif what == 2:
        bits = source.choice(
            (b"[" * 100_000, b"null", b"5", b'"x"', b"{}", b"\xff\xfe", b"NaN", b"")
        )
        return bits + b"\n%016x\n" % xxh3_64(bits), _kind(name), "other JSON", ()
    else:
        fields[field] = _other_value(source, fields[field])
    body = json.dumps(fields, separators=(",", ":")).encode()
    return (
        body + b"\n%016x\n" % xxh3_64(body),
        _kind(name),
        f"{field}: {fields.get(field)!r:.80}",
        (),
    )


def _kind(name: str) -> str:
    return "manifest" if name == "MANIFEST" else "consumer"


def _other_value(source: random.Random, value: object) -> object:
    if isinstance(value, list) and value and source.random() < 0.8:
        changed = list(value)
        at = source.randrange(len(changed))
        what = source.randrange(5)
        if what == 0 and not isinstance(changed[at], list):
            del changed[at]
        elif what == 1:
            changed.insert(at, changed[at])
        elif what == 2:
            changed.reverse()
        else:
            changed[at] = _other_value(source, changed[at])
        return changed
    if isinstance(value, int) and not isinstance(value, bool) and source.random() < 0.7:
        return other_number(source, value)
    if isinstance(value, str) and source.random() < 0.5:
        return value[:-1] + source.choice("0f.z\0é")
    return source.choice(TEXTS)


def _change_control(source: random.Random, _name: str, data: bytes) -> Changed:
    changed, word = bytearray(data), source.randrange(8)
    (value,) = struct.unpack_from("<Q", data, word * 8)
    struct.pack_into("<Q", changed, word * 8, other_number(source, value))
    return bytes(changed), "control", f"word {word}", ()


# -- segments


def _change_log(source: random.Random, name: str, data: bytes) -> Changed:
    if source.random() < 0.1:
        return _change_segment_header(source, data)
    (salt,) = struct.unpack_from("<Q", data, 48)
    places = _records(data)
    if not places:
        return data, "record", "", ()
    at = source.choice(places)
    changed = bytearray(data)
    keys = [_key_at(data, at)]
    what = source.randrange(10)
    detail = RECORD_CHANGES[what % len(RECORD_CHANGES)](source, changed, at, places)
    _seal_record(changed, at, salt)
    keys.append(_key_at(changed, at))
    if data[12] == COMPACTED:  # nothing but an index tells that others lay in what it takes in now
        end = at + _record_size(changed, at)
        keys += [_key_at(data, place) for place in places if at < place < end]
    return bytes(changed), "record", f"{detail} of the record at {at} in {name}", tuple(keys)


def _change_segment_header(source: random.Random, data: bytes) -> Changed:
    changed = bytearray(data)
    field, offset, size = source.choice(
        (("magic", 0, 1), ("format", 8, 4), ("kind", 12, 4), ("uuid", 16, 8), ("id", 32, 8),
         ("first_version", 40, 8), ("salt", 48, 8))
    )  # fmt: skip
    value = int.from_bytes(data[offset : offset + size], "little")
    changed[offset : offset + size] = other_number(source, value, size * 8).to_bytes(size, "little")
    struct.pack_into("<Q", changed, 56, xxh3_64(bytes(changed[:56])))
    return bytes(changed), "segment header", field, ()


def _record_size(data: bytes | bytearray, at: int) -> int:
    word, value_size, key_size, metadata_size = struct.unpack_from("<QIHH", data, at + 8)
    head = 24 + 8 * (word >> 56 & 1) + 4 * (word >> 56 & 2)
    return int((head + key_size + metadata_size + value_size + 15) // 16 * 16)


def _records(data: bytes) -> list[int]:
    """Return where the records of an undamaged segment begin."""
    found, at = [], SEGMENT_HEADER
    while at + 24 <= len(data) and any(data[at : at + 24]):
        found.append(at)
        at += _record_size(data, at)
    return found


def _key_at(data: bytes | bytearray, at: int) -> bytes:
    word, _, key_size, _ = struct.unpack_from("<QIHH", data, at + 8)
    start = at + 24 + 8 * (word >> 56 & 1) + 4 * (word >> 56 & 2)
    return bytes(data[start : start + key_size])


def _seal_record(data: bytearray, at: int, salt: int) -> None:
    """Make the checksums of a record right, as far as it lies in the file."""
    word, _, key_size, metadata_size = struct.unpack_from("<QIHH", data, at + 8)
    seed = (salt + at) % (1 << 64)
    end = min(at + _record_size(data, at), len(data))
    if word >> 56 & 2:
        head = 24 + 8 * (word >> 56 & 1) + 8
        value = min(at + head + key_size + metadata_size, len(data))
        if at + head <= len(data):
            struct.pack_into("<Q", data, at + head - 8, xxh3_64(bytes(data[value:end]), seed))
        end = value
    struct.pack_into("<Q", data, at, xxh3_64(bytes(data[at + 8 : end]), seed))


def _word(data: bytearray, at: int) -> int:
    return int.from_bytes(data[at + 8 : at + 16], "little")


def _change_version(source: random.Random, data: bytearray, at: int, places: list[int]) -> str:
    word = _word(data, at)
    version = source.choice(
        (other_number(source, word % (1 << 48), 48), _word(data, source.choice(places)) % (1 << 48))
    )
    struct.pack_into("<Q", data, at + 8, word >> 48 << 48 | version)
    return f"version {version}"


def _change_kind(source: random.Random, data: bytearray, at: int, _places: list[int]) -> str:
    kind = source.choice((0, 1, 2, 3, 255))
    data[at + 14] = kind
    return f"kind {kind}"


def _change_flags(source: random.Random, data: bytearray, at: int, _places: list[int]) -> str:
    data[at + 15] ^= 1 << source.randrange(8)
    return f"flags {data[at + 15]}"


def _change_sizes(source: random.Random, data: bytearray, at: int, _places: list[int]) -> str:
    offset, size = source.choice(((16, 4), (20, 2), (22, 2)))
    value = int.from_bytes(data[at + offset : at + offset + size], "little")
    other = other_number(source, value, size * 8)
    data[at + offset : at + offset + size] = other.to_bytes(size, "little")
    return f"size at {offset}: {other}"


def _change_expiry(source: random.Random, data: bytearray, at: int, _places: list[int]) -> str:
    if not data[at + 15] & 1:
        data[at + 15] |= 1
    moment = source.choice(FLOATS)
    struct.pack_into("<d", data, at + 24, moment)
    return f"expiry {moment}"


def _change_bytes(source: random.Random, data: bytearray, at: int, _places: list[int]) -> str:
    place = source.randrange(at + 8, min(at + _record_size(data, at), len(data)))
    data[place] ^= 1 << source.randrange(8)
    return f"byte {place - at}"


def _change_key(source: random.Random, data: bytearray, at: int, places: list[int]) -> str:
    other = _key_at(data, source.choice(places))
    key = _key_at(data, at)
    start = bytes(data).index(key, at + 24)
    data[start : start + len(key)] = other[: len(key)].ljust(len(key), b"\xff")
    return f"key {other!r}"


RECORD_CHANGES = (
    *(_change_version, _change_version, _change_kind, _change_flags, _change_flags),
    *(_change_sizes, _change_expiry, _change_bytes, _change_bytes, _change_key),
)
