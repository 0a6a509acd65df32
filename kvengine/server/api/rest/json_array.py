"""Read a JSON array item by item, so that memory holds one item.

Invariants:

* The number of values of an item is checked before the item is built.
* The items equal those of json.loads() for the whole text; an error has the position of a syntax
  error.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any, BinaryIO

from kvengine.namespace.transfer.source import Source
from kvengine.server.http.body.body_shape import measure_json

VALUES_MAX, DEPTH_MAX = 10_000, 600  # of an item; more than metadata of 1024 bytes can have


def items(file: BinaryIO) -> Iterator[Any]:
    """Return the items of the JSON array in a file.

    Raises:
        InvalidRequest: the file is not a JSON array.
    """
    return _Body(file, "the body", sys.maxsize).items()  # the size of the body is checked already


class _Body(Source):
    unit = item = "item"
    first, expected = "", "expected a JSON array"
    read_bytes = 1 << 17

    def check(self) -> None:
        """Refuse the current item if it has too many values."""
        data = self.ahead()
        if data[:1] in (b"[", b"{"):
            values, depth = measure_json(data, only_first=True)
            if values > VALUES_MAX or depth > DEPTH_MAX:
                most = f"{VALUES_MAX} values and {DEPTH_MAX} levels of nesting"
                raise self.error(f"an item can have at most {most}")
