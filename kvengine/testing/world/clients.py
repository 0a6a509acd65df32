"""Reading and writing in a world; every read and every acknowledged write goes to the checker."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from kvengine.edge.counters import Histogram
from kvengine.edge.messages import ReadOptions, ReadResult
from kvengine.errors import InvalidRequest, KvError, UpstreamUnavailable

if TYPE_CHECKING:
    from kvengine.edge.settings import Settings
    from kvengine.testing.world.checker import Checker
    from kvengine.testing.world.nodes import SimulatedEdge, SimulatedNode, SimulatedPrimary
    from kvengine.testing.world.virtual_time import VirtualTime

PRIMARY = "primary"
Done = Callable[[Any], None]


class Clients:
    """The reads and writes at the nodes of a world; World has them."""

    time: VirtualTime
    checker: Checker
    settings: Settings
    primary: SimulatedPrimary
    nodes: dict[str, SimulatedNode]

    def __init__(self) -> None:
        self.read_times = Histogram()
        self.reads = self.writes = self.failed_reads = self.failed_writes = 0

    def wait_for(self, start: Callable[[Done], None]) -> Any:
        """Start something, let time pass until it has its result, and return or raise it."""
        box: list[Any] = []
        start(box.append)
        while not box and self.time.step():
            pass
        if isinstance(box[0], Exception):
            raise box[0]
        return box[0]

    # -- reading

    def read(
        self,
        node: str,
        key: bytes,
        *,
        ttl: float | None = None,
        min_version: int = 0,
        stale_if_error: float | None = None,
    ) -> ReadResult:
        """Read a key at an edge, and return what it shows.

        Args:
            node: the name of an edge, or "primary".
            key: the key.
            ttl: seconds: how old the value may be; None: the `cache_ttl_s` of the edge.
            min_version: it must be at least as new as this version.
            stale_if_error: seconds: how old it may be if the upstream does not answer; None: the
                `stale_if_error_s` of the edge.

        Raises:
            UpstreamUnavailable: nothing that is held is new enough.
        """
        shown: ReadResult = self.wait_for(
            lambda done: self.start_read(
                node, key, done, ttl=ttl, min_version=min_version, stale_if_error=stale_if_error
            )
        )
        return shown

    def start_read(
        self,
        node: str,
        key: bytes,
        done: Done | None = None,
        *,
        ttl: float | None = None,
        min_version: int = 0,
        stale_if_error: float | None = None,
    ) -> None:
        """Begin to read; `done` is called with ReadResult or with the error."""
        self.reads += 1
        found = self.node(node)
        if not found.is_up:
            self._read_failed(UpstreamUnavailable(f"{node} is down"), done)
            return
        limit = self.settings.cache_ttl_s if ttl is None else ttl
        stale = self.settings.stale_if_error_s if stale_if_error is None else stale_if_error
        wanted = ReadOptions(limit, min_version, stale)
        began = self.time.now

        def ended(result: Any) -> None:
            if isinstance(result, Exception):
                self._read_failed(result, done)
                return
            now = self.time.now
            self.read_times.add(now - began)
            bound = wanted.ttl
            if result.status == "STALE":
                bound = max(bound, self.settings.bound_s, wanted.stale_if_error)
            self.checker.read(node, key, result, began, now, bound, wanted.min_version)
            if done is not None:
                done(result)

        if found is self.primary:
            ended(self.primary.read(key))
        else:
            found.endpoint.read(key, wanted, ended)

    def _read_failed(self, error: Exception, done: Done | None) -> None:
        self.failed_reads += 1
        if done is not None:
            done(error)

    # -- writing

    def write(self, node: str, key: bytes, value: bytes | None, *, ttl: float | None = None) -> int:
        """Write a value (None: delete the key) at the primary or at an edge.

        Args:
            node: the name of an edge, or "primary".
            key: the key.
            value: what it is from now on.
            ttl: seconds after which it expires, by the clock of the primary; None: never.

        Returns:
            The version of the change; for a delete of nothing, that of the newest one.

        Raises:
            UpstreamUnavailable: it was not acknowledged; it may have been done all the same.
        """
        version: int = self.wait_for(lambda done: self.start_write(node, key, value, done, ttl=ttl))
        return version

    def start_write(
        self,
        node: str,
        key: bytes,
        value: bytes | None,
        done: Done | None = None,
        *,
        ttl: float | None = None,
    ) -> None:
        """Begin to write; `done` is called with the version or with the error."""
        self.writes += 1
        finish = done or (lambda result: None)
        found: Any = self.node(node)
        if not found.is_up:
            self._write_ended(UpstreamUnavailable(f"{node} is down"), finish)
            return
        if found is self.primary:
            self._write_at_primary(
                key, value, ttl, lambda result: self._write_ended(result, finish)
            )
            return
        incarnation = found.incarnation

        results: list[Any] = []  # of the primary, also if its answer is lost

        def acknowledged(result: Any) -> None:
            is_lost = isinstance(result, Exception)
            done_at = results[0] if results else result
            if found.incarnation == incarnation:
                found.endpoint.record_write([key], None if is_lost else result)
                if not isinstance(done_at, Exception) and self.checker.knows(key):
                    self.checker.wrote(node, key, done_at, self.time.now)
            self._write_ended(result, finish)

        self._carry_write(
            found,
            lambda reply: self._write_at_primary(key, value, ttl, reply),
            acknowledged,
            results,
        )

    def _write_ended(self, result: Any, done: Done) -> None:
        if isinstance(result, Exception):
            self.failed_writes += 1
        done(result)

    def _carry_write(
        self,
        leaf: SimulatedEdge,
        request: Callable[[Done], None],
        done: Done,
        results: list[Any],
    ) -> None:
        """Carry a write to the primary; it is done once, however often the request comes."""

        def once(reply: Done) -> None:
            if not results:
                request(results.append)
            if results:
                reply(results[0])

        leaf.to_primary(once, done)

    def _write_at_primary(
        self, key: bytes, value: bytes | None, ttl: float | None, done: Done
    ) -> None:
        store = self.primary.store
        if not self.primary.is_up:
            done(UpstreamUnavailable("the primary is down"))
            return
        if not self.checker.knows(key):
            old = store.get_entry(key)
            known = (0, None, None) if old is None else (old.version, old.value, old.expires_at)
            self.checker.begin(key, *known)
        expires_at = None if ttl is None else self.primary.clock.time() + ttl
        try:
            if value is None:
                version = store.delete(key)
            else:
                version = store.put(key, value, expires_at=expires_at)
        except KvError as error:
            done(error)
            return
        if version:
            self.checker.changed(key, version, value, self.time.now, expires_at)
        self.primary.pump()
        done(version or store.version)

    # -- nodes

    def node(self, name: str) -> SimulatedNode:
        """Return the node of a name.

        Raises:
            InvalidRequest: there is none.
        """
        node = self.nodes.get(name)
        if node is None:
            raise InvalidRequest(
                f"the world has no node {name!r}; it has {PRIMARY}, edge-0 and so on, and "
                "reg-0 and so on if there are regions"
            )
        return node
