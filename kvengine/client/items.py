"""The items of an endless answer, parsed from its bytes as they arrive.

    4 bytes of size and a message, again and again; a size of 0 is a heartbeat, [] as a message the
    end, and an error the end with that error; see server/api/calls.py

Invariants:

* Each item is given once, in order; what is no item is a ProtocolError.
* No more is held than the item that is coming.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kvengine.client.failures import decode_error
from kvengine.client.packing import unpack
from kvengine.errors import ProtocolError

SIZE_BYTES = 4
ITEM_BYTES_MAX = 256 << 20


class Items:
    """Takes items out of bytes.

    Thread-safety: for one thread.
    """

    def __init__(self) -> None:
        self._data = bytearray()
        self.ended = False

    def feed(self, data: bytes) -> Iterator[Any]:
        """Yield the items that are complete with these bytes; None is a heartbeat.

        Raises:
            KvError: the error with which the stream ends.
            ProtocolError: they are not items.
        """
        self._data += data
        while not self.ended and len(self._data) >= SIZE_BYTES:
            size = int.from_bytes(self._data[:SIZE_BYTES], "little")
            if size > ITEM_BYTES_MAX:
                raise ProtocolError("an item", 0, f"{ITEM_BYTES_MAX} bytes", size)
            end = SIZE_BYTES + size
            if len(self._data) < end:
                return
            message = bytes(self._data[SIZE_BYTES:end])
            del self._data[:end]
            if size == 0:
                yield None
                continue
            found = unpack(message)
            if isinstance(found, dict):
                raise decode_error(found, 200)
            if not isinstance(found, list):
                raise ProtocolError("an item", 0, "a list", type(found).__name__)
            self.ended = not found
            if found:
                yield found[0]
