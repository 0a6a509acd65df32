"""Carries out what compaction.choose() decided, without stopping readers or writers.

Invariants:

* New segments are on disk before the manifest names them, and old ones are removed after the
  manifest no longer does.  A crash in between leaves files that the next open removes.
* A delete is dropped only if no older record of its key is left in the log, every saved index
  knows of it, and no follower of the log still needs it.
* If anything fails, the old segments stay and nothing has changed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from kvengine.engine.following.positions import oldest_held
from kvengine.engine.jobs.compaction import Plan, SegmentInfo, choose
from kvengine.engine.jobs.copying import Copier
from kvengine.engine.log import segment_file
from kvengine.engine.log.log_walk import LogWalk
from kvengine.engine.log.manifest import COMPACTED, LOG, SegmentRow
from kvengine.engine.parts import StoreParts
from kvengine.errors import CorruptData
from kvengine.file.mapped import MappedFile
from kvengine.options import VERSION_LIMIT

Progress = Callable[[int, int], None]


@dataclass(slots=True)
class Output:
    """A segment that is being written by a compaction."""

    id: int
    file: MappedFile
    salt: int
    first_version: int
    end: int = segment_file.HEADER_BYTES
    last_version: int = 0


@dataclass(slots=True)
class Job:
    """One compaction under way."""

    store: StoreParts
    plan: Plan
    copier: Copier
    outputs: list[Output] = field(default_factory=list)


def plan_next(store: StoreParts) -> Plan | None:
    """Ask choose() what is worth doing now."""
    return choose(
        segment_infos(store),
        space_target=store.options.space_target,
        segment_bytes=store.options.segment_bytes,
        forgettable_version=forgettable_version(store),
    )


def plan_everything(store: StoreParts) -> Plan | None:
    """Return a plan for all closed segments, or None if nothing in them is dead."""
    infos = [info for info in segment_infos(store) if info.sealed]
    if all(info.live_bytes == info.log_bytes for info in infos) and len(infos) < 2:
        return None
    return Plan(tuple(info.id for info in infos), False, True, "asked for")


def plans_on_a_full_disk(store: StoreParts) -> list[Plan]:
    """Return a plan for each closed segment with dead records, the smallest outcome first."""
    found = []
    for info in segment_infos(store):
        kept = info.live_bytes + info.tombstone_bytes
        if info.sealed and info.dead_bytes > 0:
            found.append((kept, Plan((info.id,), kept == 0, False, "the disk is full")))
    return [plan for _, plan in sorted(found, key=lambda pair: pair[0])]


def segment_infos(store: StoreParts) -> list[SegmentInfo]:
    """Describe the segments for choose()."""
    infos = []
    now = store.options.clock.time()
    for row in store.rows:
        _, end, live, tombstones, _ = store.segment_table.counters(row.id)
        infos.append(
            SegmentInfo(
                id=row.id,
                log_bytes=end - segment_file.HEADER_BYTES,
                live_bytes=live - store.segment_table.expired_bytes(row.id, now),
                tombstone_bytes=tombstones,
                first_version=row.first_version,
                last_version=row.last_version if row.last_version is not None else VERSION_LIMIT,
                sealed=row.size_bytes is not None,
            )
        )
    return infos


def forgettable_version(store: StoreParts) -> int:
    """Deletes up to this version are known to the saved index and to every consumer."""
    needed = store.options.oldest_needed
    known = min(store.saved_version, oldest_held(store))
    return known if needed is None else min(known, needed())


def compact(store: StoreParts, plan: Plan, progress: Progress | None = None) -> int:
    """Carry out a plan, as a job; return the bytes that it gave back.

    Raises:
        CorruptData: a record that had to be copied is damaged; nothing was changed.
        StorageFull: there is no room for the new segments; nothing was changed.
    """
    copier = Copier(
        store,
        now=store.options.clock.time(),
        keep_after=forgettable_version(store),
        drop_deletes=plan.drop_tombstones,
    )
    job = Job(store, plan, copier)
    rows = [row for row in store.rows if row.id in set(plan.ids)]
    before = sum(row.size_bytes or 0 for row in rows)
    try:
        table = store.segment_table
        if not plan.drop_only or any(
            table.counters(row.id)[2] or table.is_restored(row.id) for row in rows
        ):
            _copy_all(job, rows, progress)
        _swap(job, rows, _close_outputs(job))
    finally:
        _undo_unless_done(job)
        store.remove_loose()
    return before - sum(output.end for output in job.outputs)


def _copy_all(job: Job, rows: list[SegmentRow], progress: Progress | None) -> None:
    done, total = 0, sum((row.size_bytes or 0) - segment_file.HEADER_BYTES for row in rows)
    began = time.monotonic()
    limit = job.store.options.compaction_bytes_per_s
    for row in rows:
        offset = segment_file.HEADER_BYTES
        assert row.size_bytes is not None
        live = job.store.segment_table.counters(row.id)[2]
        job.copier.begin(row.first_version, has_marked_gaps=row.kind == LOG)
        while offset < row.size_bytes:
            job.store.maintenance.check()
            output = _current_output(job, row.first_version)
            before = offset
            offset, output.end = job.copier.copy(
                row.id, offset, output.file, len(job.outputs) - 1, output.salt, output.end
            )
            output.last_version = job.copier.last_version
            done += offset - before
            if progress is not None:
                progress(done, total)
            if limit and job.store.is_compacting_in_background:
                ahead = done / limit - (time.monotonic() - began)
                job.store.maintenance.rest(min(ahead, 1.0))
        _compare_live(job, row, live)
        _refuse_hidden(job, row)


def _compare_live(job: Job, row: SegmentRow, before: int) -> None:
    """Refuse to drop records that the index does not point to and the counters say it does.

    A saved index may have right checksums and still not be that of the log.  Records die while they
    are copied, none comes to life.
    """
    after = job.store.segment_table.counters(row.id)[2]
    if not after <= job.copier.living <= before:
        raise CorruptData(
            "bytes of living records (open with rebuild=True to rebuild the index from the log)",
            file=segment_file.file_name(row.id),
            offset=0,
            expected=f"{after} to {before}",
            found=job.copier.living,
        )


def _refuse_hidden(job: Job, row: SegmentRow) -> None:
    """Refuse to drop records that the last one takes in, which then reaches up to the end.

    In a compacted segment the last records may be missing, and 0.1 could note a last version that
    is too high, so only a whole record is a sign.
    """
    table, found = job.store.segment_table, job.copier.last_version
    if found == row.last_version:
        return
    file, end = table.segment_file(row.id), table.counters(row.id)[1]
    walk = LogWalk(file, table.salt(row.id), job.copier.last_offset, end)
    if walk.find_next():
        raise CorruptData(
            "version of the last record",
            file=file.name,
            offset=job.copier.last_offset,
            expected=row.last_version,
            found=found,
        )


def _current_output(job: Job, first_version: int) -> Output:
    """Return the output to copy to, a new one if the last is full."""
    store = job.store
    if job.outputs and job.outputs[-1].end < store.options.segment_bytes:
        return job.outputs[-1]
    if job.outputs:
        first_version = job.outputs[-1].last_version + 1
    segment_id = store.take_id()
    store.loose.add(segment_file.file_name(segment_id))
    file, salt = segment_file.create(
        store.directory, segment_id, COMPACTED, store.manifest.uuid, first_version
    )
    job.outputs.append(Output(segment_id, file, salt, first_version))
    return job.outputs[-1]


def _close_outputs(job: Job) -> list[SegmentRow]:
    """Bring the outputs to disk and describe them; an empty one is left out."""
    new_rows = []
    for output in job.outputs:
        if output.end > segment_file.HEADER_BYTES:
            output.file.shorten(output.end)
            output.file.flush()
            new_rows.append(
                SegmentRow(
                    output.id, COMPACTED, output.first_version, output.last_version, output.end
                )
            )
    return new_rows


def _swap(job: Job, rows: list[SegmentRow], new_rows: list[SegmentRow]) -> None:
    """Put the new segments in the place of the old ones: on disk, in the index, in the folder.

    The old ones stay listed until the index points to none of them any more, so that however far
    this comes, every address is of a segment that is listed.
    """
    store, table = job.store, job.store.segment_table
    forgotten = max(store.manifest.forgotten, job.copier.forgotten)
    for row in rows:
        if job.plan.drop_only and table.counters(row.id)[3]:
            forgotten = max(forgotten, row.last_version or 0)
    new_ids = {row.id for row in new_rows}
    slots = [
        table.append(o.file, o.id, o.salt, o.end, False) if o.id in new_ids else 0
        for o in job.outputs
    ]
    store.commits.sync()  # what made a record dead must be on disk before the record goes

    def finish() -> None:
        """May be called again after it was interrupted: each step is done once."""
        while not job.copier.publish(slots):
            pass
        store.swap_rows(rows, new_rows)
        for row in rows:
            if table.knows(row.id):
                store.loose.add(segment_file.file_name(row.id))
                store.retired_slots.append(table.retire(row.id))
        for output in job.outputs:
            output.file.close_descriptor()

    store.replace_manifest(finish, (rows, new_rows), forgotten=forgotten)


def _undo_unless_done(job: Job) -> None:
    """Give the slots of outputs back, unless the manifest names them, or may come to do so."""
    store = job.store
    if store.unfinished is None:
        named = {row.id for row in store.manifest.segments}
        for output in job.outputs:
            if output.id not in named and store.segment_table.knows(output.id):
                store.segment_table.recycle([store.segment_table.retire(output.id)])
