"""``kvengine demo store``: real files through a store, a crash, and back.

Invariants:
* the exit code is 0 only if every check held;
* without ``--keep`` nothing stays behind, not even after Ctrl-C.
"""

import os
import shutil
import sys
import tempfile
from contextlib import ExitStack
from time import perf_counter

import click

from kvengine import Store
from kvengine.cli.demos import demo_crash
from kvengine.cli.demos.demo_files import INSTALLED_FOLDERS, Tree, find_files, standard_library
from kvengine.cli.demos.demo_loader import Loader
from kvengine.cli.demos.demo_reads import list_prefixes, read_back
from kvengine.cli.demos.demo_report import Report
from kvengine.cli.failures import CommandFailed, ExitCode
from kvengine.cli.formatting import size_text
from kvengine.cli.output import progress_bar

# Two stores, one of them half overwritten before it is compacted, and a backup.
SPACE_FACTOR = 4


def store_demo(source: str | None, keep: str | None) -> None:
    """Store thousands of real files, kill a writer, recover, and check every byte.

    Args:
        source: a folder of files; None: Python's standard library.
        keep: a new or empty folder for the stores; None: they are removed at the end.
    """
    started = perf_counter()
    report = Report()
    with ExitStack() as cleanup:
        folder = _work_folder(keep, cleanup)
        tree = _collect(report, source, folder)
        _library(report, tree, os.path.join(folder, "library"))
        _crash(report, tree, folder)
        if keep is not None:
            report.figure(f"kept: {os.path.abspath(keep)}")
    report.step(
        f"{report.passed} checks held, {report.failed} failed, in {perf_counter() - started:.1f} s."
    )
    if report.failed:
        sys.exit(ExitCode.FAILURE)


def _work_folder(keep: str | None, cleanup: ExitStack) -> str:
    if keep is None:
        folder = tempfile.mkdtemp(prefix="kvengine-demo-")
        cleanup.callback(shutil.rmtree, folder, ignore_errors=True)
        return folder
    os.makedirs(keep, exist_ok=True)
    if os.listdir(keep):
        raise click.UsageError(f"--keep {keep}: the folder is not empty")
    return os.path.abspath(keep)


def _collect(report: Report, source: str | None, folder: str) -> Tree:
    root = source or standard_library()
    report.step(f"Find files under {root}")
    # Packages that were installed beside the standard library are no part of it.
    without = frozenset[bytes]() if source else INSTALLED_FOLDERS
    tree = find_files(root, without)
    report.figure(f"{len(tree.files):,} files, {size_text(tree.size_bytes)}")
    report.figure(
        f"left out: {tree.unreadable:,} unreadable, {tree.too_large:,} above 64 MiB, "
        f"{tree.names_too_long:,} with names above 1,024 bytes"
    )
    if not tree.files:
        raise CommandFailed(f"no files to store under {root}")
    needed, free = SPACE_FACTOR * tree.size_bytes, shutil.disk_usage(folder).free
    if needed > free:
        raise CommandFailed(
            f"{folder} has {size_text(free)} free, and the demo needs {size_text(needed)}"
        )
    return tree


def _library(report: Report, tree: Tree, path: str) -> None:
    report.step("Load them in a writer process; look over its shoulder meanwhile")
    with Loader(path, tree.root, tree.files, batch_files=256) as loader:
        _look_beside(report, loader)
        seconds = loader.finish()
        files = loader.loaded(len(tree.files))
    size_bytes = sum(file.size_bytes for file in files)
    rate = size_text(size_bytes / max(loader.seconds_in_store, 1e-9))
    report.figure(
        f"{len(files):,} files, {size_text(size_bytes)} in {seconds:.2f} s; "
        f"{loader.seconds_in_store:.2f} s of it in the store: {rate}/s, safe on disk"
    )
    report.step("Read all back and compare with the files")
    started = perf_counter()
    with Store(path, read_only=True) as store:
        store.get(tree.files[0].key)
        report.figure(f"opened and answered in {1e3 * (perf_counter() - started):.2f} ms")
        read_back(report, store, files)
        report.step("List by prefix and compare with the sorted paths")
        list_prefixes(report, store, [file.key for file in files])


def _look_beside(report: Report, loader: Loader) -> None:
    half = len(loader.files) // 2
    with progress_bar("load") as progress:
        for position in loader.acknowledgements():
            if progress is not None:
                progress(position, len(loader.files))
            if position >= half:
                break
    with Store(loader.path, read_only=True) as store:
        safe = loader.loaded(loader.done)
        report.check(
            f"a reader beside the writer sees all {len(safe):,} files acknowledged so far",
            all(file.key in store for file in safe),
        )


def _crash(report: Report, tree: Tree, folder: str) -> None:
    path = os.path.join(folder, "killed")
    report.step("Load a second store and kill its writer in mid-load")
    loader = demo_crash.kill_writer(report, tree, path)
    report.step("Recover what the killed writer left")
    missing = demo_crash.recover(report, loader)
    report.step("Finish the load")
    demo_crash.finish_load(report, tree, path, missing)
    with Store(path) as store:
        report.step("Overwrite, compact and verify")
        demo_crash.overwrite(report, tree, store)
        demo_crash.compact(report, store)
        demo_crash.verify(report, store)
        report.step("Let a second process write to the open store")
        demo_crash.second_writer(report, tree, store)
        report.step("Back up and open the backup")
        demo_crash.backup(report, tree, store, os.path.join(folder, "backup"))
