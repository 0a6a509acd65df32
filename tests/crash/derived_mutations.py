"""Changes to saved indexes and key runs that leave every checksum right; mutations.py has the rest.

Invariants:

* A change is a function of the random source and of the bytes.
* Each changes one field, one entry or a few bytes, and makes all checksums right again.
"""

import random
import struct

from kvengine.engine.index.hash import xxh3_64

BLOCK, SHARD = 4096, 65536
NUMBERS: tuple[int, ...] = (
    0,
    1,
    2,
    3,
    7,
    63,
    64,
    255,
    4096,
    65535,
    65536,
    1 << 24,
    1 << 31,
    (1 << 32) - 1,
    1 << 40,
)
NUMBERS += ((1 << 48) - 1, 1 << 48, (1 << 62), (1 << 63) - 1, 1 << 63, (1 << 64) - 1)
FLOATS = (0.0, -0.0, -1.0, 1e-300, 1.0, 1e9, 4e9, 1e300, float("inf"), float("-inf"), float("nan"))

Changed = tuple[bytes, str, str, tuple[bytes, ...]]  # bytes, structure, detail, keys of records


def other_number(source: random.Random, value: int, bits: int = 64) -> int:
    """Return another number that fits into so many bits."""
    near = value + source.choice((-64, -16, -8, -1, 1, 8, 16, 64))
    return source.choice((near, near, source.choice(NUMBERS), source.getrandbits(bits))) % (
        1 << bits
    )


# -- saved indexes


def change_index(source: random.Random, _name: str, data: bytes) -> Changed:
    body, trailer = data[:-64], bytearray(data[-64:])
    (start,) = struct.unpack_from("<Q", trailer, 40)
    shards, meta = bytearray(body[:start]), bytearray(body[start:])
    what = source.random()
    if what < 0.08:
        offset, size = source.choice(((0, 8), (8, 4), (12, 4), (16, 8), (32, 8), (40, 8)))
        value = int.from_bytes(trailer[offset : offset + size], "little")
        trailer[offset : offset + size] = other_number(source, value, size * 8).to_bytes(
            size, "little"
        )
        detail = f"trailer at {offset}"
    elif what < 0.55:
        detail = _change_description(source, meta)
    else:
        detail = _change_shards(source, shards)
        count = len(shards) // SHARD
        for number in range(count):
            sum_ = xxh3_64(bytes(shards[number * SHARD : (number + 1) * SHARD]), number)
            struct.pack_into("<Q", meta, len(meta) - 8 * (count - number), sum_)
    struct.pack_into("<Q", trailer, 48, xxh3_64(bytes(meta)))
    struct.pack_into("<Q", trailer, 56, xxh3_64(bytes(trailer[:56])))
    return bytes(shards + meta + trailer), "index", detail, ()


def _change_description(source: random.Random, meta: bytearray) -> str:
    """Change one number: of the fixed part more often than of the rows."""
    words = len(meta) // 8
    word = source.randrange(8) if source.random() < 0.4 else source.randrange(words)
    (value,) = struct.unpack_from("<Q", meta, word * 8)
    if source.random() < 0.2:
        struct.pack_into("<d", meta, word * 8, source.choice(FLOATS))
    elif source.random() < 0.2:  # as another number of the description
        struct.pack_into(
            "<Q", meta, word * 8, *struct.unpack_from("<Q", meta, source.randrange(words) * 8)
        )
    else:
        struct.pack_into("<Q", meta, word * 8, other_number(source, value))
    return f"description, word {word}"


def _change_shards(source: random.Random, shards: bytearray) -> str:
    used = [at for at in range(0, len(shards), 8) if any(shards[at : at + 8])]
    if not used:
        return ""
    at, other = source.choice(used), source.choice(used)
    (entry,), (second,) = (
        struct.unpack_from("<Q", shards, at),
        struct.unpack_from("<Q", shards, other),
    )
    what = source.randrange(8)
    if what == 0:
        struct.pack_into("<Q", shards, at, 0)
    elif what == 1:  # points to the record of another key
        struct.pack_into("<Q", shards, at, entry >> 40 << 40 | second % (1 << 40))
    elif what == 2:
        struct.pack_into("<Q", shards, at, second)
        struct.pack_into("<Q", shards, other, entry)
    elif what == 3:
        struct.pack_into("<Q", shards, source.randrange(0, len(shards), 8), entry)
    elif what == 4:
        bits, shift = source.choice(((24, 0), (16, 24), (3, 40), (21, 43)))
        part = other_number(source, entry >> shift & ((1 << bits) - 1), bits)
        changed = entry & ~(((1 << bits) - 1) << shift) | part << shift
        struct.pack_into("<Q", shards, at, changed)
    elif what == 5:
        struct.pack_into("<Q", shards, at, source.getrandbits(64))
    else:
        struct.pack_into("<Q", shards, at, entry ^ 1 << source.randrange(64))
    return f"entry at {at}, case {what}"


# -- key runs


def change_run(source: random.Random, _name: str, data: bytes) -> Changed:
    blocks = [bytearray(data[at : at + BLOCK]) for at in range(0, len(data), BLOCK)]
    if source.random() < 0.3:
        offset, size = source.choice(
            ((8, 8), (16, 4), (20, 4), (24, 8), (40, 8), (48, 8), (56, 8), (64, 8))
        )
        value = int.from_bytes(blocks[0][offset : offset + size], "little")
        blocks[0][offset : offset + size] = other_number(source, value, size * 8).to_bytes(
            size, "little"
        )
        detail = f"header at {offset}"
    elif len(blocks) > 2 and source.random() < 0.2:
        first, second = source.sample(range(1, len(blocks)), 2)
        blocks[first], blocks[second] = blocks[second], blocks[first]
        detail = f"blocks {first} and {second}"
    else:
        detail = _change_block(source, source.choice(blocks[1:]))
    for number, block in enumerate(blocks):
        sum_ = xxh3_64(bytes(block[8:]), number - 1) if number else xxh3_64(bytes(block[8:]))
        struct.pack_into("<Q", block, 0, sum_)
    return b"".join(blocks), "run", detail, ()


def _short(data: bytearray, at: int) -> int:
    return int.from_bytes(data[at : at + 2], "little")


def _change_block(source: random.Random, block: bytearray) -> str:
    (count,) = struct.unpack_from("<H", block, 8)
    what = source.randrange(6)
    if what == 0:
        struct.pack_into("<H", block, 8, other_number(source, count, 16))
    elif what == 1:
        at = 12 + 2 * source.randrange(count)
        struct.pack_into("<H", block, at, other_number(source, _short(block, at), 16))
    elif what == 2:
        one, two = (12 + 2 * source.randrange(count) for _ in range(2))
        block[one : one + 2], block[two : two + 2] = block[two : two + 2], block[one : one + 2]
    elif what == 3:
        (entry,) = struct.unpack_from("<H", block, 12 + 2 * source.randrange(count))
        struct.pack_into("<H", block, entry, other_number(source, _short(block, entry), 16))
    else:
        (entry,) = struct.unpack_from("<H", block, 12 + 2 * source.randrange(count))
        (size,) = struct.unpack_from("<H", block, entry)
        at = (
            source.randrange(entry + 2, entry + 7 + size)
            if what == 4
            else source.randrange(8, BLOCK)
        )
        block[at] ^= 1 << source.randrange(8)
    return f"block, case {what}"
