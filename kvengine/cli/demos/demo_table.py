"""What the demo of edges shows: a live table on a terminal, else a line for each event.

Invariants:
* without a terminal, or without rich, everything of interest is said in plain lines.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any

from kvengine.cli.demos.demo_places import Demo, Flip, Place
from kvengine.cli.output import message, on_terminal, output, write_text

TELL_EVERY_S = 1.0
SETTLED_S = 0.15  # after a change; then those who see it are counted
NEWS_SHOWN = 6
FRESH_S = 0.6  # for so long a new value is shown in another color
HINT = 'for a live table: pip install "kvengine[plot]"'


class Screen:
    """Plain lines."""

    def __init__(self, demo: Demo) -> None:
        self.demo = demo
        self._refusing: set[str] = set()
        self._told, self._told_at = 0, 0.0  # the last change that was told of, and when

    def say(self, text: str) -> None:
        """Tell of something that happened."""
        write_text(f"{self.demo.elapsed:6.2f} s  {text}")
        output().flush()

    def flipped(self, demo: Demo, flip: Flip) -> None:
        """Tell that the flag was changed."""
        self.say(f"{flip.place} writes {flip.value!r}, version {flip.version}")

    def draw(self, demo: Demo) -> None:
        """Show how things are now; called often."""
        flip = demo.flips[-1] if demo.flips else None
        if flip is not None and flip.version > self._told and monotonic() > flip.at + SETTLED_S:
            self._told = flip.version
            delays = demo.delays(flip)
            slowest = f", after {1000 * max(delays.values()):.1f} ms at the most" if delays else ""
            self.say(f"  {len(delays)} of {len(demo.places)} edges see it{slowest}")
        refusing = {name for name, place in demo.places.items() if place.error is not None}
        if refusing == self._refusing and monotonic() - self._told_at < TELL_EVERY_S:
            return
        self._refusing, self._told_at = refusing, monotonic()
        for place in demo.places.values():
            if place.is_cut:
                self.say(f"  {place.name} is {state_of(place)}")


class Table(Screen):
    """A live table, with what happened last below it."""

    def __init__(self, demo: Demo, live: Any, rich: dict[str, Any]) -> None:
        super().__init__(demo)
        self._live, self._rich = live, rich
        self._news: list[str] = []

    def say(self, text: str) -> None:
        """Tell of something that happened."""
        self._news = [*self._news, f"{self.demo.elapsed:6.2f} s  {text}"][-NEWS_SHOWN:]
        self.draw(self.demo)

    def draw(self, demo: Demo) -> None:
        """Show how things are now; called often."""
        table = self._rich["table"].Table(title=f"kvengine: a flag at {len(demo.places)} edges")
        for name in ("edge", "region", "flag", "version", "age", "seen after", "reads"):
            table.add_column(name, justify="left" if name in ("edge", "region") else "right")
        table.add_column("state", min_width=41)
        delays = demo.delays(demo.flips[-1]) if demo.flips else {}
        for name, place in demo.places.items():
            table.add_row(*self._row(demo, name, place, delays.get(name)))
        text = self._rich["text"].Text("\n".join(self._news))
        self._live.update(self._rich["console"].Group(table, text))

    def _row(self, demo: Demo, name: str, place: Place, delay: float | None) -> list[str]:
        shown = place.shown
        flag, version, age = "-", "-", "-"
        if shown is not None and place.error is None:
            flag, version, age = shown.value, str(shown.version), f"{1000 * shown.age:,.0f} ms"
            flag = f"[green]{flag}[/]" if flag == "on" else flag
            if demo.flips and monotonic() - place.seen.get(shown.version, 0.0) < FRESH_S:
                flag = f"[reverse]{flag}[/]"
        color = "red" if place.error else "yellow" if place.is_cut else "default"
        after = "" if delay is None else f"{1000 * delay:,.1f} ms"
        state = f"[{color}]{state_of(place)}[/]"
        return [name, demo.via[name], flag, version, age, after, f"{place.reads:,}", state]


def state_of(place: Place) -> str:
    """Return how an edge is doing."""
    if place.error is not None:
        return "cut off, and refuses to answer" if place.is_cut else "does not answer"
    if not place.is_cut or place.shown is None:
        return "connected"
    left = place.edge.settings.bound_s - place.shown.age
    return f"cut off, shows what it has {max(left, 0.0):.1f} s longer"


@contextmanager
def screen(demo: Demo) -> Iterator[Screen]:
    """Give what shows the demo: a live table if there is a terminal, and rich for it."""
    if not on_terminal():
        yield Screen(demo)
        return
    try:
        rich = {
            name: importlib.import_module(f"rich.{name}")
            for name in ("console", "live", "table", "text")
        }
    except ImportError:
        message(HINT)
        yield Screen(demo)
        return
    with rich["live"].Live(refresh_per_second=20, transient=False) as live:
        yield Table(demo, live, rich)
