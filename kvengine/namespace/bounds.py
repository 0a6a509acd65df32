"""Bounds: a namespace that holds at most so many keys or bytes, and evicts what is used least.

Invariants:

* A write that returns has left the namespace within its bounds, unless others write meanwhile: then
  it may be above them by what these are just writing, until the last of them returns.
* A key is evicted only in the version that was looked at: one that was written since stays.
* A write does not evict the key that it wrote, or of many keys the last one.
* An eviction that is interrupted leaves too much, never too little; the next write goes on with it.
* Keys that have ended count for nothing, so they go before all others.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

from kvengine.engine.order.sampling import sample
from kvengine.engine.order.scan import heads_page
from kvengine.errors import (
    InvalidRequest,
    InvalidType,
    LimitExceeded,
    StorageFull,
    StoreBusy,
    StoreClosed,
    VersionConflict,
)
from kvengine.namespace.layout import PREFIX_BYTES
from kvengine.namespace.listing import size_of
from kvengine.namespace.recency import Recency

if TYPE_CHECKING:
    from kvengine.engine.store import Store
    from kvengine.entry import GroupSize
    from kvengine.namespace.reading import Meter

Eviction = Literal["lru", "lfu"]
EVICTIONS: tuple[str, ...] = get_args(Eviction)
SPARE_KEYS, SPARE_SHARE = 16, 32  # so many more go at once, or this part of all if that is fewer
SAMPLE_KEYS, SAMPLE_KEYS_MAX = 128, 1024
SAMPLE_SHARE = 8  # of a sample the worst eighth goes
KEY_BYTES = 512  # of a key with its value, where a guess is needed
EXAMINE_KEYS = 4096  # dead ones, too, where a sample finds none

Head = tuple[bytes, int, int]  # key, bytes, version


class Bounds(NamedTuple):
    """What a namespace may hold; None: any number."""

    max_bytes: int | None  # of keys, values and metadata
    max_keys: int | None
    eviction: str  # one of EVICTIONS


def bounds_of(max_bytes: Any, max_keys: Any, eviction: Any) -> Bounds | None:
    """Return bounds that were checked; None: there are none.

    Raises:
        InvalidType: a bound is not an int.
        InvalidRequest: it is not positive, or there is no such eviction.
    """
    for name, value in (("max_bytes", max_bytes), ("max_keys", max_keys)):
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int):
            raise InvalidType(f"{name} must be an int or None, not {type(value).__name__}")
        if not 1 <= value < 1 << 63:
            raise InvalidRequest(f"{name} must be from 1 to 2**63 - 1, not {value}")
    if eviction not in EVICTIONS:
        raise InvalidRequest(
            f"eviction must be {' or '.join(map(repr, EVICTIONS))}, not {eviction!r}"
        )
    if max_bytes is None and max_keys is None:
        return None
    return Bounds(max_bytes, max_keys, eviction)


class Evictor:
    """Keeps a namespace within its bounds.

    Args:
        store, prefix, meter: of the namespace.
        bounds: what it may hold.

    Thread-safety: threads may share it; each evicts for itself, so a few keys more may go.
    """

    def __init__(self, store: Store, prefix: bytes, meter: Meter, bounds: Bounds) -> None:
        self._store, self._prefix, self._meter, self.bounds = store, prefix, meter, bounds
        guess = -(-(bounds.max_bytes or 1 << 63) // KEY_BYTES)
        keys = min(bounds.max_keys or guess, guess)
        self.recency = Recency(keys, bounds.eviction == "lfu", store._parts.manifest.seed)
        self._pool: list[Head] = []  # the next worst of the last sample

    def check_size(self, size: int) -> None:
        """Refuse a key that does not fit, even alone.

        Raises:
            LimitExceeded: key, value and metadata have more than `max_bytes` together.
        """
        most = self.bounds.max_bytes
        if most is not None and size > most:
            raise LimitExceeded(
                f"the namespace holds at most {most} bytes; this key, its value and its metadata "
                f"have {size} together",
                413,
            )

    def wrote(self, names: Sequence[bytes]) -> None:
        """Take note of keys that were written, and evict others if there are too many now."""
        if self.recency.is_frequency:
            self.recency.note(list(names), 0)
        with suppress(StoreClosed, StorageFull):  # the write is done; the next one evicts
            self.evict(names)

    def evict(self, names: Sequence[bytes] = ()) -> None:
        """Delete keys, but not those just written, until the namespace is within its bounds."""
        keys, all_bytes = self._store.group_size(self._prefix)
        most_bytes, most_keys, _ = self.bounds
        if (most_keys is None or keys <= most_keys) and (
            most_bytes is None or all_bytes - keys * PREFIX_BYTES <= most_bytes
        ):
            return
        size = size_of(self._store, self._prefix)
        spared = set(names)
        while any(excess := self._excess(size)):
            found = [head for head in self._candidates(size) if head[0] not in spared]
            if found:
                self._delete(found, *excess, size)
            elif len(spared) > 1:  # what was written fills the namespace by itself
                spared = {names[-1]}
            else:
                return
            size = size_of(self._store, self._prefix)

    def _excess(self, size: GroupSize) -> tuple[int, int]:
        """Return how many bytes and keys are to go: some room is left for those who write next."""
        most_bytes, most_keys, _ = self.bounds
        bytes_above = keys_above = 0
        if most_keys is not None:
            keys_above = size.keys - most_keys + min(SPARE_KEYS, most_keys // SPARE_SHARE)
        if most_bytes is not None:
            spare = min(SPARE_KEYS * size.bytes // max(size.keys, 1), most_bytes // SPARE_SHARE)
            bytes_above = size.bytes - most_bytes + spare
        return max(bytes_above, 0), max(keys_above, 0)

    def _share(self, size: GroupSize) -> float:
        """Return which part of all keys is too many."""
        excess_bytes, excess_keys = self._excess(size)
        return max(excess_keys / size.keys, excess_bytes / size.bytes)

    def _candidates(self, size: GroupSize) -> list[Head]:
        """Return keys, those first that should go; one at least lives if any key does."""
        store, order = self._store, self._store._parts.key_order
        if order.may_drop_dead(store._parts.removals):
            with suppress(StoreBusy):  # in a handler
                store._parts.exclusively(order.drop_dead, store._parts)
        is_far_above = self._share(size) > 1 / SAMPLE_SHARE
        wanted = SAMPLE_KEYS_MAX if is_far_above else SAMPLE_KEYS
        found = []
        if size.keys > SAMPLE_KEYS:
            found = sample(store._parts, order, self._prefix, wanted)
        if len(found) < SAMPLE_SHARE:
            found = self._page()
        found += self._pool
        return self.recency.worst_first(list(dict.fromkeys(found)), store.version)

    def _page(self) -> list[Head]:
        """Return some keys from the start, all if there are few."""
        store, after = self._store, None
        while True:
            heads, after = heads_page(
                store._parts,
                store._parts.key_order,
                self._prefix,
                after,
                False,
                SAMPLE_KEYS,
                EXAMINE_KEYS,
            )
            if heads or after is None:
                return [
                    (name, len(name) + len(metadata) + value_size, version)
                    for name, metadata, _, version, value_size in heads
                ]

    def _delete(
        self, found: list[Head], excess_bytes: int, excess_keys: int, size: GroupSize
    ) -> None:
        """Delete the worst, as many as a sample of this size can tell."""
        most = max(int(len(found) * max(self._share(size), 1 / SAMPLE_SHARE)), 1)
        self._pool = found[most : 2 * most]
        for name, key_bytes, version in found[:most]:
            if excess_bytes <= 0 and excess_keys <= 0:
                return
            try:
                deleted = self._store.delete(name, if_version=version, durability="os")
            except VersionConflict:
                continue
            if deleted:
                self._meter.evictions += 1
                excess_bytes -= key_bytes - PREFIX_BYTES
                excess_keys -= 1
