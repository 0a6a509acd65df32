"""The pieces of a file: its lines, or the items of a JSON array.

The file is read once, in blocks that are dropped after use, so it may have any size.

Invariants:

* A piece is returned whole or not at all.
* `done` is a place between two pieces where reading can resume.  It moves when a piece is
  accepted, never before.
* The digest covers every byte up to that place, so a changed beginning of the file is detected.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import xxhash

from kvengine.errors import InvalidRequest, InvalidType, pass_on
from kvengine.namespace.transfer.fields import DECODER, EXPECTED, why_not

BOM = b"\xef\xbb\xbf"
SPACE = " \t\r\n"
NO_SPACE = re.compile(rb"[^ \t\r\n]")
NO_SPACE_CHAR = re.compile(r"[^ \t\r\n]")
COMMA = re.compile(r"[ \t\r\n]*,[ \t\r\n]*(?=[^ \t\r\n])")
WHOLE = frozenset({str, dict, list})  # a value that does not go on: "1" may begin "12", or "1.5"
BAD_BYTE = re.compile("[\udc80-\udcff]")  # as "surrogateescape" shows it
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

    unit, item = "pair", "object"  # what messages call an item: with its number, and alone
    first = "{"  # what each item begins with; "": anything
    expected = EXPECTED
    read_bytes = 1 << 20  # at once

    def __init__(self, file: Any, name: str, longest: int) -> None:
        self.name, self.longest = name, longest
        self.pair = 0  # number of the piece returned last, in an array; 0: there is none
        self.is_cut = False  # that piece is a line, and the file ends in it
        self._file = file
        self._block = b""
        self._begins = 0  # where in the file the block does
        self._at = 0  # what comes next, in the block; in an array, what comes behind `done`
        self._lines = self._pairs = 0  # before that
        self._line = 0  # of the piece returned last, from 1
        self._done = Place(0, 0, 0)
        self._digest = xxhash.xxh3_128()
        self._digested = 0  # bytes of the file
        # Of an array: bytes and lines are counted when they are asked for, not for each item.
        self._is_array = self._ended = False
        self._text = ""  # of the block, behind `done` as it was last asked for
        self._is_text = True  # there are no other bytes in it
        self._char = self._start = 0  # in the text: what comes next, and where the last item began
        self._accepted = 0  # in the text: the end of what is done

    def accept(self) -> None:
        """Mark all pieces returned so far as done."""
        if self._is_array:
            self._accepted, self._pairs = self._char, self.pair
        else:
            self._done = Place(self._begins + self._at, self._lines, self._pairs)

    @property
    def done(self) -> Place:
        """Where reading can resume."""
        if self._accepted:
            done = self._text[: self._accepted]
            self._text = self._text[self._accepted :]
            self._at += (
                len(done) if done.isascii() else len(done.encode("utf-8", "surrogateescape"))
            )
            self._lines += done.count("\n")
            self._char -= self._accepted
            self._start -= self._accepted
            self._accepted = 0
            self._done = Place(self._begins + self._at, self._lines, self._pairs)
        return self._done

    @property
    def line(self) -> int:
        """The line of the piece returned last, from 1."""
        if self._is_array:
            return self._lines + self._text.count("\n", 0, max(0, self._start)) + 1
        return self._line

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
        while (found := NO_SPACE.search(self._block, self._at)) is None and self._more():
            pass
        return found is not None and found.group() == b"["

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
        self._done, self._lines, self._pairs = place, place.lines, place.pairs

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
            self._line = self._lines + 1
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

    def items(self) -> Iterator[Any]:
        """Yield the items of a JSON array; asking for the next one accepts an item.

        Raises:
            InvalidRequest: it is not an array of such items, or is incomplete.
        """
        opened = self.done.offset == 0
        self._is_array = True
        self._decode()
        decoder: Any = DECODER
        scan = decoder.scan_once  # as raw_decode(), without a call in between
        if opened:
            if (found := self._next()) != "[":
                raise self._unexpected("the [ of a JSON array", found)
            self._char += 1
        while True:
            comma = None if opened else COMMA.match(self._text, self._char)
            if comma is not None:
                self._char = comma.end()
                found = self._text[self._char]
            elif (found := self._next()) == "]":
                break
            elif not opened:
                if found != ",":
                    raise self._unexpected("a comma, or the ] of the array,", found)
                self._char += 1
                found = self._next()
            opened = False
            if self.first and found != self.first:
                raise self._unexpected(f"an {self.item}", found)
            self._start = self._char
            self.pair = self._pairs + 1
            try:
                value, end = scan(self._text, self._start)
            except StopIteration as error:
                value = self._item(json.JSONDecodeError("Expecting value", self._text, error.value))
            except (ValueError, RecursionError) as error:
                pass_on(error)
                value = self._item(error)
            else:
                if self._is_text and type(value) in WHOLE:
                    self._char = end
                else:
                    value = self._item(None)
            yield value
            self._accepted, self._pairs = self._char, self.pair
        self._char += 1
        if self._next():
            self._start = self._char
            raise self.error("expected nothing after the ] of the array")
        self._accepted = self._char

    def error(self, text: str) -> InvalidRequest:
        """Return an error that says where."""
        pair = f", {self.unit} {self.pair}" if self.pair else ""
        return InvalidRequest(f"{self.name}, line {self.line}{pair}: {text}")

    def _unexpected(self, expected: str, found: str) -> InvalidRequest:
        self._start, self.pair = self._char, self._pairs + 1
        shown = repr(found) if found else "the end of the file"
        return self.error(f"expected {expected} and found {shown}")

    def check(self) -> None:
        """Refuse the item that is cut, if what was read of it is too much."""

    def ahead(self) -> bytes:
        """Return what was read of the item that is cut."""
        return self._text[self._char :].encode("utf-8", "surrogateescape")

    def _item(self, error: Exception | None) -> Any:
        """Take the item that begins here; it may be cut, or wrong, if parsing it gave an error."""
        value, end = None, -1
        while True:
            if error is None:
                try:
                    value, end = DECODER.raw_decode(self._text, self._char)
                    if type(value) in WHOLE or not UNFINISHED.fullmatch(self._text, end):
                        break
                except (ValueError, RecursionError) as found:
                    pass_on(found)
                    error, end = found, -1
            if error is not None and not _is_cut(error, self._text):
                raise self.error(why_not(error, self._char, self.expected)) from None
            error = None
            if len(self._text) - self._char > self.longest:
                raise self.error(
                    f"an {self.item} has more than {self.longest} bytes, which no {self.unit} has"
                )
            self.check()
            size = end - self._char
            if not self._more():
                if end < 0:
                    raise self.error(f"the file ends in the middle of this {self.item}")
                end = self._char + size
                break
        if not self._is_text and BAD_BYTE.search(self._text, self._char, end):
            raise self.error(f"{self.expected}, but it is not UTF-8")
        self._char = end
        return value

    # -- reading

    def _more(self) -> bool:
        """Drop what is done with and read on; False at the end of the file."""
        self.digest()
        kept = self._block[self.done.offset - self._begins :]
        # As much again, so that a long piece is not looked at often before it is whole.
        read = self._file.read(max(self.read_bytes, len(kept)))
        if not isinstance(read, (bytes, bytearray, memoryview)):
            raise InvalidType(
                f"{self.name} must return bytes, not {type(read).__name__}; open it with mode 'rb'"
            )
        self._at -= self.done.offset - self._begins
        self._begins = self.done.offset
        self._block, self._ended = kept + read, not read
        if self._is_array:
            self._decode()
        return len(read) > 0

    def _decode(self) -> None:
        """Make text of the block; a character that is cut at its end is left out."""
        data = memoryview(self._block)[self._at :]
        try:
            self._text, self._is_text = codecs.utf_8_decode(data, "strict", self._ended)[0], True
        except UnicodeDecodeError:  # bytes that are no text become lone surrogates
            self._text, self._is_text = str(data, "utf-8", "surrogateescape"), False

    def _next(self) -> str:
        """Go to the next character that is no space and return it; "" at the end of the file."""
        char = self._text[self._char : self._char + 1]
        if char and char not in SPACE:
            return char
        while True:
            found = NO_SPACE_CHAR.search(self._text, self._char)
            if found is not None:
                self._char = found.start()
                return found.group()
            self._char = len(self._text)
            if self._ended:
                return ""
            self._more()  # at the end, a character that is cut shows

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
