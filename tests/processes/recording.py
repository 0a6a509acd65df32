"""What processes did to one store, written down as it happens: a file for each thread.

Invariants:

* A call is written down before it begins and when it has returned, each by one write() to a file:
  what a process wrote before it was killed is there.
* Times are those of the system's monotonic clock, which all processes share.
* Each value that is written names the call that wrote it, by a tag that no other call has.
"""

from __future__ import annotations

import json
import os
import time
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SIZES = (0, 0, 20, 20, 100, 400, 1500, 5000)
LARGE_BYTES = 90_000  # written in pieces, and larger than a segment of these tests
NEVER = 1 << 62


def value_of(tag: str) -> bytes:
    """Return the value of a tag: some are large."""
    chance = zlib.crc32(tag.encode())
    size = LARGE_BYTES if chance % 401 == 0 else SIZES[chance % len(SIZES)]
    return f"{tag}|".encode() + bytes((chance >> 8 & 0x7F | 1,)) * size


def tag_of(value: bytes) -> str:
    """Return the tag of a value.

    Raises:
        AssertionError: nobody wrote these bytes.
    """
    tag = bytes(value[:60]).split(b"|")[0].decode(errors="replace")
    assert value == value_of(tag), f"a value of {len(value)} bytes is not what {tag!r} wrote"
    return tag


class Recorder:
    """Writes down what one thread, or one task, does."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._count = 0
        self.name = Path(path).stem.removeprefix("store.")

    def tag(self) -> str:
        """Return a tag for the call that begins next."""
        return f"{self.name}.{self._count + 1}"

    def began(self, what: str, **more: Any) -> None:
        """Write down a call that begins."""
        self._count += 1
        self._write({"what": what, **more})

    def ended(self, **more: Any) -> None:
        """Write down how the call ended that began last."""
        self._write(more)

    def _write(self, line: dict[str, Any]) -> None:
        line["at"] = time.monotonic_ns()
        os.write(self._file, json.dumps(line, separators=(",", ":")).encode() + b"\n")


@dataclass(slots=True)
class Call:
    """One call: `ended` is NEVER if its process was killed before it had returned."""

    who: str
    what: str
    began: int
    ended: int = NEVER
    asked: dict[str, Any] = field(default_factory=dict)
    answer: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        end = "-" if self.ended == NEVER else f"{self.ended / 1e6:.3f}"
        answer = str(self.answer)[:300]
        return f"{self.who} {self.began / 1e6:.3f} {end} {self.what} {self.asked} -> {answer}"


def load(folder: Path) -> list[Call]:
    """Return all calls that were written down in a folder, by the time they began."""
    calls = []
    for path in folder.glob("*.calls"):
        for line in path.read_bytes().split(b"\n")[:-1]:  # a last one that is not whole is no line
            found = json.loads(line)
            at = found.pop("at")
            if "what" in found:
                calls.append(Call(path.stem, found.pop("what"), at, asked=found))
            else:
                calls[-1].ended, calls[-1].answer = at, found
    return sorted(calls, key=lambda call: call.began)
