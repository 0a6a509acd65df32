"""``kvengine demo edges``: a flag, flipped at one place and seen at all others.

The database and the edges are real ones, in threads of this process; the only thing that is
played is the cut of one edge's way to its upstream.

Invariants:
* it ends by itself, and leaves no file and no thread;
* each claim at its end is checked on every read that was made.
"""

from __future__ import annotations

from contextlib import ExitStack
from time import monotonic, sleep

from kvengine.cli.demos.demo_places import COME_S, CUT, FLIPS, KEY, REGIONS, STEP_S, Demo
from kvengine.cli.demos.demo_report import Report
from kvengine.cli.demos.demo_table import Screen, screen
from kvengine.cli.formatting import counted

SECONDS_MIN = 4.0
CUT_AT, HEALED_AT = 0.3, 0.8  # shares of the time; so the bound ends while it is cut


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
        demo.wait_until(share, show.draw)
        flip = demo.flip()
        show.flipped(demo, flip)
        if not demo.cut_at and share >= CUT_AT:
            demo.wait_until(share + 0.2 / FLIPS, show.draw)
            demo.cut()
            show.say(f"{CUT} is cut off. It keeps what it has, for {demo.bound_s:.1f} s.")
        elif not demo.healed_at and share >= HEALED_AT:
            demo.heal()
            show.say(f"{CUT} is connected again.")
    demo.wait_until(1.0, show.draw)


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
