"""A value as a file: nothing is copied but what is read, and nothing takes it away."""

import gc
import io

import pytest

from kvengine import Database, InvalidRequest, open  # noqa: A004


def value_of(size):
    return bytes(range(256)) * (size // 256) + bytes(size % 256)


def test_a_stream_is_a_file(kv):
    data = value_of(100_000)
    kv.put("key", data)
    stream = kv.get("key", "stream")
    assert isinstance(stream, io.RawIOBase)
    assert (stream.readable(), stream.seekable(), stream.writable()) == (True, True, False)
    assert len(stream) == 100_000
    assert stream.read(10) == data[:10]
    assert stream.tell() == 10
    assert stream.seek(-5, io.SEEK_END) == 99_995
    assert stream.read() == data[-5:]
    assert stream.read() == stream.read(1) == b""
    assert stream.seek(200_000) == 100_000
    assert stream.seek(3) == 3
    assert stream.seek(2, io.SEEK_CUR) == 5
    buffer = bytearray(7)
    assert stream.readinto(buffer) == 7
    assert buffer == data[5:12]
    for offset, whence in ((-1, 0), (-100_001, 2), (0, 3)):
        with pytest.raises(InvalidRequest, match=f"can't seek to {offset} from {whence}"):
            stream.seek(offset, whence)
    with pytest.raises(OSError, match="not writable"):
        io.BufferedWriter(stream)
    assert io.BufferedReader(kv.get("key", "stream")).readline() == data[: data.index(b"\n") + 1]
    kv.put("copy", kv.get("key", "stream"), size=100_000)
    assert kv.get("copy", "bytes") == data


def test_a_closed_stream_says_so_and_holds_nothing(kv):
    kv.put("key", "value")
    stream = kv.get("key", "stream")
    with stream:
        assert stream.read() == b"value"
    stream.close()
    for call in (stream.read, stream.tell, lambda: stream.seek(0), lambda: len(stream)):
        with pytest.raises(ValueError, match=r"closed|released"):
            call()


@pytest.mark.parametrize("where", ["memory", "disk"])
def test_streams_outlive_everything(tmp_path, where):
    options = {"segment_bytes": 4096, "compaction": "manual", "durability": "os"}
    db = Database.in_memory(**options) if where == "memory" else open(tmp_path, **options)
    kv = db.namespace("ns")
    values = {f"key{n}": bytes([n]) * (n * 300) for n in range(40)}
    for key, value in values.items():
        kv.put(key, value)
    streams = kv.get(list(values), "stream")
    for number, key in enumerate(values):
        kv.delete(key) if number % 2 else kv.put(key, "new")
    db.store.compact()
    assert streams["key39"].read(5) == values["key39"][:5]
    db.delete("ns")
    db._remover.wait()
    db.store.compact()
    db.close()
    del db, kv
    gc.collect()
    streams["key39"].seek(0)
    assert {key: stream.read() for key, stream in streams.items()} == values
