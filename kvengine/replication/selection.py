"""Which keys a replica holds.

Invariants:

* A selection never changes; the ranges of its keys are sorted and do not overlap.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from kvengine.engine.order.scanning import bytes_of


class KeyRange(NamedTuple):
    """Keys from `start` on that come before `end`; None: all that follow."""

    start: bytes
    end: bytes | None


EVERY_KEY = KeyRange(b"", None)


class Selection(NamedTuple):
    """Keys that begin with one of the prefixes, and single keys."""

    prefixes: tuple[bytes, ...] = (b"",)
    keys: tuple[bytes, ...] = ()

    @property
    def takes_all(self) -> bool:
        """True if no key is left out."""
        return b"" in self.prefixes

    def takes(self, key: bytes) -> bool:
        """True if a key is among them."""
        return key.startswith(self.prefixes) or key in self.keys

    def ranges(self) -> tuple[KeyRange, ...]:
        """Return all keys as ranges."""
        return tuple(
            sorted(
                [prefix_range(prefix) for prefix in self.prefixes]
                + [KeyRange(key, key + b"\0") for key in self.keys]
            )
        )


def select(prefixes: Iterable[bytes] | None, keys: Iterable[bytes] = ()) -> Selection:
    """Return the selection of some prefixes (None: everything) and keys, in one form.

    Raises:
        InvalidType: a prefix is not bytes.
    """
    if prefixes is None:
        return Selection()
    found: list[bytes] = []
    for prefix in sorted(bytes_of("a prefix", prefix) for prefix in prefixes):
        if not found or not prefix.startswith(found[-1]):
            found.append(prefix)
    chosen = tuple(found)
    single = tuple(sorted({key for key in keys if not key.startswith(chosen)}))
    return Selection(chosen, single)


def prefix_range(prefix: bytes) -> KeyRange:
    """Return the range of the keys that begin with a prefix."""
    stem = prefix.rstrip(b"\xff")
    return KeyRange(prefix, stem[:-1] + bytes([stem[-1] + 1]) if stem else None)
