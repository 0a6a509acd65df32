"""The figures of processes on one store, as Markdown and as a plot.

Invariants: goals compare with the peers as they are used (SQLite in WAL with synchronous=NORMAL,
LMDB without syncs, diskcache's defaults; each with syncs for "group"), and the tables also with the
tuned ones; what failed shows its error, and a goal that this run cannot judge says so.
"""

from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.driver import human_ns
from benchmarks.report.lookup import OURS
from benchmarks.report.tables import markdown

PEERS = ("sqlite3", "lmdb", "diskcache")
_TITLES = {
    ("put", "os"): 'puts a second, "os"',
    ("put", "group"): 'puts a second, on disk ("group")',
    ("get", "os"): "gets a second",
}


class Found:
    """The figures of a result by what was measured."""

    def __init__(self, result: dict[str, Any]) -> None:
        self.result = result
        self.engines: list[str] = result["engines"]
        self.processes: list[int] = list(result["options"]["processes"])
        self._rows: dict[tuple[str, str, int, str], dict[str, Any]] = {
            (row["do"], row["class"], row["processes"], row["engine"]): row
            for row in result["together"]
        }

    def row(self, do: str, kind: str, processes: int, engine: str) -> dict[str, Any]:
        """All that is known of one round."""
        return self._rows.get((do, kind, processes, engine), {})

    def per_s(self, do: str, kind: str, processes: int, engine: str) -> float | None:
        """Operations a second of all processes together."""
        rate: float | None = self.row(do, kind, processes, engine).get("per_s")
        return rate

    def against_the_best(
        self, do: str, kind: str, processes: int, *, tuned: bool = False
    ) -> float | None:
        """Return how many times as many as the best peer kvengine does."""
        own = self.per_s(do, kind, processes, OURS)
        named = [f"{peer} tuned" if tuned else peer for peer in PEERS]
        others = [self.per_s(do, kind, processes, one) or 0.0 for one in named]
        return own / max(others) if own and any(others) else None

    def reading(self, engine: str) -> dict[str, dict[str, Any]]:
        """The reader beside writers, by what these do."""
        rows = self.result["beside"]
        return {row["writers"]: row for row in rows if row["engine"] == engine and "cpu_ns" in row}

    def reading_slower(self, engine: str, mode: str) -> float | None:
        """How many times as long a get takes beside writers as beside idle processes."""
        modes = self.reading(engine)
        if not modes:
            return None
        quiet, busy = modes["quiet"], modes[mode]
        return float(max(busy[name] / quiet[name] for name in ("cpu_ns", "p50_ns")))


def report(result: dict[str, Any]) -> str:
    """All tables."""
    found, machine = Found(result), result["machine"]
    options, versions = result["options"], result["versions"]
    names = ", ".join(f"{name} {version}" for name, version in versions.items())
    if other := result["another"]:
        names += f", beside kvengine {other['version'] or 'unknown'}"
        names += f" (commit {other['commit'] or 'unknown'})"
    head = (
        f"{machine['cpus']} CPUs, {machine['cpu']}, {machine['kernel']}, {machine['file_system']},"
        f" {machine['python']}; commit {machine['commit'] or 'unknown'}; {names}. Keys of 16 bytes,"
        f" values of {options['value_bytes']}; {options['seconds']:g} s a round,"
        f" {options['repeats']} repeats; all processes together."
    )
    parts = [head, _goals(found)]
    if result["together"]:
        parts += [_together(found, do, kind) for do, kind in _TITLES]
    parts += [_waits(found), _reading(found), _alone(found), _kills(found)]
    parts += [_wakes(found), _errors(found)]
    return "\n\n".join(part for part in parts if part)


def _goals(found: Found) -> str:
    if OURS not in found.engines:
        return ""
    result = found.result
    goals: list[tuple[str, float, float | None, str]] = [
        ('puts of 4 processes, "os", against the best peer', 3, _four(found, "os"), "≥ x"),
        ('puts of 4 processes, "group", against the best peer', 4, _four(found, "group"), "≥ x"),
    ]
    for mode in ("2 MB/s", "full speed"):
        about = f"a get beside 3 writers ({mode}), against a quiet one"
        goals.append((about, 1.3, found.reading_slower(OURS, mode), "≤ x"))
    for name in ("put", "get", "batch"):
        about = f"{name}, alone on a store, against the other kvengine"
        goals.append((about, 1.03, result["alone"]["ratios"].get(name), "≤ x"))
    kills, wakes = result["kills"].get("rows"), result["wakes"].get("ns")
    longest = max(row["ns"] for row in kills) / 1e6 if kills else None
    slowest = max(row["p50"] for row in wakes.values()) / 1e6 if wakes else None
    goals.append(("the next put after a kill in mid-write, the longest", 10, longest, "≤ ms"))
    goals.append(("from a write to who waits, the median of each way", 1, slowest, "≤ ms"))
    rows = []
    for about, limit, seen, kind in goals:
        sign, unit = kind.split()
        word, shown = "not measured", ""
        if seen is not None:
            is_met = seen <= limit if sign == "≤" else seen >= limit
            word, shown = "pass" if is_met else "**miss**", f"{seen:.3g} {unit}"
        rows.append([about, f"{sign} {limit:g} {unit}", shown, word])
    return markdown(["goal", "limit", "seen", ""], rows)


def _four(found: Found, kind: str) -> float | None:
    return found.against_the_best("put", kind, 4)


def _together(found: Found, do: str, kind: str) -> str:
    rows = []
    for engine in found.engines:
        rates = [found.per_s(do, kind, count, engine) for count in found.processes]
        rows.append([engine, *("" if rate is None else f"{rate:,.0f}" for rate in rates)])
    for name, tuned in (("best peer", False), ("best tuned peer", True)):
        times = [found.against_the_best(do, kind, count, tuned=tuned) for count in found.processes]
        cells = ("" if ratio is None else f"{ratio:.2f}" for ratio in times)
        rows.append([f"kvengine / {name}", *cells])
    return markdown([_TITLES[do, kind], *(f"{count}" for count in found.processes)], rows)


def _waits(found: Found) -> str:
    """How long one put takes beside others, and what the slowest process gets."""
    rows = []
    for kind in ("os", "group"):
        for engine in found.engines:
            row = found.row("put", kind, 4, engine)
            if "per_s" in row:
                times = [human_ns(row["latencies_ns"][name]) for name in ("p50", "p99", "max")]
                rows.append([f"{engine}, {kind}", *times, f"{row['least_share']:.0%}"])
    if not rows:
        return ""
    head = ["one put of 4 processes", "p50", "p99", "longest", "slowest process / mean"]
    return markdown(head, rows)


def _reading(found: Found) -> str:
    rows = []
    for engine in found.engines:
        for mode, row in found.reading(engine).items():
            times = [human_ns(row[name]) for name in ("cpu_ns", "p50_ns", "p99_ns")]
            rates = [f"{row['per_s']:,.0f}", f"{row['puts_per_s']:,.0f}"]
            rows.append([f"{engine}, {mode}", *times, *rates])
    if not rows:
        return ""
    head = ["a get beside 3 writing processes", "CPU", "p50", "p99", "gets/s", "puts/s"]
    return markdown(head, rows)


def _alone(found: Found) -> str:
    names = ("put", "get", "batch")
    alone = found.result["alone"]
    rows = [[name, *(human_ns(row[do]) for do in names)] for name, row in alone["ns"].items()]
    if ratios := alone["ratios"]:
        rows.append(["kvengine / kvengine beside", *(f"{ratios[do]:.3f}" for do in names)])
    return markdown(['alone on a store, "os"', "put", "get", "batch, a pair"], rows) if rows else ""


def _kills(found: Found) -> str:
    all_rows = found.result["kills"].get("rows", [])
    rows = []
    for about, due in (("the next put", False), ("the same, where a sync was due first", True)):
        taken = [row["ns"] for row in all_rows if row["sync_is_due"] == due]
        if taken:
            rows.append([about, human_ns(median(taken)), human_ns(max(taken)), f"{len(taken)}"])
    head = ["kvengine, after a process was killed in mid-write", "median", "longest", "kills"]
    return markdown(head, rows) if rows else ""


def _wakes(found: Found) -> str:
    rows = [
        [way, *(human_ns(row[name]) for name in ("p50", "p99", "max"))]
        for way, row in found.result["wakes"].get("ns", {}).items()
    ]
    if not rows:
        return ""
    head = ["kvengine, from a write to who waits in another process", "p50", "p99", "longest"]
    return markdown(head, rows)


def _errors(found: Found) -> str:
    result = found.result
    lines = [
        f"* {row['engine']}, {row['class']}, {row['processes']} processes: {row['error']}"
        for row in result["together"]
        if "error" in row
    ]
    lines += [
        f"* {row['engine']}, a get beside writers: {row['error']}"
        for row in result["beside"]
        if "error" in row
    ]
    lines += [f"* {name}, alone: {error}" for name, error in result["alone"]["errors"].items()]
    if "error" in result["kills"]:
        lines.append(f"* the next put after a kill: {result['kills']['error']}")
    wakes = result["wakes"].get("errors", {})
    lines += [f"* from a write to {way}: {error}" for way, error in wakes.items()]
    lines += [f"* without {name}: {reason}" for name, reason in result["missing"].items()]
    return "\n".join(lines)


def draw(stem: Path, result: dict[str, Any]) -> list[Path]:
    """Draw operations a second against the number of processes; return the files.

    Raises:
        ImportError: there is no matplotlib.
    """
    from benchmarks.report.plots import draw_lines

    found = Found(result)
    panels = {}
    for (do, kind), title in _TITLES.items():
        lines = {}
        for engine in _faster_settings(found, do, kind):
            rates = ((count, found.per_s(do, kind, count, engine)) for count in found.processes)
            lines[engine] = {count: rate for count, rate in rates if rate is not None}
        panels[title] = lines
    return draw_lines(stem, panels, "processes on one store", result["machine"]["cpu"])


def _faster_settings(found: Found, do: str, kind: str) -> list[str]:
    """One label for each engine: the one that does more in the sum of its rounds."""
    best: dict[str, tuple[float, str]] = {}
    for label in found.engines:
        engine = label.removesuffix(" tuned")
        total = sum(found.per_s(do, kind, count, label) or 0.0 for count in found.processes)
        best[engine] = max(best.get(engine, (0.0, label)), (total, label), key=lambda one: one[0])
    return [label for total, label in best.values() if total]
