"""Salvage: copies every intact record of a damaged store to a new one.

Invariants:

* The damaged store is only read.
* The new store gets its manifest last, so an interrupted salvage leaves no store.
* Records are copied in the order of their versions, so the newest intact one of each key wins.  If
  the newest record of a key is damaged, an older value comes back if one is left: the report says
  where bytes were lost.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from kvengine.clock import SystemClock
from kvengine.engine import opening
from kvengine.engine.log import manifest as manifests
from kvengine.engine.log import segment_file
from kvengine.engine.log.log_walk import LogWalk
from kvengine.engine.log.names import MANIFEST_NAME, is_segment
from kvengine.engine.log.record import damage
from kvengine.engine.log.segment import bytes_at
from kvengine.engine.store import Store
from kvengine.entry import Change, SalvageReport
from kvengine.errors import CorruptData, InvalidRequest, KvError, NotAStore
from kvengine.file.directory import Directory, Rename
from kvengine.file.local import LocalDirectory
from kvengine.options import VERSION_LIMIT

Progress = Callable[[int, int], None]
UNFINISHED_NAME = MANIFEST_NAME + ".tmp"
BATCH_CHANGES = 1000


def salvage(source: Any, target: Any, progress: Progress | None = None) -> SalvageReport:
    """Copy every intact record of the store at `source` into a new store at `target`.

    This works without manifest, saved index and key runs; an intact manifest shows what is missing
    at the ends of files.  Records get new versions in the new store.

    Raises:
        NotAStore: there are no segments at `source`.
        InvalidRequest: `target` contains files, such as those of an interrupted salvage.
    """
    directory = LocalDirectory(opening.folder_path(source), create=False)
    try:
        names = sorted(name for name in directory.names() if is_segment(name))
        if not names:
            raise NotAStore(f"{directory.path} holds no segments of a kvengine store")
        _refuse_used_folder(target)
        job = _Salvage(directory, names, progress)
        clock = _FixedClock(SystemClock().time())
        made = _Unfinished(opening.folder_path(target))
        with Store._in_directory(made, durability="os", compaction="manual", clock=clock) as store:
            kept = job.copy_to(store)
            store.sync()
        _finish(target)
        return SalvageReport(kept, tuple(job.lost))
    finally:
        directory.close()


def _closed_sizes(directory: Directory) -> dict[str, int]:
    """Return how long the closed segments must be, as far as the manifest can tell."""
    try:
        manifest = manifests.decode(directory.read(MANIFEST_NAME), MANIFEST_NAME)
    except (FileNotFoundError, KvError):
        return {}
    rows = manifest.segments
    return {segment_file.file_name(row.id): row.size_bytes for row in rows if row.size_bytes}


def _refuse_used_folder(target: Any) -> None:
    """Even opening a store there could change it, and it might be the damaged one."""
    folder = LocalDirectory(opening.folder_path(target), create=True)
    try:
        if folder.names():
            raise InvalidRequest(f"{folder.path} is not empty; salvage needs a new or empty folder")
    finally:
        folder.close()


class _Unfinished(LocalDirectory):
    """The folder of an unfinished store: its manifest has another name, so it can't be opened."""

    def names(self) -> list[str]:
        return [MANIFEST_NAME if name == UNFINISHED_NAME else name for name in super().names()]

    def size(self, name: str) -> int:
        return super().size(_unfinished(name))

    def read(self, name: str) -> bytes:
        return super().read(_unfinished(name))

    def replace(
        self,
        name: str,
        data: bytes,
        *,
        durable: bool = True,
        temporary: str | None = None,
        rename: Rename | None = None,
    ) -> None:
        super().replace(
            _unfinished(name),
            data,
            durable=durable,
            temporary=temporary,
            # Who renames himself knows only the name that the manifest has in the end.
            rename=rename and (lambda act, _, temporary: rename(act, None, temporary)),
        )

    def watch(self, name: str, *, beside: str | None = None) -> None:
        super().watch(_unfinished(name), beside=beside and _unfinished(beside))

    def stamp(self, name: str) -> object:
        return super().stamp(_unfinished(name))


def _unfinished(name: str) -> str:
    return UNFINISHED_NAME if name == MANIFEST_NAME else name


def _finish(target: Any) -> None:
    """All is on disk: let it be a store."""
    folder = LocalDirectory(opening.folder_path(target), create=False)
    try:
        folder.replace(MANIFEST_NAME, folder.read(UNFINISHED_NAME), durable=True)
    finally:
        folder.close()


class _FixedClock:
    """A clock that stands still, so that nothing expires while it is copied."""

    def __init__(self, now: float) -> None:
        self._now = now

    def time(self) -> float:
        return self._now


class _Salvage:
    def __init__(self, directory: Directory, names: list[str], progress: Progress | None) -> None:
        self._directory, self._names, self._progress = directory, names, progress
        self._total = sum(directory.size(name) for name in names)
        self._done = 0
        self._closed = _closed_sizes(directory)
        self.lost: list[CorruptData] = []
        for name in self._closed.keys() - set(names):
            self._lose("segment file", name, 0, f"{self._closed[name]} bytes", "no file")

    def _lose(self, what: str, name: str, offset: int, expected: str, found: str) -> None:
        self.lost.append(
            CorruptData(what, file=name, offset=offset, expected=expected, found=found)
        )

    def copy_to(self, store: Store) -> int:
        """Put the newest intact state of all keys into a store; return how many records."""
        kept = 0
        batch = store.batch()
        now = store._parts.options.clock.time()
        streams = [self._changes(name) for name in self._names]
        for change in heapq.merge(*streams, key=lambda change: change.version):
            expired = change.expires_at is not None and change.expires_at <= now
            if change.kind == "delete" or expired:
                batch.delete(change.key)
            else:
                batch.put(
                    change.key,
                    change.value,
                    metadata=change.metadata,
                    expires_at=change.expires_at,
                )
                kept += 1
            if len(batch) >= BATCH_CHANGES or batch.size_bytes >= 16 << 20:
                batch.commit()
        batch.commit()
        return kept

    def _changes(self, name: str) -> Iterator[Change]:
        """Yield the intact changes of one segment file."""
        file = self._directory.open(name, map_bytes=0)
        data = bytes_at(file, 0, min(segment_file.HEADER_BYTES, file.size_bytes))
        if not any(data) and name not in self._closed:  # just begun
            return
        try:
            header = segment_file.decode(data, name)
        except KvError as error:
            # Without the salt in its header, records can't be recognized.
            what = "segment header, so the whole segment is lost"
            self._lose(what, name, 0, "a header", str(error))
            return
        walks = partial(LogWalk, file, header.salt)
        yield from self._in_order(self._intact(walks, name, file.size_bytes), name)
        closed_size = self._closed.get(name, 0)
        if file.size_bytes < closed_size:
            found = f"{file.size_bytes} bytes"
            self._lose("end of a segment", name, file.size_bytes, f"{closed_size} bytes", found)

    def _in_order(self, changes: Iterator[Change], name: str) -> Iterator[Change]:
        """Leave out a change whose version does not lie between those of its neighbors.

        It would go over at another time than it was made, and hold up all that come after it.
        """
        newest, held = 0, next(changes, None)
        for following in changes:
            assert held is not None
            if newest < held.version and not newest < following.version <= held.version:
                newest = held.version
                yield held
            else:
                self._lose_version(held, name)
            held = following
        if held is not None:
            if newest < held.version:
                yield held
            else:
                self._lose_version(held, name)

    def _lose_version(self, change: Change, name: str) -> None:
        expected = "one that grows from record to record"
        self._lose(f"version of key {change.key!r}", name, 0, expected, str(change.version))

    def _intact(
        self, walks: Callable[[int, int], LogWalk], name: str, end: int
    ) -> Iterator[Change]:
        walk = walks(segment_file.HEADER_BYTES, end)
        last, at, stop = 0, walk.offset, walk.offset
        while walk.offset < end:
            before = walk.offset
            change, code = walk.next_change()
            if change is not None:
                if change.version > last + 1:
                    yield from _hidden(walks(at, before), last, change.version)
                yield change
                last, at, stop = change.version, before, walk.offset
            elif not walk.find_next():
                if code != 0 or name in self._closed:
                    self.lost.append(damage(code or -1, name, before, "other bytes"))
                break
            else:
                self.lost.append(damage(code or -1, name, before, f"damage up to {walk.offset}"))
            self._done += walk.offset - before
            if self._progress is not None:
                self._progress(min(self._done, self._total), self._total)
        yield from _hidden(walks(at, stop), last, VERSION_LIMIT)


def _hidden(walk: LogWalk, after: int, before: int) -> Iterator[Change]:
    """Yield whole records that lie inside another one, whose size can't be what was written."""
    found = walk.find_next()
    while found:
        change, _ = walk.next_change()
        if change is None:
            found = walk.find_next()
        elif after < change.version < before:
            yield change
