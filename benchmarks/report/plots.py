"""Plots of a result, as PNG and SVG.

Invariants: an engine has the same color in every plot, and kvengine is the only strong one in the
bars; of a peer's two settings the faster is drawn, and its name says which.
"""

from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from benchmarks.driver import human_ns
from benchmarks.report.lookup import OURS, Lookup

_OURS_COLOR, _PEER_COLOR = "#d1495b", "#9fb1bd"
_COLORS = {  # told apart by those who do not see red and green as different
    "kvengine": _OURS_COLOR,
    "dict": "#222222",
    "lmdb": "#0072b2",
    "rocksdict": "#e69f00",
    "plyvel": "#009e73",
    "sqlite3": "#56b4e9",
    "diskcache": "#cc79a7",
    "wiredtiger": "#8c6d31",
    "bare file": "#777777",
}
_STYLE: Any = {"font.size": 8, "axes.spines.top": False, "axes.spines.right": False}
_COLUMNS = 4
_LONGEST = 12
_MARGIN_INCHES = 0.3
_OVERVIEW = (
    "readrandom",
    "multireadrandom",
    "readmissing",
    "keys",
    "put",
    "fillrandom",
    "fillsync",
    "reopen",
)
_PERCENTILES = ("p50", "p90", "p99", "p99.9", "p99.99", "max")


def draw(stem: Path, result: dict[str, Any]) -> list[Path]:
    """Draw all plots that the result has data for; return the files."""
    found, written = Lookup(result), []
    caption = f"{result['machine']['cpu']}, {result['options']['keys']:,} keys"
    with plt.rc_context(_STYLE):
        for name, make in _FIGURES.items():
            figure = make(found)
            if figure is None:
                continue
            margin = _MARGIN_INCHES / figure.get_figheight()
            figure.set_layout_engine("constrained", rect=(0, margin / 2, 1, 1 - 1.5 * margin))
            figure.text(0.995, 0.005, caption, ha="right", va="bottom", fontsize=6)
            for suffix in (".png", ".svg"):
                path = stem.with_name(f"{stem.name}-{name}{suffix}")
                figure.savefig(path, dpi=150)
                written.append(path)
            plt.close(figure)
    return written


def bars(found: Lookup) -> Figure | None:
    """All workloads, one panel each."""
    return _panels(found, list(found.workloads))


def overview(found: Lookup) -> Figure | None:
    """The workloads that a reader asks for first."""
    return _panels(found, [name for name in _OVERVIEW if name in found.workloads])


def _panels(found: Lookup, workloads: list[str]) -> Figure | None:
    shown = [name for name in workloads if any(found.best(peer, name) for peer in found.peers())]
    if not shown:
        return None
    rows = -(-len(shown) // _COLUMNS)
    figure, axes = plt.subplots(rows, _COLUMNS, figsize=(11, 1.9 * rows + 0.6), squeeze=False)
    title = (
        "Time of an operation (median), shorter is better. Each panel has its own scale; "
        f"a bar that would be above {_LONGEST} times ours is cut."
    )
    figure.text(0.01, 1 - _MARGIN_INCHES / 2 / figure.get_figheight(), title, va="center")
    for axis in axes.flat[len(shown) :]:
        axis.set_axis_off()
    for axis, workload in zip(axes.flat, shown, strict=False):
        _bar_panel(axis, found, workload)
    return figure


def _bar_panel(axis: Axes, found: Lookup, workload: str) -> None:
    labels = [found.best_label(peer, workload) for peer in found.peers()]
    timed = [(label, found.ns(label, workload) or 0.0) for label in labels if label]
    names = [label for label, _time in timed]
    times = [time for _label, time in timed]
    colors = [_OURS_COLOR if name == OURS else _PEER_COLOR for name in names]
    places = range(len(names))
    longest = max(times)
    if OURS in names:
        longest = min(longest, _LONGEST * times[names.index(OURS)])
    lengths = [min(time, longest) for time in times]
    axis.barh(places, lengths, color=colors, height=0.75)
    axis.set_yticks(list(places), names, fontsize=6.5)
    axis.invert_yaxis()
    axis.set_title(f"{workload}: {found.workloads[workload]}", fontsize=7, loc="left")
    axis.set_xticks([])
    axis.spines["bottom"].set_visible(False)
    axis.set_xlim(0, longest * 1.35)
    for place, time, length in zip(places, times, lengths, strict=True):
        cut = "» " if time > length else ""
        axis.text(length + longest * 0.015, place, cut + human_ns(time), va="center", fontsize=6.5)


def latency(found: Lookup) -> Figure | None:
    """Percentiles of single operations: puts while growing, and gets."""
    panels = [
        (workload, title)
        for workload, title in (("grow", "put while growing"), ("readrandom", "get, uniform"))
        if any(found.row(engine, workload) for engine in found.engines)
    ]
    if not panels:
        return None
    figure, axes = plt.subplots(1, len(panels), figsize=(11, 4), squeeze=False)
    for axis, (workload, title) in zip(axes.flat, panels, strict=True):
        for peer in found.peers():
            label = found.best_label(peer, workload)
            row = found.row(label, workload) if label else None
            if label and row and row["latencies_ns"]:
                values = [max(row["latencies_ns"].get(name, 0.0), 1.0) for name in _PERCENTILES]
                _line(axis, peer, label, list(range(len(values))), values)
        axis.set_xticks(range(len(_PERCENTILES)), _PERCENTILES)
        _finish(axis, f"Latency: {title}")
    return figure


def against_size(found: Lookup) -> Figure | None:
    """Throughput of puts and gets against the number of keys held."""
    curves = {}
    for peer in found.peers():
        label = found.best_label(peer, "grow")
        curve = found.figure(label, "grow", "curve") if label else None
        if label and curve:
            curves[peer] = (label, curve)
    if not curves:
        return None
    figure, axes = plt.subplots(1, 2, figsize=(11, 4), squeeze=False)
    for axis, name in zip(axes.flat, ("put", "get"), strict=True):
        for peer, (label, curve) in curves.items():
            sizes = [point["keys"] for point in curve]
            rates = [1e9 / max(point[f"{name}_ns"], 1e-3) for point in curve]
            _line(axis, peer, label, sizes, rates)
        axis.set_xlabel("keys in the store")
        _finish(axis, f"{name}s a second against data size")
        axis.yaxis.set_major_formatter(lambda value, _place: f"{value:,.0f}")
    return figure


def draw_lines(
    stem: Path, panels: dict[str, dict[str, dict[int, float]]], x_name: str, caption: str
) -> list[Path]:
    """Draw a panel for each title, with a line for each label: figures at powers of two."""
    with plt.rc_context(_STYLE):
        figure, axes = plt.subplots(1, len(panels), figsize=(11, 4), squeeze=False)
        for axis, (title, lines) in zip(axes.flat, panels.items(), strict=True):
            for label, points in lines.items():
                _line(axis, label.removesuffix(" tuned"), label, [*points], [*points.values()])
            places = sorted({x for points in lines.values() for x in points})
            axis.set_xscale("log", base=2)
            axis.set_xticks(places, [str(x) for x in places])
            axis.set_xlabel(x_name)
            _finish(axis, title, columns=2)
            axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.yaxis.set_major_formatter(lambda value, _place: f"{value:,.0f}")
            axis.yaxis.set_minor_formatter(NullFormatter())
        figure.set_layout_engine("constrained", rect=(0, 0.04, 1, 0.94))
        figure.text(0.995, 0.005, caption, ha="right", va="bottom", fontsize=6)
        written = [stem.with_suffix(suffix) for suffix in (".png", ".svg")]
        for path in written:
            figure.savefig(path, dpi=150)
        plt.close(figure)
    return written


def _line(axis: Axes, peer: str, label: str, x: list[Any], y: list[float]) -> None:
    ours = peer == OURS
    axis.plot(
        x,
        y,
        color=_COLORS.get(peer, _PEER_COLOR),
        linewidth=2.2 if ours else 1.2,
        marker="o",
        markersize=3.5 if ours else 2.5,
        zorder=3 if ours else 2,
        label=label,
    )


def _finish(axis: Axes, title: str, columns: int = 4) -> None:
    axis.set_yscale("log")
    axis.set_title(title, loc="left", fontsize=9)
    axis.grid(visible=True, axis="y", color="#e5e5e5", linewidth=0.6)
    if axis.get_title(loc="left").startswith("Latency"):
        axis.yaxis.set_major_formatter(lambda value, _place: human_ns(value))
    place = (0.5, -0.14)
    axis.legend(fontsize=7, frameon=False, ncols=columns, loc="upper center", bbox_to_anchor=place)


_FIGURES = {"overview": overview, "workloads": bars, "latency": latency, "size": against_size}
