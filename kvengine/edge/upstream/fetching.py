"""Requests to the upstream: which readers send one, which join one, and what the others get.

It never waits and starts no thread: each reader passes a function that is called with the answer,
at once or later.  So the same code runs in a server and in a simulated world.

Invariants:

* When several readers miss a key at the same time, one asks the upstream.  If it is interrupted,
  the timer thread asks again for the others.
* While the breaker is open, only the reader of a probe waits for an answer.
* A call from inside another one, such as from a signal handler, never waits for the interrupted
  code: if its thread holds the lock that the answer would need, it gets a copy or an error at once.
* A key whose minimum version is uncertain is requested once the version of the primary is known.
"""

from __future__ import annotations

import random
import threading
from abc import ABCMeta, abstractmethod
from collections.abc import Callable, Sequence
from threading import get_ident

from kvengine.edge.change_buffer import CallLater
from kvengine.edge.counters import Counters
from kvengine.edge.disk import DiskCache
from kvengine.edge.edge_cache import EdgeCache
from kvengine.edge.lookup import CacheEntry, Lookup
from kvengine.edge.messages import Answer, Done, KeyRequest, ReadOptions, ReadResult, Upstream
from kvengine.edge.settings import Settings
from kvengine.edge.upstream.breaker import UNREACHABLE, Breaker
from kvengine.edge.upstream.flight import Flight, Reader, Waiter, drain
from kvengine.edge.watermarks import Watermarks
from kvengine.errors import StoreClosed, UpstreamUnavailable

UNCERTAIN = (1 << 64) - 1  # the minimum version of all keys while it is not known
transport_threads: set[int] = set()  # the threads that carry requests and answers of all upstreams
FORKED = (
    "this process was forked from the one that opened the edge: open a new Edge here, after "
    "the fork"
)


class Fetching(Lookup, metaclass=ABCMeta):
    """The requests of an edge; see EdgeNode for the arguments.

    Thread-safety: threads may share it.
    """

    def __init__(
        self,
        upstream: Upstream,
        settings: Settings,
        *,
        monotonic: Callable[[], float],
        wall: Callable[[], float],
        later: CallLater,
        disk: DiskCache | None = None,
        seed: int | None = None,
    ) -> None:
        self.copies = EdgeCache(settings, disk, seed)
        super().__init__(self.copies, settings, monotonic, wall)
        self.settings, self._counters = settings, Counters()
        self._upstream, self._monotonic, self._wall = upstream, monotonic, wall
        self._later = later
        # Reentrant: a signal handler or a finalizer may read in the thread that holds it.
        self._lock = threading.RLock()
        self.begun = False  # the minimum version of all keys is known
        self.watermarks = Watermarks(settings.watermark_groups)
        self.breaker = Breaker(settings, random.Random(seed).random)  # noqa: S311
        self._in_flight: dict[bytes, Flight] = {}
        self.closed_reason = "the edge was closed"
        self._awaiting_version: list[Reader] = []  # readers of keys with uncertain minimum versions
        self._version_requested_at = float("-inf")
        self._version_requester = 0  # the thread that is about to ask for the version

    @property
    def counters(self) -> Counters:
        """The counters so far."""
        counts = self._counters
        counts.memory_hits, counts.disk_hits = self.memory_hits, self.disk_hits
        return counts

    def ask_for(self, readers: Sequence[Reader]) -> None:
        """Request keys from the upstream, each once, and call each `done` with its result."""
        flights: list[Flight] = []
        refused: list[Reader] = []
        uncertain: list[Reader] = []
        try:
            is_inside = self._is_inside()
            with self._lock:
                error = self._refusal_reason(is_inside)
                if error is not None:
                    refused.extend(readers)
                else:
                    for reader in readers:
                        self._sort(reader, flights, uncertain, refused)
                    for flight in flights:
                        flight.sender = get_ident()
            if refused:
                self._refuse(refused, error)
            if uncertain:
                self._resolve_uncertain(uncertain)
            if flights:
                self._send(flights)
        except BaseException:  # interrupted, but other readers may wait for the same answers
            self._later(0.0, lambda: self._retry_waiters(flights))
            raise

    def _refusal_reason(self, is_inside: bool) -> Exception | None:
        """Return why no request can be sent now."""
        if self.closed:
            return StoreClosed(self.closed_reason)
        if not self.begun:
            return UpstreamUnavailable("this edge has not reached the primary since it was opened")
        if is_inside:
            return UpstreamUnavailable(
                "this read interrupted another read of the same edge in the same thread (in a "
                "signal handler or a finalizer); read again after it has returned"
            )
        return None

    def _is_inside(self) -> bool:
        """Return whether this thread already holds the lock."""
        return bool(self._lock._is_owned())  # type: ignore[attr-defined]

    def _sort(
        self,
        reader: Reader,
        flights: list[Flight],
        uncertain: list[Reader],
        refused: list[Reader],
    ) -> None:
        """Let a reader join a request, or add it to those that need a new one or are refused."""
        key, options, done = reader
        now = self._monotonic()
        if self.watermarks.is_uncertain(key):
            uncertain.append(reader)
            return
        cached = self.copies.peek(key)
        waiter = Waiter(options, done, "MISS" if cached is None else "REVALIDATE", now)
        flight = self._in_flight.get(key)
        min_version = max(self.watermarks.of(key), options.min_version)
        oldest_sent = now - self.settings.timeout_s
        # The upstream may be an edge that answers from a copy.
        accepts_older = flight is not None and flight.ttl > options.ttl
        would_deadlock = flight is not None and self._would_deadlock(flight)
        is_new = flight is None or flight.min_version < min_version or flight.sent < oldest_sent
        if flight is None or is_new or accepts_older or would_deadlock:
            if self.breaker.error is not None and (
                self._stale(key, options) is not None or not self.breaker.allows(now)
            ):
                refused.append(reader)
                return
            flight = Flight(key, min_version, cached, options.ttl, now)
            flights.append(flight)  # first: after an interruption, flights in the list are retried
            self._in_flight[key] = flight
            if self.breaker.error is not None:
                self._later(self.settings.grace_s, lambda: self._end_probe(flight))
        flight.waiters.append(waiter)

    def _would_deadlock(self, flight: Flight) -> bool:
        """Return whether waiting for a request in this thread may keep it from being answered."""
        me = get_ident()
        if me in transport_threads:
            return True
        # A nested call would wait for itself, or for a thread that waits for this one.
        return flight.sender != 0 and any(one.sender == me for one in self._in_flight.values())

    def _refuse(self, readers: Sequence[Reader], error: Exception | None = None) -> None:
        """Answer refused readers at once."""
        error = error or self.breaker.refusal()
        self._counters.refused += len(readers)
        for key, options, done in readers:
            self._fall_back(key, options, done, error)

    # -- uncertain minimum versions

    def _resolve_uncertain(self, readers: Sequence[Reader] = ()) -> None:
        """Get the primary's version, the new minimum of uncertain keys; then serve the readers."""
        with self._lock:
            now = self._monotonic()
            is_allowed = self.breaker.allows(now)
            is_asked = now < self._version_requested_at + self.settings.timeout_s
            me = get_ident()  # if it is the requester, this is a nested call
            is_asked = is_asked and self._version_requester != me and me not in transport_threads
            if is_allowed:
                self._awaiting_version += readers
                if not is_asked:
                    self._version_requested_at, count = now, self.watermarks.uncertain_count
                    self._version_requester = get_ident()
        if not is_allowed:
            self._refuse(readers)
        elif not is_asked:
            try:
                self._upstream.origin_version(
                    lambda version: self._on_origin_version(version, count)
                )
            except BaseException:  # interrupted, but other readers may wait for the version
                self._version_requested_at = float("-inf")
                self._later(0.0, self._resolve_uncertain)
                raise
            finally:
                self._version_requester = 0

    def _on_origin_version(self, version: int | Exception, count: int) -> None:
        opens = False
        with self._lock:
            self._version_requested_at = float("-inf")
            readers, self._awaiting_version = self._awaiting_version, []
            if isinstance(version, Exception):
                opens = self.breaker.failed(version, self._monotonic())
            else:
                self.breaker.answered(self._monotonic())
                self.watermarks.resolve(version, count)
                self._set_min_version()
        if isinstance(version, Exception):
            for key, options, done in readers:
                self._fall_back(key, options, done, version)
        elif readers:
            self.ask_for(readers)
        elif self.watermarks.has_uncertain:
            self._resolve_uncertain()
        if opens:
            self._end_waiting(self.breaker.refusal())

    def _set_min_version(self) -> None:
        """Publish the minimum version of all keys to the compiled readers."""
        self.min_version = (
            UNCERTAIN if self.watermarks.is_uncertain(None) else self.watermarks.of_all
        )

    def _refresh(self, key: bytes, cached: CacheEntry, options: ReadOptions) -> None:
        """Refresh a popular key in the background before its copy is too old."""
        if key in self._in_flight or self.breaker.error is not None or self._is_inside():
            return
        flight = Flight(key, self.watermarks.of(key), cached, options.ttl, self._monotonic())
        try:
            with self._lock:
                if key in self._in_flight or self.watermarks.is_uncertain(key):
                    return
                self._in_flight[key] = flight
                self._counters.refreshes += 1
            self._send([flight])
        except BaseException:
            self._later(0.0, lambda: self._retry_waiters([flight]))
            raise

    def _send(self, flights: list[Flight]) -> None:
        sent = self._monotonic()
        for flight in flights:
            flight.sent = sent
            flight.attempts += 1
        self._counters.requests += len(flights)
        requests = [
            KeyRequest(
                one.key, one.min_version, 0 if one.cached is None else one.cached.version, one.ttl
            )
            for one in flights
        ]
        self._upstream.fetch(requests, lambda result: self._on_answers(flights, result))
        for flight in flights:
            flight.sender = 0

    @abstractmethod
    def _on_answers(self, flights: list[Flight], result: list[Answer] | Exception) -> None:
        """Process answers: decide for each waiting reader whether its answer is good enough."""

    def _retry_waiters(self, flights: list[Flight]) -> None:
        """Send the requests of interrupted readers again for those that wait for the same keys."""
        readers: list[Reader] = []
        with self._lock:
            for flight in flights:
                self._remove_flight(flight)
                readers += [(flight.key, waiter.options, waiter.done) for waiter in flight.waiters]
                flight.waiters.clear()
        if readers:
            self.ask_for(readers)

    def _failed(self, flights: list[Flight], error: Exception) -> None:
        """Answer with a copy if it is not too old, else with the error."""
        with self._lock:
            opens = self.breaker.failed(error, self._monotonic())
            for flight in flights:
                self._remove_flight(flight)
        for flight in flights:
            for waiter in drain(flight.waiters):
                self._fall_back(flight.key, waiter.options, waiter.done, error)
        if opens:
            self._end_waiting(self.breaker.refusal())

    def poll_failed(self, error: Exception) -> None:
        """A poll failed."""
        with self._lock:
            opens = self.breaker.poll_failed(error, self._monotonic())
        if opens:
            self._end_waiting(self.breaker.refusal())

    def poll_answered(self) -> None:
        """A poll was answered."""
        with self._lock:
            self.breaker.poll_answered()
            has_uncertain = self.watermarks.has_uncertain
        if has_uncertain:
            self._resolve_uncertain()

    def _end_waiting(self, error: Exception) -> None:
        """Answer all waiters: the upstream does not answer, or this edge is closing."""
        with self._lock:
            flights = list(self._in_flight.values())
            self._in_flight.clear()
            readers, self._awaiting_version = self._awaiting_version, []
        for key, options, done in readers:
            self._fall_back(key, options, done, error)
        for flight in flights:
            for waiter in drain(flight.waiters):
                self._fall_back(flight.key, waiter.options, waiter.done, error)

    def _end_probe(self, flight: Flight) -> None:
        """Answer the readers of a probe that timed out."""
        with self._lock:
            if self.breaker.error is None or self._in_flight.get(flight.key) is not flight:
                return
            self.breaker.failed(self.breaker.error, self._monotonic())
            error = self.breaker.refusal()
            self._remove_flight(flight)
        for waiter in drain(flight.waiters):
            self._fall_back(flight.key, waiter.options, waiter.done, error)

    def end(self) -> None:
        """Stop sending requests, and answer the waiters with an error."""
        self.closed = True
        self._end_waiting(StoreClosed(self.closed_reason))

    def after_fork(self) -> None:
        """Refuse reads in this forked process, where nothing keeps the copies current."""
        self.closed, self.closed_reason = True, FORKED
        self._lock = threading.RLock()
        self._in_flight, self._awaiting_version = {}, []

    def _fall_back(self, key: bytes, options: ReadOptions, done: Done, error: Exception) -> None:
        shown = self._stale(key, options) if isinstance(error, UNREACHABLE) else None
        if shown is None:
            self._counters.errors += 1
            done(error)
        else:
            self._counters.stale += 1
            done(shown)

    def _stale(self, key: bytes, options: ReadOptions) -> ReadResult | None:
        """Return the copy of a key that may be shown when the upstream does not answer."""
        synced_at, position, covered_from = self.synced_at, self.position, self.covered_from
        cached = self.copies.peek(key)
        if cached is None or (cached.expires_at is not None and cached.expires_at <= self._wall()):
            return None
        validated_at, as_of = cached.validated_at, cached.as_of
        if as_of >= covered_from:
            validated_at, as_of = max(validated_at, synced_at), max(as_of, position)
        now = self._monotonic()
        bound = self.settings.bound_s if cached.version else self.settings.negative_ttl_s
        min_version = max(options.min_version, self.watermarks.of_all)
        if now - validated_at >= max(bound, options.stale_if_error) or as_of < min_version:
            return None
        cached.read_at = now
        return cached.shown(now - validated_at, as_of, "STALE")

    def _remove_flight(self, flight: Flight) -> None:
        if self._in_flight.get(flight.key) is flight:
            del self._in_flight[flight.key]
