"""A JSON array that is read item by item, so that memory holds one of them.

Invariants:

* An item has a bounded number of values, which is known before one of them is made.
* The items are those that json.loads() would give of the whole text, or an error says where it is
  no array.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from typing import Any, BinaryIO

from kvengine.errors import InvalidRequest
from kvengine.server.http.body_shape import measure_json

READ_BYTES = 1 << 16
VALUES_MAX, DEPTH_MAX = 10_000, 600  # of an item; metadata of 1024 bytes has fewer
TOKEN_CHARS = 16  # longer than "-Infinity" and "\\uD83D\\uDE00"
BLANK = " \t\r\n"


def items(file: BinaryIO) -> Iterator[Any]:
    """Yield the items of the JSON array in a file.

    Raises:
        InvalidRequest: it is something else.
    """
    text = _Text(file)
    if text.next_character() != "[":
        raise text.wrong("an array")
    text.skip(1)
    if text.next_character() == "]":
        text.skip(1)
    else:
        while True:
            yield text.item()
            found = text.next_character()
            if found not in (",", "]"):
                raise text.wrong('"," or "]"')
            text.skip(1)
            if found == "]":
                break
    if text.next_character() != "":
        raise text.wrong("the end")


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


class _Text:
    """What was read of a file and not used yet."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._decode = codecs.getincrementaldecoder("utf-8")().decode
        self._scan = json.JSONDecoder(parse_constant=_refuse_constant).raw_decode
        self._text, self._at, self._passed, self._ended = "", 0, 0, False

    def _more(self, size: int) -> bool:
        """Read on; False at the end."""
        if self._ended:
            return False
        data = self._file.read(size)
        self._ended = not data
        self._passed += self._at
        try:
            self._text = self._text[self._at :] + self._decode(data, self._ended)
        except UnicodeDecodeError as error:
            raise InvalidRequest(f"the body is not UTF-8: {error.reason}") from None
        self._at = 0
        return True

    def next_character(self) -> str:
        """Return what stands behind blanks; "" at the end."""
        while True:
            while self._at < len(self._text):
                found = self._text[self._at]
                if found not in BLANK:
                    return found
                self._at += 1
            if not self._more(READ_BYTES):
                return ""

    def skip(self, count: int) -> None:
        """Go on behind so many characters."""
        self._at += count

    def item(self) -> Any:
        """Return the value that stands here."""
        self.next_character()
        size = READ_BYTES
        while True:
            if len(self._text) - self._at > READ_BYTES:
                self._check_shape()
            try:
                value, end = self._scan(self._text, self._at)
            except RecursionError:
                raise self.wrong("less deep brackets") from None
            except ValueError as error:
                value, end, reason = None, len(self._text), str(error).partition(":")[0]
                if not self._may_go_on(error):
                    raise self.wrong(f"JSON ({reason})") from None
            else:
                reason = ""
            # A number close to the end of what was read may go on: "1." or "1e+".
            if end + TOKEN_CHARS < len(self._text) or not self._more(size):
                if reason:
                    raise self.wrong(f"JSON ({reason})")
                self._at = end
                return value
            size *= 2  # a long item is scanned a few times, not once for each piece

    def _check_shape(self) -> None:
        """Refuse an item that is made of too much, as far as it was read."""
        item = self._text[self._at :].encode("utf-8", "surrogatepass")
        if item[:1] in (b"[", b"{"):
            values, depth = measure_json(item, only_first=True)
            if values > VALUES_MAX or depth > DEPTH_MAX:
                raise self.wrong(f"an item of at most {VALUES_MAX} values")

    def _may_go_on(self, error: ValueError) -> bool:
        """True if what looks wrong may only be cut short."""
        if not isinstance(error, json.JSONDecodeError) or "Unterminated" in error.msg:
            return isinstance(error, json.JSONDecodeError)
        return error.pos + TOKEN_CHARS >= len(self._text)

    def wrong(self, expected: str) -> InvalidRequest:
        """Return what is wrong here."""
        at = self._passed + self._at
        return InvalidRequest(
            f"the body must be a JSON array: expected {expected} at character {at}"
        )
