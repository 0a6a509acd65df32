"""Store: a durable mapping of bytes to bytes, with a log of its changes.

Invariants:

* One process writes to a store; any number of others may read it and follow the writer.
* Background work (closing segments, key runs, compaction, saving the index) is done by one job at
  a time, under the job lock; it never holds the writer's lock for longer than a moment.
* After close(), or in a process forked after the store was opened, every call raises StoreClosed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from typing import Any, Self

from kvengine.engine import backup, checkpoint, compactor, maintenance, opening, segment_file, tail
from kvengine.engine import verifying
from kvengine.engine.changing import Batch, Changer
from kvengine.engine.follower import Follower
from kvengine.engine.manifest import LOG, Manifest, SegmentRow
from kvengine.engine.key_order import choose_merge
from kvengine.engine.scan import entries_chunk, keys_chunk, living
from kvengine.engine.scanning import EVERYTHING, Keys, chunks, scan_arguments
from kvengine.entry import Change, Entry, Stats, VerifyReport
from kvengine.errors import InvalidRequest
from kvengine.file.directory import Directory
from kvengine.file.local import LocalDirectory
from kvengine.file.memory import MemoryDirectory
from kvengine.options import Options

Progress = Callable[[int, int], None]


class Store(Changer, MutableMapping[bytes, bytes]):
    """A store in a folder.

    Args:
        path: the folder; made if it does not exist.
        durability: how far a write has got when the call returns: "group" (on disk; threads that
            wait at the same time share one sync), "sync" (on disk by a sync of its own),
            "interval" (on disk within `sync_interval_s`), "os" (safe from the death of the
            process, not of the machine).
        read_only: do not write; works beside a writer in another process and follows it.
        options: see kvengine.options.Options.

    Raises:
        StoreLocked: another process has the store open for writing.
        NotAStore: the path is a file or a folder with other things in it.
        CorruptData: the store is damaged; see kvengine.salvage.

    Thread-safety: threads may share a store; writes are done one at a time.
    """

    def __init__(self, path: Any, *, durability: Any = "group", read_only: bool = False,
                 **options: Any) -> None:
        settings = opening.make_options(durability=durability, read_only=read_only, **options)
        folder = opening.folder_path(path)
        self._start(
            LocalDirectory(
                folder, create=settings.create and not read_only, read_only=read_only
            ),
            settings,
        )

    @classmethod
    def in_memory(cls, **options: Any) -> Self:
        """Return a new store that leaves nothing on disk; for tests and caches."""
        settings = opening.make_options(**{"durability": "os", **options})
        store = cls.__new__(cls)
        store._start(MemoryDirectory(), settings)
        return store

    @classmethod
    def in_directory(cls, directory: Directory, **options: Any) -> Self:
        """Open a store in a directory object; tests use it to record and to fail file calls."""
        store = cls.__new__(cls)
        store._start(directory, opening.make_options(**options))
        return store

    def _start(self, directory: Directory, options: Options) -> None:
        self.directory, self.options = directory, options
        self.jobs = threading.RLock()  # one background job at a time
        self.rows: list[SegmentRow] = []  # the segments, in the order of their versions
        self.manifest: Manifest
        self.retired_slots: list[int] = []  # of segments that a saved index still mentions
        self.saved_version = 0  # of the saved index
        self.saved_appended = 0  # commits.appended when it was saved
        self.next_id = 1
        self.is_compacting_in_background = False
        self.maintenance = maintenance.Maintenance(self)
        self.follower: Follower | None = None
        opening.open_store(self)

    # -- scans

    def keys(self, prefix: Any = b"", *, start_after: Any = None, limit: int | None = None,
             reverse: bool = False) -> Any:
        """Return an iterator of the living keys with a prefix, in byte order.

        Without arguments it is also a view, as of a dict: len(), `in`, set operations.

        Args:
            prefix: only keys that begin with it.
            start_after: only keys behind this one, in the direction of the scan.
            limit: at most so many.
            reverse: from the last to the first.
        """
        self.check_usable()
        arguments = scan_arguments(prefix, start_after, limit, reverse)
        if arguments == EVERYTHING:
            return Keys(self)
        return chunks(self, keys_chunk, arguments)

    def scan(self, prefix: Any = b"", *, start_after: Any = None, limit: int | None = None,
             reverse: bool = False) -> Iterator[Entry]:
        """Return the entries of the living keys with a prefix, in byte order; see keys()."""
        self.check_usable()
        arguments = scan_arguments(prefix, start_after, limit, reverse)
        return chunks(self, entries_chunk, arguments)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.keys())

    def __len__(self) -> int:
        self.check_usable()
        if self.segment_table.total_expiring_bytes():
            return sum(1 for _ in self.keys())
        return self.key_index.count

    def __bool__(self) -> bool:
        return next(iter(self.keys(limit=1)), None) is not None

    def __repr__(self) -> str:
        state = "closed" if self.closed else "read-only" if self.options.read_only else "open"
        return f"<kvengine.Store {self.directory.path!r} {state}>"

    # -- changes

    def batch(self, durability: Any = None) -> Batch:
        """Return an empty batch; as a context manager it commits on a clean exit."""
        self.check_usable()
        return Batch(self, durability)

    def update(self, other: Any = (), /, **more: Any) -> None:
        """Put many pairs, in batches of a few thousand."""
        pairs: Iterable[Any] = other.items() if hasattr(other, "items") else other
        if not hasattr(other, "items") and hasattr(other, "keys"):
            pairs = ((key, other[key]) for key in other.keys())  # noqa: SIM118
        batch = Batch(self, None)
        for key, value in pairs:
            batch.put(key, value)
            if len(batch) >= 4096 or batch.size_bytes >= 16 << 20:
                batch.commit()
        for name, value in more.items():
            batch.put(name, value)  # type: ignore[arg-type]  # a str key is refused in there
        batch.commit()

    def clear(self) -> None:
        """Delete every key, in batches."""
        batch = Batch(self, None)
        for key in self.keys():
            batch.delete(key)
            if len(batch) >= 4096:
                batch.commit()
        batch.commit()

    def sync(self) -> None:
        """Return when everything written so far is on disk."""
        self.check_usable()
        if self.commits is not None:
            self.commits.sync()

    # -- the log

    def tail(self, after: int = 0, *, follow: bool = False) -> Iterator[Change]:
        """Yield the changes with versions above `after`, in order, up to now.

        Where the log has been compacted only the newest change of each key is left, so
        tail(0) is a snapshot of the store and tail(version) what is new since.

        Raises:
            ChangesGone: deletes after `after` have been forgotten; start again from 0.
        """
        self.check_usable()
        if follow:
            raise InvalidRequest("follow=True comes with replication; call tail(after) again")
        if isinstance(after, bool) or not isinstance(after, int) or after < 0:
            raise InvalidRequest(f"after must be a version, not {after!r}")
        return tail.changes(self, after)

    # -- maintenance

    def compact(self, progress: Progress | None = None) -> int:
        """Give back the space of dead records now; return how many bytes that were."""
        self._check_writable()
        return maintenance.compact_fully(self, progress)

    def checkpoint(self) -> None:
        """Save the index now, so that the next open has nothing to replay."""
        self._check_writable()
        with self.jobs:
            maintenance.close_filled_segments(self)
            checkpoint.write_checkpoint(self)

    def verify(self, progress: Progress | None = None) -> VerifyReport:
        """Read every byte of the store and compare it with its checksum."""
        self.check_usable()
        return verifying.verify_open(self, progress)

    def backup(self, target: Any, progress: Progress | None = None) -> int:
        """Make a consistent copy in a new folder while the store is in use.

        Closed files are hard links where the file system allows it.  Returns the version up to
        which the copy goes.
        """
        self.check_usable()
        return backup.backup(self, target, progress)

    def stats(self) -> Stats:
        """Return figures about the store."""
        self.check_usable()
        return maintenance.stats(self)

    @property
    def path(self) -> str:
        """The folder of the store."""
        return self.directory.path

    @property
    def closed(self) -> bool:
        """True after close()."""
        return self.is_refused

    def close(self) -> None:
        """Write down what is needed for a quick open, and give everything back."""
        opening.close_store(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "follower", None) is not None or hasattr(self, "maintenance"):
            opening.abandon(self)

    # -- for the parts of the engine

    def _check_writable(self) -> None:
        self.check_usable()
        if self.refusal is not None:
            raise self.refusal

    def _follow(self) -> None:
        if self.follower is not None:
            self.follower.catch_up()

    def _next_segment(self) -> None:
        """Begin a new segment; called by the writer, under its lock."""
        segment_id = self.take_id()
        file, salt = segment_file.create(
            self.directory, segment_id, LOG, self.manifest.uuid, self.applied_version + 1
        )
        self.segment_table.append(file, segment_id, salt, segment_file.HEADER_BYTES, True)
        if self.has_open_segment:
            self.rows[-1] = self.rows[-1].ended(self.applied_version)
        self.rows.append(SegmentRow(segment_id, LOG, self.applied_version + 1))
        self.commits.switch(file)
        self.activate(segment_id)
        if len(self.rows) > 1:
            self.maintenance.wake()

    def _has_grown(self) -> None:
        """The log takes more disk; called by the writer when it allocates some."""
        if maintenance.is_due(self):
            self.maintenance.wake()
            maintenance.pace(self)

    def take_id(self) -> int:
        """Return a number that no file of this store had before."""
        self.next_id += 1
        return self.next_id - 1

    def swap_rows(self, old: list[SegmentRow], new: list[SegmentRow]) -> None:
        """Put other segments in the place of neighboring ones."""
        ids = {row.id for row in old}

        def swap() -> None:
            position = next((i for i, row in enumerate(self.rows) if row.id in ids), 0)
            kept = [row for row in self.rows if row.id not in ids]
            self.rows = kept[:position] + new + kept[position:]

        self.exclusively(swap)

    def replace_manifest(self, **changes: Any) -> None:
        """Write a new manifest; the caller holds the job lock.

        First everything that it refers to is brought to disk, names and all: other files refer
        to records, and after a power cut none of it may be there without the rest.
        """
        rows = tuple(self.rows)
        named = {row.id for row in self.manifest.segments}
        begun = any(row.size_bytes is None and row.id not in named for row in rows)
        self.commits.sync(always=begun)
        self.directory.sync()
        newest = max((row.id for row in rows), default=0)
        manifest = self.manifest.next(
            segments=rows,
            next_id=max(newest + 1, self.manifest.next_id),
            **changes,
        )
        data = manifest.encode()
        try:
            self.directory.replace("MANIFEST", data, durable=True)
        except OSError as error:
            if not self._is_manifest(data):
                raise
            # It is in place, but after a power cut the old one may be back.
            self.commits.fail(error)
        self.manifest = manifest
        if self.control_page is not None:
            self.control_page.generation = manifest.generation

    def _is_manifest(self, data: bytes) -> bool:
        """True if these bytes are the manifest in the folder, or might be."""
        try:
            return self.directory.read("MANIFEST") == data
        except OSError:
            return True

    def remove_file(self, name: str) -> None:
        """Remove a file that the manifest does not name any more, if the manifest is on disk."""
        if self.commits.failure is None:
            self.directory.remove(name)

    def as_of_now(self) -> tuple[list[SegmentRow], dict[int, int], int]:
        """Return the segments, how far each goes, and the version, all as of one moment."""

        def look() -> tuple[list[SegmentRow], dict[int, int], int]:
            ends = {row.id: self.segment_table.counters(row.id)[1] for row in self.rows}
            return list(self.rows), ends, self.applied_version

        return look() if self.options.read_only else self.exclusively(look)

    def end_active_segment(self) -> None:
        """Go on in a new segment, so that the present one can be compacted."""

        def end() -> None:
            if self.has_open_segment:
                _, size, _, _, _ = self.segment_table.counters(self.rows[-1].id)
                if size > segment_file.HEADER_BYTES:
                    self._next_segment()

        self.exclusively(end)

    @property
    def has_open_segment(self) -> bool:
        """True if the last segment is being written."""
        return bool(self.rows) and self.rows[-1].last_version is None

    # -- key order

    def flush_keys(self) -> None:
        """Write new keys to a run when there are enough, and merge runs that became many."""
        if self.key_order.is_full():
            self.exclusively(lambda: self.key_order.freeze(self.removals))
        if self.key_order.has_frozen():
            runs = self.write_key_run()
            self.replace_manifest(key_runs=runs)
        self.merge_keys()

    def write_key_run(self) -> tuple[str, ...]:
        """Write frozen key buffers to a run; return the names of all runs."""
        if self.key_order.has_frozen():
            run_id = self.take_id()
            self.key_order.write_frozen(
                self.directory, f"{run_id:08x}.keys", self.next_id, self.manifest.uuid
            )
        return tuple(self.key_order.run_names())

    def merge_keys(self, everything: bool = False) -> None:
        """Merge key runs that became many; with `everything` all, leaving out dead keys."""
        while True:
            counts = self.key_order.counts()
            span = (0, len(counts)) if everything else choose_merge(counts)
            if span is None or not counts:
                return
            sure = self.key_order.newest_mark() == self.removals
            gone = self.key_order.merge(
                self.directory,
                f"{self.take_id():08x}.keys",
                *span,
                self.next_id,
                self.removals,
                self.manifest.uuid,
                None if sure else living(self),
            )
            self.replace_manifest(key_runs=tuple(self.key_order.run_names()))
            for name in gone:
                self.remove_file(name)
            if everything:
                return

    def reload(self) -> None:
        """A reader starts over from the newest files."""
        opening.reload(self)
