"""Reading at an edge: from copies, or from the upstream.

Invariants:

* No answer below the minimum version of its key is cached or shown.
* A reader that came after a request was sent does not accept "absent" from its answer, nor a value
  older than it asked for.
"""

from __future__ import annotations

from collections.abc import Sequence

from kvengine.edge.lookup import CacheEntry
from kvengine.edge.messages import Answer, Done, ReadOptions
from kvengine.edge.upstream.fetching import Fetching
from kvengine.edge.upstream.flight import Flight, Reader, drain
from kvengine.edge.upstream.gather import Gather
from kvengine.errors import UpstreamUnavailable

ATTEMPTS = 4  # requests are repeated if the answer is too old


class Reading(Fetching):
    """Reads from copies and from an upstream; see EdgeNode for the arguments.

    Thread-safety: threads may share it.
    """

    # -- reading

    def read(self, key: bytes, options: ReadOptions, done: Done) -> None:
        """Call `done` with a ReadResult, from a copy or from the upstream, or with the error."""
        shown = self.lookup(key, options)
        if shown is not None:
            done(shown)
        else:
            self.ask_for([(key, options, done)])

    def read_many(self, wanted: Sequence[tuple[bytes, ReadOptions]], done: Done) -> None:
        """Call `done` with a ReadResult or error for each key; one request goes upstream."""
        gather = Gather(len(wanted), done)
        missing: list[Reader] = []
        for number, (key, options) in enumerate(wanted):
            shown = self.lookup(key, options)
            if shown is not None:
                gather.callback(number)(shown)
            else:
                missing.append((key, options, gather.callback(number)))
        if missing:
            self.ask_for(missing)

    def _from_disk(self, key: bytes) -> CacheEntry | None:
        """Return the copy on disk, and cache it in memory unless the edge has changed meanwhile."""
        copies = self.copies
        if copies.disk is None:
            return None
        change_count = copies.change_count
        cached = copies.disk.get(key)
        if cached is not None:
            with self._lock:
                if (
                    copies.change_count == change_count
                ):  # else changes may have come while it was read
                    copies.promote(key, cached)
        return cached

    # -- answers

    def _on_answers(self, flights: list[Flight], result: list[Answer] | Exception) -> None:
        if isinstance(result, Exception):
            self._failed(flights, result)
            return
        if not isinstance(result, list) or len(result) != len(flights):
            self._failed(flights, UpstreamUnavailable("the upstream answered a different request"))
            return
        late, answered, uncertain = [], [], []
        with self._lock:
            self.breaker.answered(self._monotonic())
            for flight, answer in zip(flights, result, strict=True):
                if self.watermarks.is_uncertain(flight.key):
                    self._remove_flight(flight)
                    uncertain.append(flight)
                elif self._is_useful(flight, answer):
                    cached = self._keep(flight, answer)
                    self._remove_flight(flight)
                    answered.append((flight, cached))
                else:
                    late.append(flight)
        for flight, cached in answered:
            self._answer(flight, cached)
        if uncertain:
            self._retry_waiters(uncertain)
        if late:
            self._retry(late)

    def _is_useful(self, flight: Flight, answer: Answer) -> bool:
        """Return False if an answer is too old, or omits a value that is not cached here."""
        flight.min_version = max(flight.min_version, self.watermarks.of(flight.key))
        self.known_version = max(self.known_version, answer.as_of)
        late = self._monotonic() - flight.sent + answer.age >= max(
            flight.ttl, self.settings.timeout_s
        )
        useless = late or not _is_complete(answer, flight)
        return not (useless or max(answer.as_of, answer.version) < flight.min_version)

    def _keep(self, flight: Flight, answer: Answer) -> CacheEntry:
        """Cache an answer, and return the copy."""
        key, validated_at, change_count = (
            flight.key,
            flight.sent - answer.age,
            self.copies.change_count,
        )
        as_of = max(answer.as_of, answer.version)
        if answer.unchanged and flight.cached is not None:
            self._counters.unchanged += 1
            cached = flight.cached.revalidated(as_of, validated_at)
        else:
            cached = CacheEntry(
                answer.value,
                answer.metadata,
                answer.expires_at,
                answer.version,
                as_of,
                validated_at,
            )
        present = self.copies.peek(key)
        if present is not None and _is_newer(present, cached):
            return present  # it came with a change, or with another request
        if present is not None and present.version == cached.version:
            cached = cached.revalidated(present.as_of, present.validated_at)
        self.watermarks.advance(key, cached.version or as_of)
        if self.copies.change_count != change_count:
            return cached  # a write interrupted this one: do not replace what it cached
        if cached.version or self.settings.negative_ttl_s > 0:
            self.copies.keep(key, cached)
        else:
            self.copies.drop(key)
        return cached

    def _answer(self, flight: Flight, cached: CacheEntry) -> None:
        now = self._monotonic()
        cached.read_at = now
        late: list[Reader] = []
        is_absent = cached.version == 0 and not self.settings.negative_ttl_s
        has_expired = cached.expires_at is not None and cached.expires_at <= self._wall()
        for waiter in drain(flight.waiters):
            is_late = waiter.since - flight.sent > waiter.options.ttl
            if is_late or ((is_absent or has_expired) and waiter.since > flight.sent):
                # It came after the request was sent: the key may have been created since, or the
                # value may have expired or changed.
                late.append((flight.key, waiter.options, waiter.done))
                continue
            if waiter.status == "MISS":
                self._counters.misses += 1
            else:
                self._counters.revalidations += 1
            waiter.done(cached.shown(now - cached.validated_at, cached.as_of, waiter.status))
        if late:
            self.ask_for(late)

    def _retry(self, flights: list[Flight]) -> None:
        exhausted = [flight for flight in flights if flight.attempts >= ATTEMPTS]
        rest = [flight for flight in flights if flight.attempts < ATTEMPTS]
        for flight in exhausted:
            error = f"the upstream is behind this edge: it is not at version {flight.min_version}"
            self._failed([flight], UpstreamUnavailable(error))
        if rest:
            self._counters.retries += len(rest)
            self._send(rest)


def _is_complete(answer: Answer, flight: Flight) -> bool:
    """Return False if an answer omits a value that is not cached here."""
    if answer.unchanged:
        return flight.cached is not None and flight.cached.version == answer.version
    return answer.version == 0 or answer.value is not None


def _is_newer(present: CacheEntry, cached: CacheEntry) -> bool:
    """Return True if a copy is newer than what the upstream just answered."""
    if cached.version == 0 and present.expires_at is not None and present.version <= cached.as_of:
        return False  # absent without a change: the value has expired
    return present.version > cached.version and present.as_of >= cached.as_of
