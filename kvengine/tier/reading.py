"""Reading at a location: from copies, or by questions to the upstream.

It waits for nothing and starts no thread: who asks gives a function that is called with the
answer, at once or later.  So the same code runs in a server and in a simulated world.

Invariants:

* No answer below the floor of its key is kept or shown.
* Of several readers that miss a key at once, one asks the upstream.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from kvengine.errors import UpstreamUnavailable
from kvengine.tier.board import Done
from kvengine.tier.counters import Counters
from kvengine.tier.disk import DiskCopies
from kvengine.tier.floors import Floors
from kvengine.tier.gathering import Gathering
from kvengine.tier.held import Copies
from kvengine.tier.lookup import Held, Lookup
from kvengine.tier.messages import Answer, Shown, Want
from kvengine.tier.settings import Settings

ATTEMPTS = 4  # an answer that is too old is asked for again


class Upstream(Protocol):
    """Where a location gets what it does not hold: the center, or another location."""

    def fetch(self, wants: Sequence[Want], done: Done) -> None:
        """Call `done` with a list of Answers, or with the error instead.

        An upstream that may be silent calls it with UpstreamUnavailable after some time.
        """

    def poll(self, after: int, hold_s: float, done: Done) -> None:
        """Call `done` with News when there are some, at the latest after `hold_s` seconds."""

    def origin_version(self, done: Done) -> None:
        """Call `done` with the newest version of the center, asked now."""


class Ask(NamedTuple):
    """What a reader wants."""

    ttl: float  # seconds: how old it may be
    floor: int = 0  # it must be true of this version of the center, or of a later one
    stale_if_error: float = 0.0  # seconds: how old it may be if the upstream does not answer


class Waiter(NamedTuple):
    """A reader that waits for an answer."""

    ask: Ask
    done: Done
    status: str
    since: float


class Flight:
    """A question that is under way."""

    __slots__ = ("attempts", "floor", "held", "key", "sent", "ttl", "waiters")

    def __init__(self, key: bytes, floor: int, held: Held | None, ttl: float) -> None:
        self.key, self.floor, self.held, self.ttl = key, floor, held, ttl
        self.sent, self.attempts = float("inf"), 0
        self.waiters: list[Waiter] = []


class Reading(Lookup):
    """Copies in front of an upstream.

    Args:
        upstream: where to ask.
        settings: see Settings.
        monotonic: tells the time, in seconds; how it stands to other clocks does not matter.
        wall: tells the time of day by which keys end.
        disk: copies that survive a restart.
        seed: makes what the memory lets go the same each time.

    Thread-safety: threads may share it.
    """

    def __init__(
        self,
        upstream: Upstream,
        settings: Settings,
        *,
        monotonic: Callable[[], float],
        wall: Callable[[], float],
        disk: DiskCopies | None = None,
        seed: int | None = None,
    ) -> None:
        self.copies = Copies(settings, disk, seed)
        super().__init__(self.copies, settings, monotonic, wall)
        self.settings, self._counters = settings, Counters()
        self._upstream, self._monotonic, self._wall = upstream, monotonic, wall
        self._lock = threading.Lock()
        self.begun = False  # it knows what it must not fall behind
        self.floors = Floors(settings.floor_groups)
        self._flights: dict[bytes, Flight] = {}

    @property
    def counters(self) -> Counters:
        """What was done so far."""
        counts = self._counters
        counts.memory_hits, counts.disk_hits = self.memory_hits, self.disk_hits
        return counts

    # -- reading

    def read(self, key: bytes, ask: Ask, done: Done) -> None:
        """Call `done` with Shown, from what is held or from the upstream, or with the error."""
        shown = self.lookup(key, ask)
        if shown is not None:
            done(shown)
        else:
            self.ask_for([(key, ask, done)])

    def read_many(self, wanted: Sequence[tuple[bytes, Ask]], done: Done) -> None:
        """Call `done` with a list, of each key Shown or the error; the upstream is asked once."""
        gathering = Gathering(len(wanted), done)
        missing: list[tuple[bytes, Ask, Done]] = []
        for number, (key, ask) in enumerate(wanted):
            shown = self.lookup(key, ask)
            if shown is not None:
                gathering.place(number)(shown)
            else:
                missing.append((key, ask, gathering.place(number)))
        if missing:
            self.ask_for(missing)

    def ask_for(self, readers: Sequence[tuple[bytes, Ask, Done]]) -> None:
        """Ask the upstream for keys, each only once, and call each `done` with its answer."""
        if not self.begun:
            error = UpstreamUnavailable("this location has not reached the center since it began")
            self._counters.errors += len(readers)
            for _, _, done in readers:
                done(error)
            return
        flights = []
        given_up = self._monotonic() - self.settings.timeout_s
        with self._lock:
            for key, ask, done in readers:
                held = self.copies.peek(key)
                status = "MISS" if held is None else "REVALIDATE"
                waiter = Waiter(ask, done, status, self._monotonic())
                flight = self._flights.get(key)
                floor = max(self._floor_of(key), ask.floor)
                if flight is None or flight.floor < floor or flight.sent < given_up:
                    flight = self._flights[key] = Flight(key, floor, held, ask.ttl)
                    flights.append(flight)
                flight.waiters.append(waiter)
        if flights:
            self._send(flights)

    def _floor_of(self, key: bytes) -> int:
        """Return the version that an answer about a key must be true of, at least."""
        return max(self.floor, self.floors.of(key))

    def _from_disk(self, key: bytes) -> Held | None:
        """Return the copy that is on disk, and hold it in memory if it is still the right one."""
        copies = self.copies
        if copies.disk is None:
            return None
        moves = copies.moves
        held = copies.disk.get(key)
        if held is not None:
            with self._lock:
                if copies.moves == moves:  # else news may have come while it was read
                    copies.promote(key, held)
        return held

    def _refresh(self, key: bytes, held: Held, ask: Ask) -> None:
        """Ask for a popular key before its copy is too old to be shown; nobody waits for it."""
        with self._lock:
            if key in self._flights:
                return
            flight = self._flights[key] = Flight(key, self._floor_of(key), held, ask.ttl)
            self._counters.refreshes += 1
        self._send([flight])

    def _send(self, flights: list[Flight]) -> None:
        sent = self._monotonic()
        for flight in flights:
            flight.sent = sent
            flight.attempts += 1
        self._counters.questions += len(flights)
        wants = [
            Want(
                flight.key,
                flight.floor,
                flight.held.version if flight.held is not None else 0,
                flight.ttl,
            )
            for flight in flights
        ]
        self._upstream.fetch(wants, lambda result: self._landed(flights, result))

    # -- answers

    def _landed(self, flights: list[Flight], result: list[Answer] | Exception) -> None:
        if isinstance(result, Exception):
            self._failed(flights, result)
            return
        if not isinstance(result, list) or len(result) != len(flights):
            self._failed(flights, UpstreamUnavailable("the upstream answered another question"))
            return
        again, answered = [], []
        with self._lock:
            for flight, answer in zip(flights, result, strict=True):
                flight.floor = max(flight.floor, self._floor_of(flight.key))
                self.known_version = max(self.known_version, answer.as_of)
                late = self._monotonic() - flight.sent + answer.age >= max(
                    flight.ttl, self.settings.timeout_s
                )
                useless = late or not _is_complete(answer, flight)
                if useless or max(answer.as_of, answer.version) < flight.floor:
                    again.append(flight)
                    continue
                held = self._keep(flight, answer)
                self._forget_flight(flight)
                answered.append((flight, held))
        for flight, held in answered:
            self._answer(flight, held)
        if again:
            self._try_again(again)

    def _keep(self, flight: Flight, answer: Answer) -> Held:
        """Take an answer among the copies, and return it."""
        key, checked = flight.key, flight.sent - answer.age
        as_of = max(answer.as_of, answer.version)
        if answer.unchanged and flight.held is not None:
            self._counters.unchanged += 1
            held = flight.held.checked_again(as_of, checked)
        else:
            held = Held(
                answer.value, answer.metadata, answer.expires_at, answer.version, as_of, checked
            )
        present = self.copies.peek(key)
        if present is not None and _is_newer(present, held):
            return present  # news, or another question, brought it meanwhile
        if present is not None and present.version == held.version:
            held = held.checked_again(present.as_of, present.checked)
        self.floors.lift(key, held.version or as_of)
        if held.version or self.settings.negative_ttl_s > 0:
            self.copies.keep(key, held)
        else:
            self.copies.drop(key)
        return held

    def _answer(self, flight: Flight, held: Held) -> None:
        now = self._monotonic()
        held.read_at = now
        late: list[tuple[bytes, Ask, Done]] = []
        is_absent = held.version == 0 and not self.settings.negative_ttl_s
        has_expired = held.expires_at is not None and held.expires_at <= self._wall()
        for waiter in flight.waiters:
            if (is_absent or has_expired) and waiter.since > flight.sent:
                # It came after the question was sent: in between the key may have been made, or the
                # value may have expired.
                late.append((flight.key, waiter.ask, waiter.done))
                continue
            if waiter.status == "MISS":
                self._counters.misses += 1
            else:
                self._counters.revalidations += 1
            waiter.done(held.shown(now - held.checked, held.as_of, waiter.status))
        if late:
            self.ask_for(late)

    def _try_again(self, flights: list[Flight]) -> None:
        tired = [flight for flight in flights if flight.attempts >= ATTEMPTS]
        rest = [flight for flight in flights if flight.attempts < ATTEMPTS]
        for flight in tired:
            error = f"the upstream is behind this location: it is not at version {flight.floor}"
            self._failed([flight], UpstreamUnavailable(error))
        if rest:
            self._counters.retries += len(rest)
            self._send(rest)

    def _failed(self, flights: list[Flight], error: Exception) -> None:
        """Answer with what is held if it is not too old, or else with the error."""
        unavailable = isinstance(error, (UpstreamUnavailable, OSError))
        for flight in flights:
            with self._lock:
                self._forget_flight(flight)
            for waiter in flight.waiters:
                shown = self._stale(flight.key, waiter.ask) if unavailable else None
                if shown is None:
                    self._counters.errors += 1
                    waiter.done(error)
                else:
                    self._counters.stale += 1
                    waiter.done(shown)

    def _stale(self, key: bytes, ask: Ask) -> Shown | None:
        """Return what may be shown of a key when the upstream does not answer."""
        heard, position, covered_from = self.heard, self.position, self.covered_from
        held = self.copies.peek(key)
        if held is None or (held.expires_at is not None and held.expires_at <= self._wall()):
            return None
        checked, as_of = held.checked, held.as_of
        if as_of >= covered_from:
            checked, as_of = max(checked, heard), max(as_of, position)
        now = self._monotonic()
        bound = self.settings.bound_s if held.version else self.settings.negative_ttl_s
        floor = max(ask.floor, self.floor)
        if now - checked >= max(bound, ask.stale_if_error) or as_of < floor:
            return None
        held.read_at = now
        return held.shown(now - checked, as_of, "STALE")

    def _forget_flight(self, flight: Flight) -> None:
        if self._flights.get(flight.key) is flight:
            del self._flights[flight.key]


def _is_complete(answer: Answer, flight: Flight) -> bool:
    """Return False if an answer leaves out a value that is not held here."""
    if answer.unchanged:
        return flight.held is not None and flight.held.version == answer.version
    return answer.version == 0 or answer.value is not None


def _is_newer(present: Held, held: Held) -> bool:
    """True if a copy is newer than what the upstream just answered."""
    if held.version == 0 and present.expires_at is not None and present.version <= held.as_of:
        return False  # it was there and is absent now, without a change: it has expired
    return present.version > held.version and present.as_of >= held.as_of
