"""Reading at an edge: from copies, or from answers of the upstream.

Invariants:

* No answer below the minimum version of its key is cached or shown.
* A reader that came after a request was sent does not accept from its answer that a key is absent,
  nor a value older than it asked for.
"""

from __future__ import annotations

from collections.abc import Sequence

from kvengine.edge.lookup import CacheEntry
from kvengine.edge.messages import Answer, Done, ReadOptions
from kvengine.edge.upstream.fetching import Fetching
from kvengine.edge.upstream.flight import Flight, Reader, each
from kvengine.edge.upstream.gather import Gather
from kvengine.errors import UpstreamUnavailable

ATTEMPTS = 4  # an answer that is too old is asked for again


class Reading(Fetching):
    """Copies in front of an upstream.

    Args:
        upstream: where to ask.
        settings: see Settings.
        monotonic: returns the time in seconds; it need not agree with other clocks.
        wall: tells the time of day by which keys end.
        later: calls a function after some seconds.
        disk: copies that survive a restart.
        seed: makes what the memory lets go, and pauses, the same each time.

    Thread-safety: threads may share it.
    """

    # -- reading

    def read(self, key: bytes, options: ReadOptions, done: Done) -> None:
        """Call `done` with a ReadResult, of a copy or from the upstream, or with the error."""
        shown = self.lookup(key, options)
        if shown is not None:
            done(shown)
        else:
            self.ask_for([(key, options, done)])

    def read_many(self, wanted: Sequence[tuple[bytes, ReadOptions]], done: Done) -> None:
        """Call `done` with a ReadResult or error of each key; the upstream is asked once."""
        gather = Gather(len(wanted), done)
        missing: list[Reader] = []
        for number, (key, options) in enumerate(wanted):
            shown = self.lookup(key, options)
            if shown is not None:
                gather.place(number)(shown)
            else:
                missing.append((key, options, gather.place(number)))
        if missing:
            self.ask_for(missing)

    def _from_disk(self, key: bytes) -> CacheEntry | None:
        """Return the copy that is on disk, and hold it in memory if it is still the right one."""
        copies = self.copies
        if copies.disk is None:
            return None
        moves = copies.moves
        held = copies.disk.get(key)
        if held is not None:
            with self._lock:
                if copies.moves == moves:  # else changes may have come while it was read
                    copies.promote(key, held)
        return held

    # -- answers

    def _landed(self, flights: list[Flight], result: list[Answer] | Exception) -> None:
        if isinstance(result, Exception):
            self._failed(flights, result)
            return
        if not isinstance(result, list) or len(result) != len(flights):
            self._failed(flights, UpstreamUnavailable("the upstream answered a different request"))
            return
        late, answered, doubtful = [], [], []
        with self._lock:
            self.breaker.answered(self._monotonic())
            for flight, answer in zip(flights, result, strict=True):
                if self.watermarks.in_doubt(flight.key):
                    self._forget_flight(flight)
                    doubtful.append(flight)
                elif self._is_useful(flight, answer):
                    held = self._keep(flight, answer)
                    self._forget_flight(flight)
                    answered.append((flight, held))
                else:
                    late.append(flight)
        for flight, held in answered:
            self._answer(flight, held)
        if doubtful:
            self._pass_on(doubtful)
        if late:
            self._try_again(late)

    def _is_useful(self, flight: Flight, answer: Answer) -> bool:
        """Return False if an answer is too old, or leaves something out that is not held here."""
        flight.min_version = max(flight.min_version, self.watermarks.of(flight.key))
        self.known_version = max(self.known_version, answer.as_of)
        late = self._monotonic() - flight.sent + answer.age >= max(
            flight.ttl, self.settings.timeout_s
        )
        useless = late or not _is_complete(answer, flight)
        return not (useless or max(answer.as_of, answer.version) < flight.min_version)

    def _keep(self, flight: Flight, answer: Answer) -> CacheEntry:
        """Take an answer among the copies, and return it."""
        key, checked, moves = flight.key, flight.sent - answer.age, self.copies.moves
        as_of = max(answer.as_of, answer.version)
        if answer.unchanged and flight.held is not None:
            self._counters.unchanged += 1
            held = flight.held.checked_again(as_of, checked)
        else:
            held = CacheEntry(
                answer.value, answer.metadata, answer.expires_at, answer.version, as_of, checked
            )
        present = self.copies.peek(key)
        if present is not None and _is_newer(present, held):
            return present  # changes, or another request, brought it meanwhile
        if present is not None and present.version == held.version:
            held = held.checked_again(present.as_of, present.checked)
        self.watermarks.advance(key, held.version or as_of)
        if self.copies.moves != moves:
            return held  # a write came from inside; what is newer must not be replaced
        if held.version or self.settings.negative_ttl_s > 0:
            self.copies.keep(key, held)
        else:
            self.copies.drop(key)
        return held

    def _answer(self, flight: Flight, held: CacheEntry) -> None:
        now = self._monotonic()
        held.read_at = now
        late: list[Reader] = []
        is_absent = held.version == 0 and not self.settings.negative_ttl_s
        has_expired = held.expires_at is not None and held.expires_at <= self._wall()
        for waiter in each(flight.waiters):
            is_late = waiter.since - flight.sent > waiter.options.ttl
            if is_late or ((is_absent or has_expired) and waiter.since > flight.sent):
                # It came after the request was sent: in between the key may have been made, or the
                # value may have expired or changed.
                late.append((flight.key, waiter.options, waiter.done))
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
            error = f"the upstream is behind this edge: it is not at version {flight.min_version}"
            self._failed([flight], UpstreamUnavailable(error))
        if rest:
            self._counters.retries += len(rest)
            self._send(rest)


def _is_complete(answer: Answer, flight: Flight) -> bool:
    """Return False if an answer leaves out a value that is not held here."""
    if answer.unchanged:
        return flight.held is not None and flight.held.version == answer.version
    return answer.version == 0 or answer.value is not None


def _is_newer(present: CacheEntry, held: CacheEntry) -> bool:
    """True if a copy is newer than what the upstream just answered."""
    if held.version == 0 and present.expires_at is not None and present.version <= held.as_of:
        return False  # it was there and is absent now, without a change: it has expired
    return present.version > held.version and present.as_of >= held.as_of
