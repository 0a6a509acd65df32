"""The demo's hard part: a writer killed in mid-load, recovery, repair of the load, backup.

Invariants:
* the writer has no warning, and nothing is cleaned up after it but by the store itself;
* the recovered store must hold exactly what a prefix of the load, cut between batches, leaves.
"""

import os
import random
import signal
from collections.abc import Sequence
from time import perf_counter

from kvengine import Store
from kvengine.cli.demos.demo_files import SourceFile, Tree, expected_contents, in_pieces
from kvengine.cli.demos.demo_loader import Loader
from kvengine.cli.demos.demo_reads import compare_get, compare_scan
from kvengine.cli.demos.demo_report import Report
from kvengine.cli.formatting import size_text
from kvengine.cli.output import progress_bar

# What the second process writes, one by one.
SECOND_FILES = 50


def kill_writer(report: Report, tree: Tree, path: str) -> Loader:
    """Load in a process that is killed when it has acknowledged about half of the files."""
    # In any order but that of the keys: a prefix of the load is then no prefix of the keys.
    files = list(tree.files)
    random.Random(1).shuffle(files)
    batch_files = max(1, min(8, len(files) // 50))
    loader = Loader(path, tree.root, files, batch_files=batch_files, stay=True)
    with loader, progress_bar("load until half") as progress:
        for position in loader.acknowledgements():
            if progress is not None:
                progress(position, len(files) // 2)
            # Kill it while a batch is on its way; after the last batch none will come.
            if position >= len(files) // 2 and (loader.begun > position or position == len(files)):
                break
        status = loader.kill()
    report.check(
        f"writer process {loader.pid} was killed with SIGKILL", status == -signal.SIGKILL,
        f"it ended with {status}",
    )  # fmt: skip
    report.figure(
        f"acknowledged {loader.done:,} of {len(files):,} files in batches of {batch_files}; "
        f"{loader.begun - loader.done:,} more were being written"
    )
    return loader


def recover(report: Report, loader: Loader) -> Sequence[SourceFile]:
    """Open the store that the killed writer left; return the files that are not in it."""
    started = perf_counter()
    with Store(loader.path) as store:
        store.get(loader.files[0].key)
        report.figure(f"recovered and answered in {1e3 * (perf_counter() - started):.1f} ms")
        acknowledged = loader.loaded(loader.done)
        comparison = compare_get(store, acknowledged)
        comparison.tell(report, "every acknowledged file", len(acknowledged))
        present = set(store.keys())
        position = _position(loader, present)
        report.check(
            f"{len(present):,} files in all: a prefix of the load, cut between batches",
            position is not None,
            f"not what {loader.done:,} or {loader.begun:,} files of the load leave",
        )
        everything = sorted(file for file in loader.files if file.key in present)
        compare_scan(store, everything).tell(report, "scan after recovery", len(everything))
    return [file for file in loader.files if file.key not in present]


def _position(loader: Loader, present: set[bytes]) -> int | None:
    for position in (loader.done, loader.begun):
        if present == {file.key for file in loader.loaded(position)}:
            return position
    return None


def finish_load(report: Report, tree: Tree, path: str, missing: Sequence[SourceFile]) -> None:
    """Load what the killed writer had no time for."""
    with Loader(path, tree.root, missing, batch_files=256) as loader:
        seconds = loader.finish()
        present = len(tree.files) - len(missing) + len(loader.loaded(loader.done))
    report.figure(f"{len(missing):,} files in {seconds:.2f} s")
    with Store(path, read_only=True) as store:
        report.check(f"the store holds {present:,} files", len(store) == present, str(len(store)))


def overwrite(report: Report, tree: Tree, store: Store) -> None:
    """Write every second file again, so that there is something to compact."""
    started = perf_counter()
    count = size_bytes = 0
    for piece in in_pieces(tree.files[::2]):
        with store.batch() as batch:
            for file in piece:
                contents = expected_contents(file)
                if contents is not None:
                    batch.put(file.key, contents.value, metadata=contents.metadata)
                    count, size_bytes = count + 1, size_bytes + len(contents.value)
    seconds = perf_counter() - started
    report.figure(f"wrote {count:,} files ({size_text(size_bytes)}) again in {seconds:.2f} s")


def verify(report: Report, store: Store) -> None:
    """Let the store check all its bytes."""
    started = perf_counter()
    with progress_bar("verify") as progress:
        found = store.verify(progress=progress)
    seconds = perf_counter() - started
    report.figure(f"read {size_text(found.bytes)} in {seconds:.2f} s")
    report.check(
        f"verify: {found.records:,} records in {found.files:,} files are intact",
        found.ok,
        "; ".join(map(str, found.problems[:1])),
    )


def compact(report: Report, store: Store) -> None:
    """Give back the space of overwritten records."""
    before = store.stats()
    started = perf_counter()
    with progress_bar("compact") as progress:
        store.compact(progress=progress)
    seconds = perf_counter() - started
    after = store.stats()
    report.figure(
        f"records: {size_text(before.log_bytes)} before, {size_text(after.log_bytes)} after, "
        f"on disk {size_text(after.disk_bytes)}, in {seconds:.2f} s"
    )
    report.check(
        "compaction lost no key and did not grow the store",
        after.keys == before.keys and after.log_bytes <= before.log_bytes,
        f"{before.keys:,} keys before, {after.keys:,} after",
    )


def second_writer(report: Report, tree: Tree, store: Store) -> None:
    """Let another process write some files again, and look for each of them at once."""
    before, unseen = store.version, 0
    files = tree.files[:SECOND_FILES]
    with Loader(store.path, tree.root, files, batch_files=1) as loader:
        for done in loader.acknowledgements():
            entries = (store.get_entry(file.key) for file in loader.loaded(done))
            unseen += sum(entry is None or entry.version <= before for entry in entries)
        loader.finish()
        written = len(loader.loaded(loader.done))
    report.check(
        f"process {loader.pid} wrote {written:,} files beside this one; each was seen at once",
        not unseen and store.version == before + written,
        f"{unseen:,} were not; version {store.version:,}, not {before + written:,}",
    )


def backup(report: Report, tree: Tree, store: Store, target: str) -> None:
    """Copy the store while it is open, then open the copy and compare it with the files."""
    started = perf_counter()
    with progress_bar("backup") as progress:
        version = store.backup(target, progress=progress)
    report.figure(
        f"copied version {version:,} to {os.path.basename(target)} "
        f"in {1e3 * (perf_counter() - started):.1f} ms"
    )
    present = set(store.keys())
    files = [file for file in tree.files if file.key in present]
    with Store(target, read_only=True) as copy:
        compare_scan(copy, files).tell(report, "backup", len(files))
        report.check("the backup has the version of the store", copy.version == store.version)
