"""A second reader of stores, written from FORMAT.md alone: slow, in Python, with xxhash.

Invariants:

* Nothing is imported from kvengine.
* Everything that has a checksum is compared with it.
"""

import json
import struct
from itertools import pairwise
from pathlib import Path

import xxhash


def xxh3(data, seed=0):
    return xxhash.xxh3_64_intdigest(data, seed & (2**64 - 1))


def decode_record(data, at, seed):
    """Return version, kind, flags, expiry, key, metadata, value and size of a record."""
    checksum, word, value_size, key_size, metadata_size = struct.unpack_from("<QQIHH", data, at)
    version, kind, flags = word & (2**48 - 1), word >> 48 & 0xFF, word >> 56
    place, expires_at, value_checksum = at + 24, None, None
    if flags & 1:
        (expires_at,) = struct.unpack_from("<d", data, place)
        place += 8
    if flags & 2:
        (value_checksum,) = struct.unpack_from("<Q", data, place)
        place += 8
    key = data[place : place + key_size]
    metadata = data[place + key_size : place + key_size + metadata_size]
    value_at = place + key_size + metadata_size
    value = data[value_at : value_at + value_size]
    end = at + (value_at + value_size - at + 15) // 16 * 16
    assert bool(flags & 2) == (value_size > 4096)
    if flags & 2:
        assert xxh3(data[value_at:end], seed) == value_checksum
    covered = data[at + 8 : value_at] if flags & 2 else data[at + 8 : end]
    assert xxh3(covered, seed) == checksum
    assert not any(data[value_at + value_size : end])
    return version, kind, flags, expires_at, key, metadata, value, end - at


def read_manifest(data):
    body, checksum = data.splitlines()
    assert f"{xxh3(body):016x}".encode() == checksum
    return json.loads(body)


class FolderReader:
    def __init__(self, folder):
        self.folder = Path(folder)
        self.manifest = read_manifest((self.folder / "MANIFEST").read_bytes())
        self.uuid = bytes.fromhex(self.manifest["uuid"])
        self.segments = {}  # id -> (bytes, salt)
        assert self.manifest["format"] in {1, 2}
        rows = list(self.manifest["segments"])
        rows += [[number, 0, None, None, None] for number in self._later_segments()]
        for number, kind, first_version, _, size in rows:
            self._load_segment(number, kind, first_version, size)
        self.version = self.manifest["version"]
        self._leave_out_what_was_never_visible([row[0] for row in rows])

    def _leave_out_what_was_never_visible(self, ids):
        """Of a segment what counts ends before the first version of the one begun next."""
        self.ends = {}
        for number, following in pairwise(ids):
            self.ends[number] = self._first_version(self.segments[following][0]) - 1

    def _later_segments(self):
        ids = sorted(int(path.stem, 16) for path in self.folder.glob("*.log"))
        return [number for number in ids if number >= self.manifest["next_id"]]

    def _load_segment(self, number, kind, first_version, size):
        data = (self.folder / f"{number:08x}.log").read_bytes()
        assert size is None or size == len(data)
        fields = struct.unpack_from("<8sII16sQQQQ", data)
        assert fields[:5] == (b"kvengine", 1, kind, self.uuid, number)
        assert first_version in (None, fields[5])
        assert fields[7] == xxh3(data[:56])
        self.segments[number] = (data, fields[6])

    def _first_version(self, data):
        return struct.unpack_from("<Q", data, 40)[0]

    def records(self):
        """Yield every record, with batches cut short left out."""
        for number, (data, salt) in self.segments.items():
            at = 64
            kind, before = struct.unpack_from("<I", data, 12)[0], self._first_version(data) - 1
            end = self.ends.get(number, 2**48)
            while before < end and at + 24 <= len(data) and any(data[at : at + 24]):
                record = decode_record(data, at, salt + at)
                if kind == 0:
                    assert (record[0] != before + 1) == bool(record[2] & 16)
                assert record[0] > before
                before = record[0]
                yield record
                at += record[-1]

    def contents(self):
        """Return {key: (value, metadata, expires_at, version)} by reading the log."""
        newest = {}
        for version, kind, _, expires_at, key, metadata, value, _ in self.records():
            self.version = max(self.version, version)
            if key not in newest or newest[key][0] < version:
                newest[key] = (version, kind, value, metadata, expires_at)
        return {
            key: (value, metadata, expires_at, version)
            for key, (version, kind, value, metadata, expires_at) in newest.items()
            if kind == 1
        }

    # -- the saved index

    def _index(self):
        number, size = self.manifest["index"]
        data = (self.folder / f"{number:08x}.index").read_bytes()
        assert len(data) == size
        trailer = struct.unpack("<8sII16sQQQQ", data[-64:])
        seed = struct.pack("<Q", self.manifest["seed"])
        check = xxh3(seed) % 2**32 or 1
        assert trailer[:5] == (b"kvindex\0", 1, check, self.uuid, number)
        assert trailer[7] == xxh3(data[-64:-8])
        description = data[trailer[5] : -64]
        assert xxh3(description) == trailer[6]
        _, count, _, shards, segments, stashed, setting, groups = struct.unpack_from(
            "<8Q", description
        )
        rows = [struct.unpack_from("<6Q2d", description, 64 + 64 * i) for i in range(segments)]
        slots = {row[1]: row[0] for row in rows}
        at = 64 + 64 * segments
        stash = [struct.unpack_from("<2Q", description, at + 16 * i) for i in range(stashed)]
        at += 16 * stashed
        counted = [struct.unpack_from("<Qd2Q", description, at + 32 * i) for i in range(groups)]
        self.groups = setting.to_bytes(8, "little"), counted
        sums = struct.unpack_from(f"<{shards}Q", description, at + 32 * groups)
        tables = [data[65536 * i : 65536 * (i + 1)] for i in range(shards)]
        assert sums == tuple(xxh3(table, i) for i, table in enumerate(tables))
        entries = [struct.unpack("<8192Q", table) for table in tables]
        return count, slots, stash, entries

    def _key_at(self, address, slots):
        data, salt = self.segments[slots[address >> 24]]
        at = (address & (2**24 - 1)) * 16
        return decode_record(data, at, salt + at)[4]

    def indexed_keys(self):
        count, slots, stash, shards = self._index()
        addresses = [entry & (2**40 - 1) for entries in shards for entry in entries if entry]
        addresses += [address for _, address in stash]
        assert len(addresses) == count
        return {self._key_at(address, slots) for address in addresses}

    def find(self, key):
        """Look a key up as the page says; return the key of the record found, or None."""
        _, slots, stash, shards = self._index()
        hashed = xxh3(key, self.manifest["seed"])
        tag = hashed >> 43
        entries = shards[tag * len(shards) >> 21]
        for distance in range(8):
            bucket = ((hashed & 1023) + distance) % 1024
            row = entries[bucket * 8 : bucket * 8 + 8]
            for entry in row:
                if entry and entry >> 43 == tag and entry >> 40 & 7 == distance:
                    found = self._key_at(entry & (2**40 - 1), slots)
                    if found == key:
                        return found
            if 0 in row:
                return None
        kept = hashed & (~0 << 43 | 1023)
        found = [self._key_at(a, slots) for h, a in stash if h == kept]
        return key if key in found else None

    # -- key runs

    def keys_in_runs(self):
        found = set()
        for name in self.manifest["key_runs"]:
            data = (self.folder / name).read_bytes()
            fields = struct.unpack_from("<Q8sII16s4Q", data)
            assert fields[0] == xxh3(data[8:4096])
            assert fields[1:5] == (b"kvkeys\0\0", 1, 0, self.uuid)
            assert len(data) == 4096 * (fields[5] + 1)
            keys = [key for number in range(fields[5]) for key in self._block(data, number)]
            assert keys == sorted(set(keys))
            assert len(keys) == fields[6]
            found.update(keys)
        return found

    def _block(self, data, number):
        block = data[4096 * (number + 1) : 4096 * (number + 2)]
        checksum, count, _ = struct.unpack_from("<QHH", block)
        assert checksum == xxh3(block[8:], number)
        for place in struct.unpack_from(f"<{count}H", block, 12):
            (size,) = struct.unpack_from("<H", block, place)
            yield block[place + 7 : place + 7 + size]
