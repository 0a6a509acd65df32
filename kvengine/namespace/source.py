"""The pieces of a file of pairs: its lines, or the objects of a JSON array.

The file is read once, in blocks that are dropped after use, so it may have any size.

Invariants:

* A piece is returned whole or not at all.
* `done` is a place between two pieces where reading can resume.  It moves when a piece is
  accepted, never before.
* The digest covers every byte up to that place, so a changed beginning of the file is detected.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import xxhash

from kvengine.errors import InvalidRequest, InvalidType, pass_on
from kvengine.namespace.transfer.fields import DECODER, EXPECTED, why_not

READ_BYTES = 1 << 20
BOM = b"\xef\xbb\xbf"
SPACE = b" \t\r\n"
NO_SPACE = re.compile(rb"[^ \t\r\n]")
UNFINISHED = re.compile(r"[-+.\\\w]{0,16}")  # an escape, a number, or a word, at the end of a text


class Place(NamedTuple):
    """A place between two pieces."""

    offset: int  # bytes before it
    lines: int  # lines that end before it
    pairs: int  # pieces before it


class Source:
    """A file object that is read piece by piece.

    Args:
        file: a binary file object.
        name: of the file, for messages.
        longest: how many bytes a piece may have.

    Thread-safety: for one thread.
    """

    def __init__(self, file: Any, name: str, longest: int) -> None:
        self.name, self.longest = name, longest
        self.done = Place(0, 0, 0)
        self.line = 0  # of the piece that was given out last, from 1
        self.pair = 0  # its number in an array, from 1; 0: there is no array
        self.is_cut = False  # that piece is a line, and the file ends in it
        self._file = file
        self._block = b""
        self._begins = 0  # where in the file the block does
        self._at = 0  # what comes next, in the block
        self._lines = self._pairs = 0  # before that
        self._text = ""  # of the block
        self._text_at = -1  # where in the block the character is that comes next; -1: unknown
        self._char = 0  # the number of that character
        self._digest = xxhash.xxh3_128()
        self._digested = 0  # bytes of the file

    def accept(self) -> None:
        """Mark all pieces returned so far as done."""
        self.done = Place(self._begins + self._at, self._lines, self._pairs)

    def digest(self) -> str:
        """Return the digest of everything that is done."""
        start, end = self._digested - self._begins, self.done.offset - self._begins
        self._digest.update(memoryview(self._block)[start:end])
        self._digested = self.done.offset
        return self._digest.hexdigest()

    def begin(self) -> bool:
        """Go to the first piece; return whether the file is a JSON array."""
        while len(self._block) < len(BOM) and self._more():
            pass
        if self._block.startswith(BOM):
            self._at = len(BOM)
        return self._next_byte() == b"["

    def go_to(self, place: Place, digest: str) -> None:
        """Continue at a place where the file had this digest.

        Raises:
            InvalidRequest: it has another digest there.
        """
        while self._begins + self._at < place.offset and self._more():
            self._at = min(len(self._block), place.offset - self._begins)
            self.accept()
        if self.done.offset < place.offset or self.digest() != digest:
            raise InvalidRequest(
                f"{self.name} has changed: its first {place.offset} bytes, which were "
                "imported before, are different; import it again without resume"
            )
        self.done, self._lines, self._pairs = place, place.lines, place.pairs

    # -- pieces

    def lines(self) -> Iterator[bytes | None]:
        """Yield the lines that are not blank; None for one that is too long to be a pair."""
        while True:
            end = self._block.find(b"\n", self._at)
            if end < 0 and len(self._block) - self._at <= self.longest:
                if self._more():
                    continue
                if self._at == len(self._block):
                    return
                self.is_cut = True
                end = len(self._block)
            self.line = self._lines + 1
            if end < 0 or end - self._at > self.longest:
                yield None
                self._drop_line()
                continue
            line = self._block[self._at : end]
            self._at = min(end + 1, len(self._block))
            self._lines += 1
            if line and not line.isspace():
                self._pairs += 1
                yield line
            else:
                self.accept()

    def objects(self) -> Iterator[dict[str, Any]]:
        """Yield the objects of a JSON array.

        Raises:
            InvalidRequest: it is not an array of objects, or is incomplete.
        """
        opened = self.done.offset == 0
        if opened:
            self._expect(b"[", "the [ of a JSON array")
        while self._next_byte() != b"]":
            if not opened:
                self._expect(b",", "a comma, or the ] of the array,")
            opened = False
            if self._next_byte() != b"{":
                self._expect(b"{", "an object")
            yield self._object()
        self._at += 1
        if self._next_byte():
            self.line = self._lines + 1
            raise self.error("expected nothing after the ] of the array")
        self.accept()

    def error(self, text: str) -> InvalidRequest:
        """Return an error that says where."""
        pair = f", pair {self.pair}" if self.pair else ""
        return InvalidRequest(f"{self.name}, line {self.line}{pair}: {text}")

    def _expect(self, wanted: bytes, what: str) -> None:
        """Go behind a byte that must come next."""
        byte = self._next_byte()
        if byte != wanted:
            self.line, self.pair = self._lines + 1, self._pairs + 1
            found = repr(byte.decode("latin-1")) if byte else "the end of the file"
            raise self.error(f"expected {what} and found {found}")
        self._at += 1

    def _object(self) -> dict[str, Any]:
        """Take the object that begins here."""
        self.line, self.pair = self._lines + 1, self._pairs + 1
        while (found := self._parsed()) is None:
            if len(self._block) - self._at > self.longest:
                raise self.error(f"an object has more than {self.longest} bytes, which no pair has")
            if not self._more():
                raise self.error("the file ends in the middle of this object")
        fields, start, end = found
        taken = self._text[start:end]
        try:
            self._at += len(taken.encode())
        except UnicodeEncodeError:
            raise self.error(f"{EXPECTED}, but it is not UTF-8") from None
        self._char, self._text_at = end, self._at
        self._lines += taken.count("\n")
        self._pairs += 1
        return fields

    def _parsed(self) -> tuple[dict[str, Any], int, int] | None:
        """Return the object that begins here, and where in the text it is; None: it is cut."""
        if self._text_at < 0:
            # Bytes that are no text, as of a character that is cut, become lone surrogates.
            self._text = self._block[self._at :].decode("utf-8", "surrogateescape")
            self._text_at, self._char = self._at, 0
        start = self._char + self._at - self._text_at  # spaces and a comma lie between
        try:
            fields, end = DECODER.raw_decode(self._text, start)
        except (ValueError, RecursionError) as error:
            pass_on(error)
            if _is_cut(error, self._text):
                return None
            raise self.error(why_not(error, start)) from None
        return fields, start, end

    # -- reading

    def _more(self) -> bool:
        """Drop what is done with and read on; False at the end of the file."""
        self.digest()
        kept = self._block[self.done.offset - self._begins :]
        # As much again, so that a long piece is not looked at often before it is whole.
        read = self._file.read(max(READ_BYTES, len(kept)))
        if not isinstance(read, (bytes, bytearray, memoryview)):
            raise InvalidType(
                f"{self.name} must return bytes, not {type(read).__name__}; open it with mode 'rb'"
            )
        self._at -= self.done.offset - self._begins
        self._begins = self.done.offset
        self._block, self._text_at = kept + read, -1
        return len(read) > 0

    def _next_byte(self) -> bytes:
        """Go to the next byte that is no space and return it; b"" at the end of the file."""
        byte = self._block[self._at : self._at + 1]
        if byte and byte not in SPACE:
            return byte
        while True:
            found = NO_SPACE.search(self._block, self._at)
            end = len(self._block) if found is None else found.start()
            self._lines += self._block.count(b"\n", self._at, end)
            self._at = end
            if found is not None:
                return found.group()
            if not self._more():
                return b""

    def _drop_line(self) -> None:
        """Go behind the end of the line without keeping it."""
        while (end := self._block.find(b"\n", self._at)) < 0:
            self._at = len(self._block)
            self.accept()
            if not self._more():
                return
        self._at = end + 1
        self._lines += 1
        self.accept()


def _is_cut(error: Exception, text: str) -> bool:
    """True if a text may be JSON as far as it goes."""
    return isinstance(error, json.JSONDecodeError) and (
        error.msg.startswith("Unterminated string")
        or UNFINISHED.fullmatch(text, error.pos) is not None
    )
