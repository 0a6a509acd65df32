"""Asking the upstream: which readers join or send a request, and what the others get.

It never waits and starts no thread: each reader passes a function that is called with the answer,
at once or later.  So the same code runs in a server and in a simulated world.

Invariants:

* When several readers miss a key at the same time, one asks the upstream.  If it is interrupted,
  the timer thread asks again for the others.
* While the breaker is open, only the reader of a probe waits for an answer.
* A call from inside another one, such as from a signal handler, never waits for the interrupted
  code: if its thread holds the lock that the answer would need, it gets a copy or an error at once.
* An uncertain key is requested only once the version of the primary is known.
"""

from __future__ import annotations

import random
import threading
from abc import ABCMeta, abstractmethod
from collections.abc import Callable, Sequence
from threading import get_ident

from kvengine.edge.change_buffer import Later
from kvengine.edge.counters import Counters
from kvengine.edge.disk import DiskCache
from kvengine.edge.edge_cache import EdgeCache
from kvengine.edge.lookup import CacheEntry, Lookup
from kvengine.edge.messages import Answer, Done, KeyRequest, ReadOptions, ReadResult, Upstream
from kvengine.edge.settings import Settings
from kvengine.edge.upstream.breaker import SILENT, Breaker
from kvengine.edge.upstream.flight import Flight, Reader, Waiter, each
from kvengine.edge.watermarks import Watermarks
from kvengine.errors import StoreClosed, UpstreamUnavailable

IN_DOUBT = (1 << 64) - 1  # the minimum version of all keys while it is not known
carriers: set[int] = set()  # the threads of all upstreams that bring requests and answers
FORKED = (
    "this process was forked from the one that opened the edge: open a new Edge here, after "
    "the fork"
)


class Fetching(Lookup, metaclass=ABCMeta):
    """The requests of an edge; the arguments are those of Reading.

    Thread-safety: threads may share it.
    """

    def __init__(
        self,
        upstream: Upstream,
        settings: Settings,
        *,
        monotonic: Callable[[], float],
        wall: Callable[[], float],
        later: Later,
        disk: DiskCache | None = None,
        seed: int | None = None,
    ) -> None:
        self.copies = EdgeCache(settings, disk, seed)
        super().__init__(self.copies, settings, monotonic, wall)
        self.settings, self._counters = settings, Counters()
        self._upstream, self._monotonic, self._wall = upstream, monotonic, wall
        self._later = later
        # Of a thread that may come back while it holds it, from a signal handler or a finalizer.
        self._lock = threading.RLock()
        self.begun = False  # it knows what it must not fall behind
        self.watermarks = Watermarks(settings.watermark_groups)
        self.breaker = Breaker(settings, random.Random(seed).random)  # noqa: S311
        self._in_flight: dict[bytes, Flight] = {}
        self.why_closed = "the edge was closed"
        self._unsettled: list[Reader] = []  # those that wait until no key is uncertain
        self._settling_since = float("-inf")
        self._settler = 0  # the thread that is about to ask for the version

    @property
    def counters(self) -> Counters:
        """The counters so far."""
        counts = self._counters
        counts.memory_hits, counts.disk_hits = self.memory_hits, self.disk_hits
        return counts

    def ask_for(self, readers: Sequence[Reader]) -> None:
        """Ask the upstream for keys, each only once, and call each `done` with its answer."""
        flights: list[Flight] = []
        refused: list[Reader] = []
        doubtful: list[Reader] = []
        try:
            is_inside = self._is_inside()
            with self._lock:
                error = self._why_not(is_inside)
                if error is not None:
                    refused.extend(readers)
                else:
                    for reader in readers:
                        self._sort(reader, flights, doubtful, refused)
                    for flight in flights:
                        flight.sender = get_ident()
            if refused:
                self._refuse(refused, error)
            if doubtful:
                self._settle(doubtful)
            if flights:
                self._send(flights)
        except BaseException:  # other readers may wait for the same answer
            self._later(0.0, lambda: self._pass_on(flights))
            raise

    def _why_not(self, is_inside: bool) -> Exception | None:
        """Return why no request can be sent now."""
        if self.closed:
            return StoreClosed(self.why_closed)
        if not self.begun:
            return UpstreamUnavailable("this edge has not reached the primary since it was opened")
        if is_inside:
            return UpstreamUnavailable("this read was made from inside another one; read again")
        return None

    def _is_inside(self) -> bool:
        """Return whether this thread already holds the lock."""
        return bool(self._lock._is_owned())  # type: ignore[attr-defined]

    def _sort(
        self,
        reader: Reader,
        flights: list[Flight],
        doubtful: list[Reader],
        refused: list[Reader],
    ) -> None:
        """Let a reader join a request, or add it to those that need one, or may not ask."""
        key, options, done = reader
        now = self._monotonic()
        if self.watermarks.in_doubt(key):
            doubtful.append(reader)
            return
        held = self.copies.peek(key)
        waiter = Waiter(options, done, "MISS" if held is None else "REVALIDATE", now)
        flight = self._in_flight.get(key)
        min_version = max(self.watermarks.of(key), options.min_version)
        given_up = now - self.settings.timeout_s
        is_lax = flight is not None and flight.ttl > options.ttl  # an edge may answer from a copy
        is_below = flight is not None and self._is_below(flight)
        is_new = flight is None or flight.min_version < min_version or flight.sent < given_up
        if flight is None or is_new or is_lax or is_below:
            if self.breaker.error is not None and (
                self._stale(key, options) is not None or not self.breaker.admits(now)
            ):
                refused.append(reader)
                return
            flight = Flight(key, min_version, held, options.ttl, now)
            flights.append(flight)  # first: an interruption here gives back what is in the list
            self._in_flight[key] = flight
            if self.breaker.error is not None:
                self._later(self.settings.grace_s, lambda: self._end_probe(flight))
        flight.waiters.append(waiter)

    def _is_below(self, flight: Flight) -> bool:
        """Return whether waiting here could keep a request from being sent, or answered."""
        me = get_ident()
        if me in carriers:
            return True
        # A call from inside would wait for itself, or for a thread that waits for this one.
        return flight.sender != 0 and any(one.sender == me for one in self._in_flight.values())

    def _refuse(self, readers: Sequence[Reader], error: Exception | None = None) -> None:
        """Answer at once the readers that may not ask."""
        error = error or self.breaker.refusal()
        self._counters.refused += len(readers)
        for key, options, done in readers:
            self._give_up(key, options, done, error)

    # -- doubts

    def _settle(self, readers: Sequence[Reader] = ()) -> None:
        """Ask for the version of the primary, the minimum for uncertain keys; then for readers."""
        with self._lock:
            now = self._monotonic()
            is_admitted = self.breaker.admits(now)
            is_asked = now < self._settling_since + self.settings.timeout_s
            me = get_ident()  # if it is about to ask, this was called from inside
            is_asked = is_asked and self._settler != me and me not in carriers
            if is_admitted:
                self._unsettled += readers
                if not is_asked:
                    self._settling_since, count = now, self.watermarks.doubt_count
                    self._settler = get_ident()
        if not is_admitted:
            self._refuse(readers)
        elif not is_asked:
            try:
                self._upstream.origin_version(lambda version: self._settled(version, count))
            except BaseException:  # other readers may wait for the same answer
                self._settling_since = float("-inf")
                self._later(0.0, self._settle)
                raise
            finally:
                self._settler = 0

    def _settled(self, version: int | Exception, count: int) -> None:
        opens = False
        with self._lock:
            self._settling_since = float("-inf")
            readers, self._unsettled = self._unsettled, []
            if isinstance(version, Exception):
                opens = self.breaker.failed(version, self._monotonic())
            else:
                self.breaker.answered(self._monotonic())
                self.watermarks.settle(version, count)
                self._set_min_version()
        if isinstance(version, Exception):
            for key, options, done in readers:
                self._give_up(key, options, done, version)
        elif readers:
            self.ask_for(readers)
        elif self.watermarks.has_doubts:
            self._settle()
        if opens:
            self._end_waiting(self.breaker.refusal())

    def _set_min_version(self) -> None:
        """Publish the minimum version of all keys to readers of copies."""
        self.min_version = IN_DOUBT if self.watermarks.in_doubt(None) else self.watermarks.of_all

    def _refresh(self, key: bytes, held: CacheEntry, options: ReadOptions) -> None:
        """Refresh a popular key before its copy is too old; no reader waits for it."""
        if key in self._in_flight or self.breaker.error is not None or self._is_inside():
            return
        flight = Flight(key, self.watermarks.of(key), held, options.ttl, self._monotonic())
        try:
            with self._lock:
                if key in self._in_flight or self.watermarks.in_doubt(key):
                    return
                self._in_flight[key] = flight
                self._counters.refreshes += 1
            self._send([flight])
        except BaseException:
            self._later(0.0, lambda: self._pass_on([flight]))
            raise

    def _send(self, flights: list[Flight]) -> None:
        sent = self._monotonic()
        for flight in flights:
            flight.sent = sent
            flight.attempts += 1
        self._counters.requests += len(flights)
        requests = [
            KeyRequest(
                one.key, one.min_version, 0 if one.held is None else one.held.version, one.ttl
            )
            for one in flights
        ]
        self._upstream.fetch(requests, lambda result: self._landed(flights, result))
        for flight in flights:
            flight.sender = 0

    @abstractmethod
    def _landed(self, flights: list[Flight], result: list[Answer] | Exception) -> None:
        """Process answers: decide for each waiting reader whether it is good enough."""

    def _pass_on(self, flights: list[Flight]) -> None:
        """Ask again for readers of requests whose asker was interrupted."""
        readers: list[Reader] = []
        with self._lock:
            for flight in flights:
                self._forget_flight(flight)
                readers += [(flight.key, waiter.options, waiter.done) for waiter in flight.waiters]
                flight.waiters.clear()
        if readers:
            self.ask_for(readers)

    def _failed(self, flights: list[Flight], error: Exception) -> None:
        """Answer with a copy if it is not too old, or else with the error."""
        with self._lock:
            opens = self.breaker.failed(error, self._monotonic())
            for flight in flights:
                self._forget_flight(flight)
        for flight in flights:
            for waiter in each(flight.waiters):
                self._give_up(flight.key, waiter.options, waiter.done, error)
        if opens:
            self._end_waiting(self.breaker.refusal())

    def poll_failed(self, error: Exception) -> None:
        """The upstream did not answer a poll for changes."""
        with self._lock:
            opens = self.breaker.poll_failed(error, self._monotonic())
        if opens:
            self._end_waiting(self.breaker.refusal())

    def poll_answered(self) -> None:
        """The upstream answered a poll for changes."""
        with self._lock:
            self.breaker.poll_answered()
            is_wanted = self.watermarks.has_doubts
        if is_wanted:
            self._settle()

    def _end_waiting(self, error: Exception) -> None:
        """Release all waiters: the upstream does not answer, or this edge is closing."""
        with self._lock:
            flights = list(self._in_flight.values())
            self._in_flight.clear()
            readers, self._unsettled = self._unsettled, []
        for key, options, done in readers:
            self._give_up(key, options, done, error)
        for flight in flights:
            for waiter in each(flight.waiters):
                self._give_up(flight.key, waiter.options, waiter.done, error)

    def _end_probe(self, flight: Flight) -> None:
        """Release the readers of a probe that was not answered in time."""
        with self._lock:
            if self.breaker.error is None or self._in_flight.get(flight.key) is not flight:
                return
            self.breaker.failed(self.breaker.error, self._monotonic())
            error = self.breaker.refusal()
            self._forget_flight(flight)
        for waiter in each(flight.waiters):
            self._give_up(flight.key, waiter.options, waiter.done, error)

    def end(self) -> None:
        """Stop asking, and answer the waiters with an error."""
        self.closed = True
        self._end_waiting(StoreClosed(self.why_closed))

    def after_fork(self) -> None:
        """Refuse reads in this forked process, where nothing keeps the copies current."""
        self.closed, self.why_closed = True, FORKED
        self._lock = threading.RLock()
        self._in_flight, self._unsettled = {}, []

    def _give_up(self, key: bytes, options: ReadOptions, done: Done, error: Exception) -> None:
        shown = self._stale(key, options) if isinstance(error, SILENT) else None
        if shown is None:
            self._counters.errors += 1
            done(error)
        else:
            self._counters.stale += 1
            done(shown)

    def _stale(self, key: bytes, options: ReadOptions) -> ReadResult | None:
        """Return what may be shown of a key when the upstream does not answer."""
        synced_at, position, covered_from = self.synced_at, self.position, self.covered_from
        held = self.copies.peek(key)
        if held is None or (held.expires_at is not None and held.expires_at <= self._wall()):
            return None
        checked, as_of = held.checked, held.as_of
        if as_of >= covered_from:
            checked, as_of = max(checked, synced_at), max(as_of, position)
        now = self._monotonic()
        bound = self.settings.bound_s if held.version else self.settings.negative_ttl_s
        min_version = max(options.min_version, self.watermarks.of_all)
        if now - checked >= max(bound, options.stale_if_error) or as_of < min_version:
            return None
        held.read_at = now
        return held.shown(now - checked, as_of, "STALE")

    def _forget_flight(self, flight: Flight) -> None:
        if self._in_flight.get(flight.key) is flight:
            del self._in_flight[flight.key]
