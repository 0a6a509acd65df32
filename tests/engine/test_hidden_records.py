"""A record with a right checksum that takes in those behind it is damage: they would be lost."""

import pytest

from kvengine import CorruptData, Store, salvage
from kvengine.engine.log.record import encode_record

HEADER_BYTES = 64  # of a segment
VALUE_AT = 25  # in a record with a key of one byte


@pytest.mark.parametrize("hidden", [1, 2, 3])
def test_compaction_keeps_what_a_longer_record_hides(tmp_path, hidden):
    wrong = "452"[hidden - 1]  # the next version that is there, or the last one
    folder = tmp_path / "store"
    model = {key: b"value of " + key for key in (b"a", b"b", b"c", b"d")}
    with Store(folder, durability="os", compaction="manual") as store:
        for key in (*model, b"a"):
            store.put(key, model[key])
        store._parts.end_active_segment()
        store.checkpoint()
        row = store._parts.rows[0]
        salt, path = store._parts.segment_table.salt(row.id), folder / f"{row.id:08x}.log"
    data = path.read_bytes()
    size = len(encode_record(1, 1, 0, 0.0, b"a", b"", model[b"a"], 0))
    start, end = HEADER_BYTES + size, HEADER_BYTES + (2 + hidden) * size
    longer = encode_record(2, 1, 0, 0.0, b"b", b"", data[start + VALUE_AT : end], salt + start)
    assert len(longer) == end - start  # the value of b goes on to the end of another record
    path.write_bytes(data[:start] + longer + data[end:])
    with Store(folder, durability="os", compaction="manual") as store:
        assert store[b"c"] == model[b"c"]  # the index knows where it is
        with pytest.raises(CorruptData, match=r"version .*found " + wrong):
            store.compact()
        assert (store[b"c"], store[b"d"]) == (model[b"c"], model[b"d"])
    salvage(folder, tmp_path / "salvaged")
    with Store(tmp_path / "salvaged") as store:
        assert (store[b"c"], store[b"d"]) == (model[b"c"], model[b"d"])
    path.write_bytes(data)  # the record of b as it was
    with Store(folder, durability="os", rebuild=True) as store:
        assert dict(store.items()) == model
