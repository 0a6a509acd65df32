"""A body that is a JSON array, read item by item, so that memory holds one of them.

Invariants:

* An item has a bounded number of values, which is known before one of them is made.
* The items are those that json.loads() would give of the whole text, or an error says where it is
  no array.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any, BinaryIO

from kvengine.namespace.transfer.source import Source
from kvengine.server.http.body.body_shape import measure_json

VALUES_MAX, DEPTH_MAX = 10_000, 600  # of an item; metadata of 1024 bytes has fewer


def items(file: BinaryIO) -> Iterator[Any]:
    """Return the items of the JSON array in a file.

    Raises:
        InvalidRequest: it is something else.
    """
    return _Body(file, "the body", sys.maxsize).items()  # the body is bounded already


class _Body(Source):
    unit = item = "item"
    first, expected = "", "expected a JSON array"
    read_bytes = 1 << 17

    def check(self) -> None:
        """Refuse the item that is cut, if it is made of too many values."""
        data = self.ahead()
        if data[:1] in (b"[", b"{"):
            values, depth = measure_json(data, only_first=True)
            if values > VALUES_MAX or depth > DEPTH_MAX:
                most = f"{VALUES_MAX} values and {DEPTH_MAX} levels of nesting"
                raise self.error(f"an item can have at most {most}")
