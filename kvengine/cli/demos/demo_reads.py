"""The demo's reading side: every file is read back in each way and compared.

Invariants:
* a value is compared with the bytes of the file itself, never with another answer of the store;
* the clock runs only while the store works.
"""

from collections.abc import Iterable, Iterator, Sequence
from time import perf_counter

from kvengine import Store
from kvengine.cli.demos.demo_files import SourceFile, expected_contents, in_pieces
from kvengine.cli.demos.demo_report import Report
from kvengine.cli.formatting import printable, size_text
from kvengine.entry import Entry

SHOWN_MAX = 3  # names given for a failed check


class Comparison:
    """Counts what was equal to its file, what was not, and what could not be judged."""

    def __init__(self) -> None:
        self.equal = self.changed = self.size_bytes = 0
        self.wrong: list[bytes] = []
        self.seconds = 0.0  # that the store took

    def add(self, file: SourceFile, value: bytes | None, metadata: bytes | None) -> None:
        """Compare *file* with what the store gave; *metadata* None: not asked for."""
        expected = expected_contents(file)
        if expected is None and value is not None:
            self.changed += 1
        elif (
            expected is None or value != expected.value or metadata not in (None, expected.metadata)
        ):
            self.wrong.append(file.key)
        else:
            self.equal += 1
            self.size_bytes += len(value)

    def tell(self, report: Report, way: str, count: int) -> None:
        """Report a comparison of *count* files."""
        changed = f", {self.changed:,} changed on disk meanwhile" if self.changed else ""
        per_file = 1e6 * self.seconds / max(count, 1)
        rate = self.size_bytes / max(self.seconds, 1e-9)
        report.figure(f"{way}: {per_file:.1f} µs a file, {size_text(rate)}/s")
        report.check(
            f"{way}: {self.equal:,} of {count:,} files byte for byte the same{changed}",
            not self.wrong and self.equal + self.changed == count and bool(self.equal or not count),
            f"{len(self.wrong):,} wrong or missing{_names(self.wrong)}",
        )


def compare_get(store: Store, files: Sequence[SourceFile]) -> Comparison:
    """Read *files* one by one."""
    comparison = Comparison()
    for piece in in_pieces(files):
        started = perf_counter()
        values = [store.get(file.key) for file in piece]
        comparison.seconds += perf_counter() - started
        for file, value in zip(piece, values, strict=True):
            comparison.add(file, value, None)
    return comparison


def compare_get_many(store: Store, files: Sequence[SourceFile]) -> Comparison:
    """Read *files* many at a time."""
    comparison = Comparison()
    for piece in in_pieces(files):
        keys = [file.key for file in piece]
        started = perf_counter()
        values = store.get_many(keys)
        comparison.seconds += perf_counter() - started
        for file, value in zip(piece, values, strict=True):
            comparison.add(file, value, None)
    return comparison


def compare_scan(store: Store, files: Sequence[SourceFile]) -> Comparison:
    """Read everything in key order; *files* must be in that order, and all there is."""
    comparison = Comparison()
    entries = _timed(store.scan(), comparison)
    remaining = iter(files)
    for entry in entries:
        file = next(remaining, None)
        if file is None or file.key != entry.key:
            comparison.wrong.append(entry.key)  # out of order, missing or foreign
            return comparison
        comparison.add(file, entry.value, entry.metadata)
    comparison.wrong.extend(file.key for file in remaining)
    return comparison


def _timed(entries: Iterator[Entry], comparison: Comparison) -> Iterator[Entry]:
    while True:
        started = perf_counter()
        entry = next(entries, None)
        comparison.seconds += perf_counter() - started
        if entry is None:
            return
        yield entry


def read_back(report: Report, store: Store, files: Sequence[SourceFile]) -> None:
    """Compare every file in all three ways."""
    compare_get(store, files).tell(report, "get", len(files))
    compare_get_many(store, files).tell(report, "get_many", len(files))
    compare_scan(store, files).tell(report, "scan", len(files))


def list_prefixes(report: Report, store: Store, keys: Sequence[bytes]) -> None:
    """List by prefix, forward, backward and page by page; *keys* are all keys, sorted."""
    for prefix in _prefixes(keys):
        expected = [key for key in keys if key.startswith(prefix)]
        started = perf_counter()
        found = list(store.keys(prefix))
        seconds = perf_counter() - started
        name = printable(prefix) or "(everything)"
        report.figure(f"list {name}: {len(found):,} keys in {1e3 * seconds:.2f} ms")
        backward = list(store.keys(prefix, reverse=True))
        report.check(
            f"list {name}: the sorted paths, forward, backward and in pages",
            found == expected and backward == expected[::-1] and _paged(store, prefix) == expected,
            f"expected {len(expected):,} keys, found {len(found):,}",
        )


def _prefixes(keys: Sequence[bytes]) -> Iterable[bytes]:
    counts: dict[bytes, int] = {}
    for key in keys:
        folder, slash, _rest = key.partition(b"/")
        if slash:
            counts[folder + slash] = counts.get(folder + slash, 0) + 1
    largest = sorted(counts, key=lambda folder: (-counts[folder], folder))[:2]
    familiar = [folder for folder in (b"email/", b"json/") if folder in counts]
    return [b"", *sorted({*largest, *familiar})]


def _paged(store: Store, prefix: bytes, page: int = 100) -> list[bytes]:
    keys: list[bytes] = []
    while True:
        after = keys[-1] if keys else None
        found = list(store.keys(prefix, start_after=after, limit=page))
        keys += found
        if len(found) < page:
            return keys


def _names(keys: Sequence[bytes]) -> str:
    return "".join(f", {printable(key)}" for key in keys[:SHOWN_MAX])
