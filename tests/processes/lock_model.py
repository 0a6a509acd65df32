"""The state of the model of the write lock: what processes share, and what a crash leaves of it.

The protocol itself, step by step, is in lock_steps.py and lock_jobs.py, and the
search through all states in lock_search.py.

Invariants of the model's states:

* `history` is what somebody may have seen: which put each version came from, by version.
* A file's bytes that were synced, and names at the time of a sync of the folder, outlive a power
  cut; of the others any prefix of a file does, and each name or not.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import product, zip_longest
from typing import NamedTuple

FREE, HELD, DEAD = "free", "held", "dead"  # the write lock: a robust mutex
ANY = 1 << 30  # above all ids and versions
TORN = -1  # the version of a record of which only a part is there


class Wrong(Exception):
    """A state in which the protocol does not keep what it promises."""


class Record(NamedTuple):
    """A change in the log; `more`: the next record belongs to the same put."""

    version: int
    put: int
    more: bool = False


class Segment(NamedTuple):
    """A file of the log, or one that compaction made."""

    id: int
    first: int = 0  # 0: made ahead, without a header
    records: tuple[Record, ...] = ()
    synced: int = 0  # 0: nothing; else the header and so many records less one
    is_named: bool = False  # the name is on disk
    is_removed: bool = False  # but the name may still be on disk
    is_log: bool = True

    def on_disk(self) -> Segment:
        """Return the segment after an fdatasync."""
        return self._replace(synced=1 + len(self.records) if self.first else 0)


class Row(NamedTuple):
    """A segment as a manifest names it; `last` is 0 while it is written to."""

    id: int
    first: int
    last: int


class Manifest(NamedTuple):
    """Which segments make up the store; those of the log with ids from `next_id` on belong too."""

    generation: int
    next_id: int
    rows: tuple[Row, ...]


class Page(NamedTuple):
    """The words of the control page."""

    write_lock: str = FREE
    writing: bool = False
    version: int = 0
    begun: int = 0
    taken_over: int = 0  # a segment that was begun because one who wrote was killed
    min_segment: int = 1
    generation: int = 1
    next_id: int = 1
    lease: int = 0
    tokens: int = 0
    durable: int = 0


class Process(NamedTuple):
    """One process: where it is, and what it remembers."""

    step: str = "idle"
    has_write_lock: bool = False
    put: int = 0
    version: int = 0
    ahead: int = 0  # the segment that it made ahead
    token: int = 0
    is_heir: bool = False  # takes over from one who was killed
    known: Manifest | None = None  # only for one mistake
    built: Manifest | None = None  # what its job began with
    draft: Manifest | None = None
    input: int = 0  # the segment that its job replaces
    output: int = 0
    next_id: int = 0  # of its new manifest
    begun: int = 0  # the newest segment in it
    seen: int = 0


class State(NamedTuple):
    """Everything, and what is left to happen."""

    page: Page
    files: tuple[Segment, ...]
    manifests: tuple[Manifest, ...]  # the one surely on disk, then each that was renamed since
    processes: tuple[Process, ...]
    history: tuple[int, ...] = ()
    durable: int = 0  # the newest version that was acknowledged as durable
    finished: tuple[int, ...] = ()  # the segments that a job has replaced
    started: int = 0  # puts
    kills: int = 0
    cuts: int = 0
    jobs: int = 0
    steals: int = 0


def file_of(files: tuple[Segment, ...], wanted: int) -> Segment | None:
    """Return the segment with an id."""
    return next((file for file in files if file.id == wanted and not file.is_removed), None)


def replaced(files: tuple[Segment, ...], new: Segment) -> tuple[Segment, ...]:
    """Return the files with one changed or added."""
    return tuple(sorted([*(file for file in files if file.id != new.id), new]))


# -- reading


def chain_of(files: tuple[Segment, ...], manifest: Manifest, until: int = ANY) -> list[Segment]:
    """Return the segments in which the log goes on behind a manifest, in order.

    Of two that begin with the same version, the one with the higher id counts: the other one's
    writer died before it had written to it.
    """
    later = [
        file
        for file in files
        if manifest.next_id <= file.id <= until and file.first and file.is_log
    ]
    return [
        file
        for file, after in zip_longest(later, later[1:])
        if after is None or file.first < after.first
    ]


def read_log(
    files: tuple[Segment, ...], manifest: Manifest, until: int = ANY
) -> tuple[list[int], list[Row]]:
    """Return the put of each version that the files have, and the segments that have them.

    A segment of the log counts up to the version before the first of the next one.

    Raises:
        Wrong: what the manifest says is not there.
    """
    log: list[int] = []
    rows: list[Row] = []
    pieces = []
    for row in manifest.rows:
        file = next((file for file in files if file.id == row.id), None)
        if file is None or not file.first:
            raise Wrong(f"the manifest names segment {row.id}, which is not there")
        pieces.append((file, row.last))
    pieces += [(file, 0) for file in chain_of(files, manifest, until)]
    for number, (file, last) in enumerate(pieces):
        follower = pieces[number + 1][0] if number + 1 < len(pieces) else None
        end = last or (follower.first - 1 if follower else ANY)
        if end < file.first:
            continue  # never written to
        if file.first != len(log) + 1:
            break  # what came before is lost
        _read_segment(file, end, log)
        rows.append(Row(file.id, file.first, len(log)))
        if last and len(log) < last:
            raise Wrong(f"segment {file.id} ends before version {last}, as the manifest has it")
        if follower and len(log) < end:
            break
    return log, rows


def _read_segment(file: Segment, end: int, log: list[int]) -> None:
    """Add the changes of a segment up to a version, and no part of a put."""
    whole = len(log)
    for record in file.records:
        if record.version != len(log) + 1 or record.version > end:
            break
        log.append(record.put)
        if not record.more:
            whole = len(log)
    del log[whole:]


# -- a power cut


@cache
def left_by_cut(
    files: tuple[Segment, ...], manifests: tuple[Manifest, ...]
) -> frozenset[tuple[tuple[int, ...], tuple[Segment, ...], Manifest]]:
    """Return what recovery may find after a power cut: log, files and manifest, each once.

    Raises:
        Wrong: recovery finds damage.
    """
    found = set()
    for manifest in manifests:
        for left in product(*(list(_left_of(file)) for file in files)):
            there = tuple(file for file in left if file is not None)
            log, rows = read_log(there, manifest)
            found.add((tuple(log), *recovered(there, manifest, rows)))
    return frozenset(found)


def _left_of(file: Segment) -> Iterator[Segment | None]:
    """Yield what may be left of a file."""
    if file.is_removed or not file.is_named:
        yield None
    for count in range(file.synced, 2 + len(file.records) if file.first else 1):
        if count == 0:
            yield Segment(file.id, is_log=file.is_log)
        else:
            yield file._replace(records=file.records[: count - 1], is_removed=False)


def recovered(
    files: tuple[Segment, ...], manifest: Manifest, rows: list[Row]
) -> tuple[tuple[Segment, ...], Manifest]:
    """Return the files and the manifest as recovery leaves them: whole, named and on disk."""
    kept, named = [], []
    for row in rows:
        file = next(file for file in files if file.id == row.id)
        records = tuple(record for record in file.records if 0 < record.version <= row.last)
        if records:
            kept.append(file._replace(records=records, is_named=True).on_disk())
            named.append(row)
    next_id = max([manifest.next_id, *(file.id + 1 for file in files)])
    return tuple(sorted(kept)), Manifest(manifest.generation + 1, next_id, tuple(named))


def check_recovered(log: tuple[int, ...], history: tuple[int, ...], durable: int) -> None:
    """See that a recovered log is a prefix of what was seen, with at most one more put at its end.

    That put is one whose writer was killed, or had not published it yet.

    Raises:
        Wrong: it is not.
    """
    if len(log) < durable:
        raise Wrong(f"version {durable} was durable, and only {len(log)} are left")
    same = 0
    while same < min(len(log), len(history)) and log[same] == history[same]:
        same += 1
    if same < durable:
        raise Wrong(f"version {same + 1} was durable, and is another one now")
    more = set(log[same:])
    if len(more) > 1 or more & set(history):
        raise Wrong(f"{log} was never a state of the store: {history}")
