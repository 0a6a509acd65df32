"""The tables of a result in Markdown.

Invariants: absolute times stand beside ratios; a pair count that is smaller than asked for is
shown; what failed shows its error below the table, not an empty cell.
"""

from collections.abc import Sequence
from typing import Any

from benchmarks.driver import human_ns
from benchmarks.report.goals import ram_per_key
from benchmarks.report.lookup import OURS, Lookup

_PERCENTILES = ("p50", "p90", "p99", "p99.9", "max")


def header(result: dict[str, Any]) -> str:
    """Machine, versions and options."""
    machine, options = result["machine"], result["options"]
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    asked = (
        f"{options['keys']:,} keys of {options['key_bytes']} B ({options['key_kind']}), values of"
        f" {options['value_bytes']} B, {options['compressible']:.0%} compressible;"
        f" {options['repeats']} repeats; seed {options['seed']}; {result['duration_s']:.0f} s."
    )
    place = (
        f"{machine['cpus']} CPUs, {machine['cpu']}, {machine['memory_bytes'] / 2**30:.0f} GiB,"
        f" {machine['kernel']}, {machine['file_system']}, {machine['python']};"
        f" commit {machine['commit'] or 'unknown'}; load {machine['load_average']:.2f} at start."
    )
    lines = [f"# kvengine benchmarks, {machine['time'][:10]}", "", asked, "", place, ""]
    lines.append(versions + ".")
    lines += [f"Without {name}: {reason}." for name, reason in result["missing"].items()]
    return "\n".join(lines)


def tables(result: dict[str, Any]) -> str:
    """All tables."""
    found = Lookup(result)
    parts = [_times(found)]
    if OURS in found.engines:
        parts.append(_ratios(found))
    parts += [_sizes(found), _percentiles(found), _group_commit(found), _errors(found)]
    return "\n\n".join(part for part in parts if part)


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose first column is text and whose others are figures."""
    lines = ["| " + " | ".join(head) + " |", "|---" + "|--:" * (len(head) - 1) + "|"]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def _times(found: Lookup) -> str:
    rows = []
    for workload, about in found.workloads.items():
        times = [found.ns(engine, workload) for engine in found.engines]
        cells = [human_ns(time) if time is not None else "" for time in times]
        if any(cells):
            rows.append([f"{workload} ({about})", *cells])
    table = markdown(["time an operation, median", *found.engines], rows)
    return "## Times\n\n" + table + "\n\n" + _pairs_held(found)


def _pairs_held(found: Lookup) -> str:
    held = {engine: found.figure(engine, "fillrandom", "pairs") for engine in found.engines}
    most = max((pairs for pairs in held.values() if pairs), default=0)
    small = [f"{engine} {pairs:,}" for engine, pairs in held.items() if pairs and pairs < most]
    if not small:
        return ""
    return (
        f"Loading is limited in time: these hold fewer than {most:,} pairs, which makes their "
        "reads look better than they are: " + ", ".join(small) + "."
    )


def _ratios(found: Lookup) -> str:
    others = [engine for engine in found.engines if engine != OURS]
    rows = []
    for workload in found.workloads:
        mine = found.ns(OURS, workload)
        if not mine:
            continue
        times = [found.ns(engine, workload) for engine in others]
        cells = [f"{time / mine:.3g}" if time is not None else "" for time in times]
        rows.append([workload, human_ns(mine), *cells])
    head = ["times as long as kvengine", OURS, *others]
    return "## Ratios\n\nAbove 1: kvengine is faster.\n\n" + markdown(head, rows)


def _sizes(found: Lookup) -> str:
    rows = []
    for engine in found.engines:
        loaded = (found.row(engine, "fillrandom") or {}).get("figures", {})
        over = (found.row(engine, "overwrite") or {}).get("figures", {})
        pairs, user = loaded.get("pairs"), loaded.get("user_bytes")
        if not pairs:
            continue
        rows.append(
            [
                engine,
                f"{pairs:,}",
                _number(ram_per_key(found, engine)),
                _share(loaded.get("memory_Private_Dirty"), pairs),
                _share(loaded.get("page_cache_bytes"), pairs),
                _share(loaded.get("disk_bytes"), user),
                _number(over.get("disk_per_user_byte")),
                _number(over.get("space_amplification")),
                _number(over.get("write_amplification")),
                _share(over.get("process_bytes"), over.get("user_bytes")),
            ]
        )
    head = [
        "memory and disk",
        "pairs",
        "RAM B/key",
        "private dirty B/key",
        "page cache B/key",
        "disk / user bytes",
        "the same after overwrites",
        "log / live",
        "device writes / user bytes",
        "own writes / user bytes",
    ]
    return "## Memory and disk\n\n" + markdown(head, rows) if rows else ""


def _percentiles(found: Lookup) -> str:
    rows = []
    for workload in ("grow", "readrandom", "fillsync", "reopen"):
        for engine in found.engines:
            row = found.row(engine, workload)
            if row and row["latencies_ns"]:
                named = row["latencies_ns"]
                cells = [human_ns(named.get(name, 0.0)) for name in _PERCENTILES]
                rows.append([f"{workload}, {engine}", *cells])
    head = ["latency of single operations", *_PERCENTILES]
    return "## Latencies\n\n" + markdown(head, rows) if rows else ""


def _group_commit(found: Lookup) -> str:
    rows, head = [], ["durable puts a second, by threads"]
    for engine in found.engines:
        rates = found.figure(engine, "groupcommit", "puts_per_s_by_threads")
        if rates:
            head = [head[0], *rates, "16 / 1"]
            speedup = found.figure(engine, "groupcommit", "speedup_of_16")
            rows.append([engine, *(f"{rate:,.0f}" for rate in rates.values()), f"{speedup:.1f}"])
    return "## Group commit\n\n" + markdown(head, rows) if rows else ""


def _errors(found: Lookup) -> str:
    lines = [
        f"* {workload}, {engine}: {error}"
        for workload in found.workloads
        for engine in found.engines
        if (error := found.error(engine, workload))
    ]
    return "## Failures\n\n" + "\n".join(lines) if lines else ""


def _share(part: float | None, whole: float | None) -> str:
    return _number(part / whole) if part is not None and whole else ""


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"
