"""The ledger: what the meters counted, added up by namespace and day, and kept in the store.

Invariants:

* A count is written down once, in the row of the day on which it was written down; so at midnight
  at most what was counted within one interval is in the row of the next day.
* Any number of processes add to a row: each writes it only if it is still the one that it read.
* Reading never writes: a thread looks at the meters every few seconds, and writes the rows of those
  that moved, and so does the end of the program.  After `kill -9` at most the counts of one
  interval are lost; what is stored is not counted here, so it is exact.
* A write that was interrupted may be in the store or not: a row says which ledgers wrote it last,
  and how often each has written.
* The thread refers to the ledger weakly: a database that nobody holds any more goes away.
"""

from __future__ import annotations

import contextlib
import json
import math
import secrets
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

from kvengine.engine.following.changes import Flag
from kvengine.engine.jobs.holding import OwnedLock
from kvengine.engine.store import Store
from kvengine.entry import GroupSize
from kvengine.errors import CorruptData, KvError, VersionConflict, pass_on
from kvengine.file.system import exit_watch, fork_watch
from kvengine.metering.usage import KINDS, Counts, Meter

DAY_S = 86400
INTERVAL_S = 5.0
LAST_MAX = 16  # ledgers that a row remembers


class RowKeys(NamedTuple):
    """How rows lie in the store; the layout is known elsewhere."""

    prefix: bytes
    key: Callable[[int, int], bytes]  # of a namespace's number and a day since 1970
    parts: Callable[[bytes], tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Row:
    """What was used of a namespace on a day, and what it held when that was written down."""

    counts: Counts
    keys: int
    stored_bytes: int
    last: dict[str, int] = field(default_factory=dict)  # ledger -> the number of its last write

    def encode(self) -> bytes:
        """Return the record of the row."""
        fields: dict[str, Any] = asdict(self.counts)
        fields |= {"keys": self.keys, "bytes": self.stored_bytes}
        if not self.counts.evictions:  # as in rows of earlier versions
            del fields["evictions"]
        if self.last:
            fields["last"] = self.last
        return json.dumps(fields).encode()


def decode(key: bytes, data: bytes) -> Row:
    """Return a row.

    Raises:
        CorruptData: the record is damaged.
    """
    try:
        found = json.loads(data)
        found.setdefault("evictions", 0)
        numbers = [found[name] for name in (*KINDS, "keys", "bytes")]
        last = dict(found.get("last", {}))
        if not all(type(number) is int and number >= 0 for number in [*numbers, *last.values()]):
            raise ValueError
        *counts, keys, stored_bytes = numbers
        return Row(Counts(*counts), keys, stored_bytes, last)
    except (ValueError, TypeError, AttributeError, LookupError, RecursionError) as error:
        pass_on(error)
        raise CorruptData(
            "metering row", file=repr(key), offset=0, expected="counts", found="something else"
        ) from None


class Ledger:
    """What was used of the namespaces of a store.

    Args:
        store: where the rows are.
        keys: how the rows lie in it.
        meters: the meter of each namespace, by number; others may join later.
        size: what a namespace holds now, by number.
        interval_s: how often the meters are looked at.

    Thread-safety: threads may share it.
    """

    def __init__(
        self,
        store: Store,
        keys: RowKeys,
        meters: Mapping[int, Meter],
        size: Callable[[int], GroupSize],
        interval_s: float = INTERVAL_S,
    ) -> None:
        self._stopping = Flag()  # first: __del__ sets it
        self._store, self._keys, self._meters, self._size = store, keys, meters, size
        self._interval_s = interval_s
        self.is_forked = False  # begin() is to be called again, in a child process
        self._written: dict[int, Counts] = {}
        self._name, self._writes = secrets.token_hex(6), 0
        # The write that may be in the store: of which row, its number, and the counts it ends at.
        self._begun: tuple[bytes, int, int, Counts] | None = None
        self._lock = OwnedLock()
        self._thread: threading.Thread | None = None
        # By itself: namespaces keep the ledger, also when nobody keeps their database.
        fork_watch(self, Ledger.after_fork)
        exit_watch(self, Ledger.stop)

    def begin(self) -> None:
        """Write counts down from now on, in the background."""
        self.is_forked = False
        if self._store._parts.is_read_only:
            return
        with self._lock.held():
            is_running = self._thread is not None and self._thread.is_alive()
            if not is_running and not self._stopping.is_set():
                thread = threading.Thread(
                    target=_look_now_and_then,
                    args=(weakref.ref(self), self._stopping, self._interval_s),
                    name="kvengine-metering",
                    daemon=True,
                )
                self._thread = thread
                with contextlib.suppress(RuntimeError):  # the program ends: stop() writes it down
                    thread.start()

    def begins_with(self, title_of: Callable[[str], str]) -> Callable[[str], str]:
        """Return `title_of`, as something that lets the ledger begin in a child process, too.

        A namespace calls it at its first use there, and after changes of other processes.
        """

        def begin_and_look(namespace_id: str) -> str:
            if self.is_forked:
                self.begin()
            return title_of(namespace_id)

        return begin_and_look

    def after_fork(self) -> None:
        """In a child process: what was counted before, its parent writes down."""
        self._lock.after_fork_in_child()
        self._thread, self._stopping, self.is_forked = None, Flag(), True
        self._name, self._begun = secrets.token_hex(6), None
        self._written = {number: Counts.of(meter) for number, meter in self._meters.items()}

    def stop(self) -> None:
        """Write down what was counted, and end."""
        self._stopping.set()
        thread = self._thread
        if thread is not None and thread.is_alive() and thread is not threading.current_thread():
            thread.join()
        if not self._store._parts.is_read_only and not self._store.closed:
            with contextlib.suppress(KvError, OSError):  # counts must not keep a store open
                self.write_down()

    def __del__(self) -> None:
        if "_stopping" in self.__dict__:  # else its making was interrupted
            self._stopping.set()

    def write_down(self) -> bool:
        """Add what was counted since the last time to the rows of today; True if anything was."""
        if self._lock.is_mine():  # in a finalizer: what this interrupted does it
            return False
        with self._lock.held():
            self._settle()
            day, added = self.today(), False
            for number, meter in list(self._meters.items()):
                now = Counts.of(meter)
                delta = now - self._written.get(number, Counts())
                if delta:
                    self._add(number, self._keys.key(number, day), now, delta)
                    added = True
            return added

    def _add(self, number: int, key: bytes, now: Counts, delta: Counts) -> None:
        """Add counts to a row, whatever other processes do to it."""
        while True:
            entry = self._store.get_entry(key)
            row = Row(Counts(), 0, 0) if entry is None else decode(key, entry.value)
            size = self._size(number)
            self._writes += 1
            last = {name: row.last[name] for name in row.last if name != self._name}
            last = dict([*last.items(), (self._name, self._writes)][-LAST_MAX:])
            new = Row(row.counts + delta, size.keys, size.bytes, last)
            self._begun = key, self._writes, number, now
            version = 0 if entry is None else entry.version
            try:
                self._store.put(key, new.encode(), if_version=version, durability="os")
            except VersionConflict:
                continue
            self._written[number], self._begun = now, None
            return

    def _settle(self) -> None:
        """Take note of a write that was interrupted."""
        if self._begun is not None:
            key, write, number, counts = self._begun
            data = self._store.get(key)
            if data is not None and decode(key, data).last.get(self._name, 0) >= write:
                self._written[number] = counts
            self._begun = None

    def today(self) -> int:
        """Return the day since 1970, UTC."""
        return math.floor(self._store._parts.options.clock.time() / DAY_S)

    def pending(self, number: int) -> Counts:
        """Return what was counted and is not written down yet."""
        meter = self._meters.get(number)
        if meter is None:
            return Counts()
        return Counts.of(meter) - self._written.get(number, Counts())

    def numbers(self) -> set[int]:
        """Return the numbers of all namespaces of which anything was used, ever."""
        return {number for number, _, _ in self.rows()} | set(self._meters)

    def rows(self) -> Iterator[tuple[int, int, Row]]:
        """Yield (number, day, row) of what is written down."""
        for entry in self._store.scan(self._keys.prefix):
            yield *self._keys.parts(entry.key), decode(entry.key, entry.value)


def _look_now_and_then(ledger: weakref.ref[Ledger], stopping: Flag, interval_s: float) -> None:
    while not stopping.wait(interval_s):
        held: Any = ledger()
        if held is None:
            return
        try:
            held.write_down()
        except (KvError, OSError):
            if held._store.closed:
                return  # else: a full disk, for example; it is tried again
        del held
