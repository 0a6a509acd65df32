"""Copies: what a location holds of its upstream, in memory and, if it has a folder, on disk.

Invariants:

* A copy never changes but for what is known of its age: a new value is a new copy.
* Absent keys have a small share of the memory of their own: asking for keys that do not exist
  pushes out no value.
* What is dropped is dropped in memory and on disk.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kvengine.tier.memory import Cache
from kvengine.tier.messages import NEVER, Shown

if TYPE_CHECKING:
    from kvengine.tier.disk import DiskCopies
    from kvengine.tier.settings import Settings

COPY_BYTES = 250  # of memory: the copy, its key and the slot in the cache, besides their content
ABSENT_SHARE = 20  # one part in so many of the memory is for keys that are absent
LARGEST_SHARE = 16  # a value larger than one part in so many is not held in memory


class Held:
    """A copy of a value, or the knowledge that a key is absent (`version` is 0)."""

    __slots__ = (
        "as_of", "checked", "expires_at", "from_disk", "metadata", "read_at", "value", "version",
    )  # fmt: skip

    def __init__(
        self,
        value: bytes | None,
        metadata: bytes,
        expires_at: float | None,
        version: int,
        as_of: int,
        checked: float,
    ) -> None:
        self.value, self.metadata, self.expires_at = value, metadata, expires_at
        self.version, self.as_of, self.checked = version, as_of, checked
        self.read_at = NEVER
        self.from_disk = False

    def checked_again(self, as_of: int, checked: float) -> Held:
        """Return the same value, known to be the newest at a later moment."""
        return Held(
            self.value,
            self.metadata,
            self.expires_at,
            self.version,
            max(as_of, self.as_of),
            max(checked, self.checked),
        )

    def shown(self, age: float, as_of: int, status: str) -> Shown:
        """Return the copy as a reader gets it."""
        return Shown(self.value, self.metadata, self.expires_at, self.version, age, status, as_of)

    @property
    def size(self) -> int:
        """How many bytes of memory it takes, without its key."""
        return COPY_BYTES + len(self.value or b"") + len(self.metadata)


class Copies:
    """What a location holds.

    Thread-safety: threads may get; they change it under the lock of the location.
    """

    def __init__(
        self, settings: Settings, disk: DiskCopies | None = None, seed: int | None = None
    ) -> None:
        memory = settings.memory_bytes
        self._largest = memory // LARGEST_SHARE
        self._values: Any = Cache(memory_bytes=memory - memory // ABSENT_SHARE, seed=seed)
        self._absent: Any = Cache(memory_bytes=memory // ABSENT_SHARE, seed=seed)
        self._get, self._get_absent = self._values.get, self._absent.get
        self._knows_absent = settings.negative_ttl_s > 0
        self.disk = disk

    def get(self, key: bytes) -> Held | None:
        """Return what is held of a key."""
        held: Held | None = self._get(key)
        if held is None and self._knows_absent:
            held = self._get_absent(key)
        if held is None and self.disk is not None:
            held = self.disk.get(key)
            if held is not None:
                self._values.set(key, held, len(key) + held.size)
        return held

    def peek(self, key: bytes) -> Held | None:
        """Return what is held of a key, without making it more popular."""
        held: Held | None = self._values.peek(key)
        if held is None and self._knows_absent:
            held = self._absent.peek(key)
        return self.disk.get(key) if held is None and self.disk is not None else held

    def keep(self, key: bytes, held: Held) -> None:
        """Hold a copy instead of what was held before."""
        size = len(key) + held.size
        if held.version == 0:
            self.drop(key)
            self._absent.set(key, held, size)
            return
        if self._knows_absent:
            self._absent.delete(key)
        if size <= self._largest:
            self._values.set(key, held, size)
        else:
            self._values.delete(key)
        if self.disk is not None:
            self.disk.keep(key, held)

    def drop(self, key: bytes) -> None:
        """Hold nothing of a key."""
        self._values.delete(key)
        if self._knows_absent:
            self._absent.delete(key)
        if self.disk is not None:
            self.disk.drop(key)

    def memory_usage(self) -> int:
        """Return how many bytes of memory the copies take."""
        return int(self._values.memory_usage() + self._absent.memory_usage())
