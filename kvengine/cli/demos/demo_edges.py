"""``kvengine demo edges``: a flag, flipped at one place and seen at all others.

The database and the edges are real ones, in threads of this process; the only thing that is
played is the cut of one edge's way to its upstream.

Invariants:
* it ends by itself, and leaves no file and no thread;
* each claim at its end is checked on every read that was made.
"""

from __future__ import annotations

import random
import tempfile
from contextlib import ExitStack
from itertools import pairwise
from time import monotonic, sleep
from typing import Any, NamedTuple

import kvengine
from kvengine.cli.demos.demo_places import KEY, Place
from kvengine.cli.demos.demo_report import Report
from kvengine.cli.demos.demo_table import Screen, screen
from kvengine.cli.text import counted

SECONDS_MIN = 4.0
REGIONS = {"europe": ("ams", "lon", "fra"), "asia": ("sin", "nrt"), "america": ("iad", "gru")}
CUT = "gru"
CUT_AT, HEALED_AT, BOUND = 0.3, 0.8, 0.3  # shares of the time; so the bound ends while it is cut
FLIPS = 16
STEP_S = 0.05
COME_S = 10.0  # how long the demo waits for what should come at once


class Flip(NamedTuple):
    """A change of the flag."""

    version: int
    place: str
    value: str
    at: float


class Demo:
    """The demo while it runs.

    Args:
        seconds: how long it is to take.
        cleanup: closes what it opens.
    """

    def __init__(self, seconds: float, cleanup: ExitStack) -> None:
        self.seconds, self.bound_s = seconds, BOUND * seconds
        folder = cleanup.enter_context(tempfile.TemporaryDirectory(prefix="kvengine-demo-"))
        self.db = cleanup.enter_context(kvengine.open(folder))
        self.db.namespace("flags").put(KEY, "off")
        settings: dict[str, Any] = {
            "bound_s": self.bound_s,
            "cache_ttl_s": self.bound_s,
            "hold_s": min(1.0, self.bound_s / 4),
            "retry_max_s": 0.2,
            "memory_bytes": 1 << 20,
        }
        self.places: dict[str, Place] = {}
        self.via: dict[str, str] = {}
        for region, names in REGIONS.items():
            edge = kvengine.Edge(self.db, region, **settings)
            cleanup.callback(edge.close)
            for name in names:
                self.via[name] = region
                self.places[name] = place = Place(edge, name, **settings)
                cleanup.callback(place.close)
        self.flips: list[Flip] = []
        self.cut_at = self.healed_at = 0.0
        self.version_at_heal = 0
        self._chance = random.Random(1)
        self.started = monotonic()

    @property
    def elapsed(self) -> float:
        """Seconds since it began."""
        return monotonic() - self.started

    def flip(self) -> Flip:
        """Write the other value at an edge that is not cut off."""
        place = self._chance.choice([one for one in self.places.values() if not one.is_cut])
        value = "on" if not self.flips or self.flips[-1].value == "off" else "off"
        at = monotonic()
        found = Flip(place.flags.put(KEY, value), place.name, value, at)
        self.flips.append(found)
        return found

    def cut(self) -> None:
        """Let nothing reach one edge."""
        self.places[CUT].edge.way.is_cut = True
        self.cut_at = monotonic()

    def heal(self) -> None:
        """Let news reach it again."""
        self.version_at_heal = self.flips[-1].version
        self.healed_at = monotonic()
        self.places[CUT].edge.way.is_cut = False

    def delays(self, flip: Flip) -> dict[str, float]:
        """Return how long after a change began each edge saw it."""
        return {
            name: max(place.seen[flip.version] - flip.at, 0.0)
            for name, place in self.places.items()
            if flip.version in place.seen
        }

    def has_come(self) -> bool:
        """Return whether every connected edge has seen the newest change."""
        version = self.flips[-1].version if self.flips else 0
        return all(
            place.is_cut or any(seen >= version for seen in list(place.seen))
            for place in self.places.values()
        )

    def behind(self) -> float:
        """Return how long after a change of the flag the older value was shown, at the most."""
        return max(
            place.last[old.version] - new.at
            for place in self.places.values()
            for old, new in pairwise(self.flips)
            if old.version in place.last
        )

    def wait_until(self, share: float, show: Screen) -> None:
        """Let a share of the time pass, and show what happens."""
        while (left := share * self.seconds - self.elapsed) > 0:
            show.draw(self)
            sleep(min(STEP_S, left))
        end = monotonic() + COME_S
        while not self.has_come() and monotonic() < end:  # on a machine that is very busy
            show.draw(self)
            sleep(STEP_S)


def edges_demo(seconds: float) -> bool:
    """Run the demo; return whether every check held."""
    with ExitStack() as cleanup:
        demo = Demo(seconds, cleanup)
        _settle(demo)
        with screen(demo) as show:
            _act(demo, show)
        report = Report()
        _judge(demo, report)
    report.step(f"{report.passed} checks held, {report.failed} failed, in {demo.elapsed:.1f} s.")
    return report.failed == 0


def _settle(demo: Demo) -> None:
    """Wait until every edge has shown the flag once."""
    end = monotonic() + COME_S
    while any(place.shown is None for place in demo.places.values()) and monotonic() < end:
        sleep(0.005)
    demo.started = monotonic()


def _act(demo: Demo, show: Screen) -> None:
    show.say(
        f"{len(demo.places)} edges in {len(REGIONS)} regions read the flag {KEY!r} all the "
        f"time; no value may be shown for more than {demo.bound_s:.1f} s after it changed."
    )
    for number in range(1, FLIPS):
        share = number / FLIPS
        demo.wait_until(share, show)
        flip = demo.flip()
        show.flipped(demo, flip)
        if not demo.cut_at and share >= CUT_AT:
            demo.wait_until(share + 0.2 / FLIPS, show)
            demo.cut()
            show.say(f"{CUT} is cut off. It keeps what it has, for {demo.bound_s:.1f} s.")
        elif not demo.healed_at and share >= HEALED_AT:
            demo.heal()
            show.say(f"{CUT} is connected again.")
    demo.wait_until(1.0, show)


def _judge(demo: Demo, report: Report) -> None:
    lone = demo.places[CUT]
    others = [place for name, place in demo.places.items() if name != CUT]
    last = demo.flips[-1].version
    end = monotonic() + COME_S
    while any(last not in place.seen for place in demo.places.values()) and monotonic() < end:
        sleep(STEP_S)
    delays = sorted(
        delay for flip in demo.flips for name, delay in demo.delays(flip).items() if name != CUT
    )
    report.step("What was seen")
    if delays:
        report.figure(
            f"{counted(len(demo.flips), 'change')}, at the other edges after "
            f"{1000 * delays[len(delays) // 2]:.1f} ms (p50), {1000 * delays[-1]:.1f} ms (max)"
        )
    back = [
        moment - demo.healed_at
        for version, moment in lone.seen.items()
        if version >= demo.version_at_heal
    ]
    if back:
        report.figure(f"{CUT} was current {1000 * min(back):.1f} ms after it was connected again")
    reads = sum(place.reads for place in demo.places.values())
    seen = all(flip.version in place.seen for flip in demo.flips for place in others)
    report.check(f"each change was seen at each of {len(others)} connected edges", seen)
    report.check(
        f"nobody went back to an older value, in {reads:,} reads",
        not any(place.went_back for place in demo.places.values()),
    )
    oldest, bound_s = max(place.oldest_s for place in demo.places.values()), demo.bound_s
    report.check(
        f"no value was shown for {bound_s:.1f} s after it changed: {demo.behind():.2f} s at the "
        f"most, at an age of at most {oldest:.2f} s",
        demo.behind() <= bound_s and oldest <= bound_s,
    )
    report.check(
        f"past that, {CUT} refused to answer instead ({lone.refused:,} reads)", lone.refused > 0
    )
    report.check(f"{CUT} shows the newest value again", last in lone.seen)
