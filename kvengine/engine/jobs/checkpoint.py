"""Saving the index, so that the next open is fast.

Invariants:

* The saved index is exactly the index as of one version.  Writes continue meanwhile; a shard that
  is about to change is copied first.
* It becomes part of the store when the manifest names it, after it is on disk.
* Before that, keys up to its version are in key runs, so recovery need not look for them.
* Slots of removed segments are reused only after no saved index mentions them.
* The index is saved as a job, so at most one snapshot of it exists at a time.
"""

from __future__ import annotations

from dataclasses import replace

from kvengine.engine.index import index_file
from kvengine.engine.index.hash import xxh3_64
from kvengine.engine.index.index_file import Description, SavedSegment
from kvengine.engine.parts import StoreParts

SHARDS_A_WRITE = 16  # 1 MiB copied at a time with the GIL held


def save_index(store: StoreParts) -> None:
    """Save the index, however often writers let it grow meanwhile."""
    while not write_checkpoint(store):
        store.maintenance.check()


def write_checkpoint(store: StoreParts) -> bool:
    """Save the index and name it in the manifest; False if it had to be given up for growth."""
    index = store.key_index
    while not index.settle():
        pass
    try:
        begun = store.exclusively(lambda: _begin(store))
        return begun is not None and _save(store, *begun)
    finally:
        index.end_snapshot()
        store.remove_loose()


def _save(
    store: StoreParts, description: Description, shards: int, retired: list[int], taken_in: int
) -> bool:
    index_id = store.take_id()
    name = index_file.file_name(index_id)
    store.loose.add(name)
    size_bytes = _write_file(store, name, index_id, description, shards)
    if size_bytes is None:
        return False
    runs = store.write_key_run()
    store.commits.sync()  # the saved index must not know more than the log on disk
    old = store.manifest.index

    def finish() -> None:
        if old is not None:
            store.loose.add(index_file.file_name(old[0]))
        store.saved_version, store.saved_taken_in = description.version, taken_in
        # Forgotten first: a slot that is given back twice would be two segments'.
        free = [slot for slot in store.retired_slots if slot in retired]
        store.retired_slots = [slot for slot in store.retired_slots if slot not in retired]
        store.segment_table.recycle(free)

    store.replace_manifest(
        finish, index=(index_id, size_bytes), key_runs=runs, version=description.version
    )
    return True


def _begin(store: StoreParts) -> tuple[Description, int, list[int], int] | None:
    """Fix what will be saved, while no thread writes."""
    shards = store.key_index.begin_snapshot()
    if not shards:
        return None
    store.key_order.freeze(store.removals)
    rows = []
    for row in store.rows:
        slot, end, live, tombstones, expiring = store.segment_table.counters(row.id)
        expiries = store.segment_table.expiries(row.id)
        rows.append(SavedSegment(row.id, slot, end, live, tombstones, expiring, *expiries))
    groups = store.groups
    counted = groups is not None and not groups.stale
    description = Description(
        version=store.applied_version,
        count=store.key_index.count,
        removals=store.removals,
        segments=tuple(rows),
        stash=tuple(store.key_index.stashed()),
        groups=store.options.groups if counted else None,
        group_rows=tuple(groups.saved_rows()) if groups is not None and counted else (),
        checksums=(),
    )
    return description, shards, list(store.retired_slots), store.taken_in


def _write_file(
    store: StoreParts, name: str, index_id: int, description: Description, shards: int
) -> int | None:
    """Write the file and sync it; return its size, None if the snapshot was given up."""
    checksums: list[int] = []
    output = store.directory.create(name)
    try:
        for start in range(0, shards, SHARDS_A_WRITE):
            pieces = []
            store.maintenance.check()
            for shard in range(start, min(start + SHARDS_A_WRITE, shards)):
                piece = store.key_index.snapshot(shard)
                if piece is None:
                    return None
                checksums.append(xxh3_64(piece, shard))
                pieces.append(piece)
            output.write(b"".join(pieces))
        meta = replace(description, checksums=checksums).encode()
        output.write(meta)
        offset = shards * index_file.SHARD_BYTES
        check = index_file.seed_check(store.manifest.seed)
        output.write(index_file.trailer(store.manifest.uuid, index_id, offset, meta, check=check))
        output.sync()
        return output.size
    finally:
        output.close()
