"""The log itself says how far it was on disk, also where no control page does.

A record that was written when all before it had been synced carries a mark.  A bad record before
such a mark was damaged later: recovery may not take it for the torn end of the last writes.
"""

import pytest

from kvengine import CorruptData, Store
from kvengine.testing.crashing import folder_of
from kvengine.testing.history import content_of

OPTIONS = {"compaction": "manual", "durability": "os"}
NAME = "00000001.log"
SYNCED = 20


@pytest.fixture(scope="module")
def files():
    """Return a store of synced keys, with one more behind them that was not, and no page."""
    folder = folder_of({})
    store = Store._in_directory(folder, **OPTIONS)
    for number in range(SYNCED):
        store.put(b"key %02d" % number, b"value %02d" % number)
    store.sync()
    store.put(b"later", b"not synced")
    return {name: folder.read(name) for name in folder.names() if name not in ("LOCK", "CONTROL")}


def with_a_bad_byte(files, text):
    data = bytearray(files[NAME])
    data[data.index(text)] ^= 1
    return folder_of({**files, NAME: bytes(data)})


@pytest.mark.parametrize("number", [0, 5, SYNCED - 1])
@pytest.mark.parametrize("options", [{}, {"read_only": True}, {"rebuild": True}])
def test_a_bad_record_before_a_durable_mark_is_damage(files, number, options):
    with pytest.raises(CorruptData, match=NAME):
        Store._in_directory(with_a_bad_byte(files, b"value %02d" % number), **OPTIONS, **options)


def test_a_bad_record_behind_it_is_the_end_of_the_log(files):
    with Store._in_directory(with_a_bad_byte(files, b"not synced"), **OPTIONS) as store:
        assert [value for value, _ in content_of(store).values()] == [
            b"value %02d" % number for number in range(SYNCED)
        ]
