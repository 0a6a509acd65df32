"""A store's history as a test drives it: what was written, what was acknowledged, and when.

Invariants:

* `states` has what the store holds as of each version at which a batch ends, and no other version.
* A change counts from the moment it is tried: after a crash it may be there or not.
* What was acknowledged as durable must be there after any crash that came later.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from kvengine.engine.store import Store
from kvengine.errors import StorageError, StoreReadOnly
from kvengine.file.directory import Directory
from kvengine.testing.faulty import FaultyDirectory

State = dict[bytes, tuple[bytes, int]]  # key: (value, version)
Change = tuple[bytes, bytes | None]  # None: delete
OPTIONS = {"segment_bytes": 4096, "key_buffer_entries": 16, "checkpoint_records": 1 << 30}


@dataclass(frozen=True, slots=True)
class Acknowledgment:
    """A call that returned: `step` steps had been done on disk by then."""

    step: int
    version: int
    durable: bool


def apply(store: Store, changes: Sequence[Change], durability: str | None) -> int:
    """Make one call, a batch if there are several changes; return its version, 0: no change."""
    key, value = changes[0]
    if len(changes) > 1:
        with store.batch(durability=durability) as batch:
            for key, value in changes:
                if value is None:
                    batch.delete(key)
                else:
                    batch.put(key, value)
        return batch.version or 0
    if value is None:
        return store.delete(key, durability=durability) or 0
    return store.put(key, value, durability=durability)


@dataclass(slots=True)
class History:
    """Drives a store in a FaultyDirectory and keeps track."""

    directory: FaultyDirectory
    store: Store
    states: dict[int, State] = field(default_factory=lambda: {0: {}})
    acknowledgments: list[Acknowledgment] = field(default_factory=list)
    errors: list[Exception] = field(default_factory=list)

    def write(self, changes: Sequence[Change], durability: str | None = None) -> bool:
        """Apply changes as one batch; False if the store refused."""
        before = self.store.version
        state = dict(self.states[before])
        version = before
        for key, value in changes:
            version += 1
            if value is None:
                state.pop(key, None)
            else:
                state[key] = (value, version)
        alone = len(changes) == 1
        if alone and changes[0][1] is None and changes[0][0] not in self.states[before]:
            version = before  # nothing to delete, nothing written
        self.states[version] = state if version != before else self.states[before]
        try:
            apply(self.store, changes, durability)
        except (StorageError, StoreReadOnly) as error:
            self.errors.append(error)
            if self.store.version == before and version != before:
                del self.states[version]
            return False
        level = durability or self.store._parts.options.durability
        if version != before:
            self.acknowledge(level in {"group", "sync"})
        return True

    def acknowledge(self, durable: bool) -> None:
        """Take down that everything up to now was acknowledged."""
        self.acknowledgments.append(
            Acknowledgment(len(self.directory.steps), self.store.version, durable)
        )

    def attempt(self, name: str) -> bool:
        """Call a method of the store without arguments; False if it refused."""
        try:
            getattr(self.store, name)()
        except (StorageError, StoreReadOnly) as error:
            self.errors.append(error)
            return False
        if name in {"sync", "compact", "checkpoint"}:
            self.acknowledge(durable=name == "sync")
        return True

    def close(self) -> None:
        """Close the store; but for "os" that makes everything durable."""
        version = self.store.version
        self.store.close()
        durable = (
            self.store._parts.options.durability != "os"
            and self.store._parts.commits.failure is None
        )
        self.acknowledgments.append(Acknowledgment(len(self.directory.steps), version, durable))

    def least(self, step: int, *, power_is_lost: bool) -> int:
        """Return the version that must be there after a crash behind this step."""
        return max(
            (
                known.version
                for known in self.acknowledgments
                if known.step <= step and (known.durable or not power_is_lost)
            ),
            default=0,
        )


def random_changes(source: random.Random, keys: int = 24) -> list[Change]:
    """Return a batch: mostly one change, some times a few, rarely many or large ones."""
    count = source.choice([1, 1, 1, 1, 1, 3, 5])
    changes: list[Change] = []
    for _ in range(count):
        key = b"key %02d" % source.randrange(keys)
        size = source.choice([0, 7, 60, 200, 700, 1500])
        gone = source.random() < 0.2
        changes.append((key, None if gone else source.randbytes(size)))
    return changes


def open_history(directory: Directory, *, background: bool = False, **options: object) -> History:
    """Open a store for a history; `options` as of Store.

    Without `background` there is no background thread, so steps have the same numbers each time.
    """
    faulty = FaultyDirectory(directory)
    store = Store._in_directory(faulty, **{**OPTIONS, **options})
    history = History(faulty, store, {store.version: content_of(store)})
    if not background:
        store._parts.maintenance.wake = lambda: None  # type: ignore[method-assign]
    return history


def content_of(store: Store) -> State:
    """Read everything, through the key order and through the index, which must agree."""
    found = {entry.key: (entry.value, entry.version) for entry in store.scan()}
    assert list(found) == sorted(found)
    assert len(store) == len(found)
    for key, (value, version) in found.items():
        entry = store.get_entry(key)
        assert entry is not None
        assert (entry.value, entry.version) == (value, version)
        assert store.get(key) == value
    return found
