"""Edge: a cache in front of a database, which answers reads from its copies.

kvengine/edge/PROMISES.md says what it promises, and why that holds.

Invariants:

* Reads go through the edge.  Everything else goes to the primary; the edge takes note of writes.
* A deleted namespace answers no reads once the edge has learned of the deletion.
* A write that was answered never fails: it asks no further request.
* In a forked child every call raises StoreClosed: nothing keeps the copies current there.
* An edge without references is closed.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import threading
import time
import warnings
from collections.abc import Callable
from typing import Any

from kvengine.client.database import RemoteDatabase, connect
from kvengine.client.upstream import RemoteUpstream
from kvengine.database.database import Database
from kvengine.database.edge_arguments import check_arguments
from kvengine.database.edge_namespace import EdgeNamespace
from kvengine.database.edge_stats import EdgeStats, report
from kvengine.database.edge_upstream import UpstreamCalls
from kvengine.edge.disk import DiskCache
from kvengine.edge.messages import ReadResult
from kvengine.edge.node import EdgeNode
from kvengine.edge.settings import Settings
from kvengine.edge.timers import Timers
from kvengine.edge.upstream.poller import ChangePoller
from kvengine.engine.store import Store
from kvengine.errors import (
    CorruptData,
    KvError,
    StoreClosed,
    UpstreamUnavailable,
    copied_error,
)
from kvengine.file.system import fork_watch, is_finalizing
from kvengine.namespace.layout import CATALOG
from kvengine.namespace.limits import Limits
from kvengine.options import named

LOOK_S = 0.002
logger = logging.getLogger("kvengine")


class Edge(UpstreamCalls):
    """An edge: it answers reads from copies, and keeps them current through the log.

    A new key can be read at once.  A changed value is shown within 60 seconds, and normally within
    milliseconds.  No key goes back to an older value.

    Args:
        upstream: a Database, another Edge, the result of connect(), or the URL of a server.
        name: its name in the console and the metrics of the primary.
        path: a folder for copies that survive a restart; None: copies are in memory only.
        always_current: never show a value that is older than the last acknowledged write; the
            upstream must be a Database in this process.  Each read looks at its version.
        token, verify: for a URL, as of connect().
        The others are settings: kvengine.edge.settings.Settings says what each is for.

    Raises:
        InvalidRequest: a setting is not valid.
        StoreLocked: another edge uses the folder.
        NotAStore: the folder holds something other than an edge's copies.
        StoreClosed: the upstream was closed.
        UpstreamUnavailable, AccessDenied: the server can't be reached, or refused the token.

    Thread-safety: threads may share it.
    """

    def __init__(
        self,
        upstream: Database | Edge | RemoteDatabase | str,
        name: str = "edge",
        *,
        path: Any = None,
        always_current: bool = False,
        token: str | None = None,
        verify: Any = True,
        memory_bytes: int = 64 << 20,
        disk_bytes: int = 1 << 30,
        bound_s: float = 60.0,
        cache_ttl_s: float = 60.0,
        negative_ttl_s: float = 0.0,
        stale_if_error_s: float = 0.0,
        refresh_share: float = 0.75,
        poll_timeout_s: float = 2.0,
        grace_s: float = 2.0,
        timeout_s: float = 10.0,
        retry_s: float = 0.05,
        retry_max_s: float = 5.0,
        change_buffer_bytes: int = 8 << 20,
        push_bytes: int = 4096,
        watermark_groups: int = 1 << 14,
    ) -> None:
        check_arguments(upstream, name, always_current, Database, Edge, RemoteDatabase)
        self._closed, self._forked = True, False  # until it has begun
        self.name = name
        self.settings = Settings(**named(Settings, locals()))
        self._own: RemoteDatabase | None = None  # a connection that ends with this edge
        if isinstance(upstream, str):
            upstream = self._own = connect(
                upstream, token=token, timeout=self.settings.timeout_s, verify=verify
            )
        self.upstream: Database | Edge | RemoteDatabase = upstream
        try:
            self._begin(path, always_current)
        except BaseException:
            if self._own is not None:
                self._own.close()
            raise

    def _begin(self, path: Any, always_current: bool) -> None:
        upstream = self.upstream
        self._limits, self._clock = upstream.limits, upstream.clock
        self._current_store: Store | None = None
        if always_current and isinstance(upstream, Database):
            self._current_store = upstream.store
        self._namespaces: dict[str, EdgeNamespace] = {}
        self._lock = threading.RLock()
        if isinstance(upstream, Edge):
            upstream._check_usable()
        with contextlib.ExitStack() as undo:  # if it is interrupted, or something can't be had
            disk = None if path is None else self._open_disk(path)
            if disk is not None:
                undo.callback(disk.close)
            source: Any = self._source()
            self._remote = source if isinstance(source, RemoteUpstream) else None
            if self._remote is not None:
                undo.callback(self._remote.close)
            self._timers = Timers(f"kvengine-{self.name}")
            undo.callback(self._timers.close)
            self._timers.begin()
            self._make(source, disk)
            self._poller.begin()
            error = self._wait_for_primary()
            if self._remote is not None:
                if error is not None:
                    raise copied_error(error)
                self._remote.tell(self.name, functools.partial(report, self._node))
            undo.pop_all()
        self._closed = False
        fork_watch(self, Edge._after_fork)

    def _make(self, source: Any, disk: DiskCache | None) -> None:
        """Assemble the parts; none of them may refer to the Edge, so that it can be collected."""

        def changed(key: bytes | None) -> None:
            if key is None or key.startswith(CATALOG):
                node.invalidations += 1

        self._node = node = EdgeNode(
            source,
            self.settings,
            monotonic=time.monotonic,
            wall=self._clock.time,
            later=self._timers.later,
            disk=disk,
            changed=changed,
        )
        self._poller = ChangePoller(
            self._node, source, monotonic=time.monotonic, later=self._timers.later
        )
        self._end = functools.partial(
            _end, node, self._poller, self._timers, self._remote, self._own
        )

    def _wait_for_primary(self) -> Exception | None:
        """Wait until the primary has reported its version, so that no first read fails."""
        deadline = time.monotonic() + self.settings.timeout_s
        while not self._node.begun:
            error = self._poller.error
            if error is not None or time.monotonic() > deadline:
                return error or UpstreamUnavailable("the server did not report its version")
            time.sleep(LOOK_S)
        return None

    def _open_disk(self, path: Any) -> DiskCache | None:
        """Open the copies on disk; if they are damaged, continue without them."""
        try:
            return DiskCache(path, self.settings.disk_bytes)
        except CorruptData as error:
            logger.warning(
                "edge %s: the copies in %s are damaged and are not used; remove the folder: %s",
                self.name,
                path,
                error,
            )
            return None

    def _source(self) -> Any:
        """Return the upstream of this edge."""
        return upstream_of(self.upstream)

    @property
    def limits(self) -> Limits:
        return self._limits

    @property
    def clock(self) -> Any:
        return self._clock

    def namespace(self, title: str) -> EdgeNamespace:
        self._check_usable()
        return self._namespace(self.upstream.namespace(title))

    def namespace_by_id(self, namespace_id: str) -> EdgeNamespace:
        self._check_usable()
        return self._namespace(self.upstream.namespace_by_id(namespace_id))

    def _namespace(self, origin: Any) -> EdgeNamespace:
        with self._lock:
            found = self._namespaces.get(origin.id)
            if found is None:
                found = self._namespaces[origin.id] = EdgeNamespace(self, origin)
            return found

    def _ask(self, key: bytes, options: Any) -> ReadResult:
        """Return what the upstream says of a key, or what is held if it does not answer.

        Raises:
            UpstreamUnavailable: it does not answer, and nothing that is held is new enough.
        """
        shown: ReadResult = self._wait(lambda done: self._node.read(key, options, done))
        return shown

    def _ask_many(self, keys: list[bytes], options: Any) -> list[ReadResult]:
        """Return what _ask() does for each of some keys, with one request to the upstream."""
        results: list[Any] = self._wait(
            lambda done: self._node.read_many([(key, options) for key in keys], done)
        )
        for result in results:
            if isinstance(result, Exception):
                raise copied_error(result)
        return results

    def _wait(self, start: Callable[[Callable[[Any], None]], None]) -> Any:
        """Start something that calls a function with its result, and return that."""
        self._check_usable()
        box: list[Any] = []
        full = threading.Lock()
        full.acquire()

        def done(result: Any) -> None:
            box.append(result)
            with contextlib.suppress(RuntimeError):  # it was told before
                full.release()

        start(done)
        if not box and not full.acquire(timeout=2 * self.settings.timeout_s):
            raise UpstreamUnavailable("the upstream did not answer in time")
        if isinstance(box[0], Exception):
            raise copied_error(box[0])
        return box[0]

    def _wrote(self, keys: list[bytes] | None, version: int | None, *, lost: bool = False) -> None:
        """A write through this edge has changed keys.

        Args:
            keys: None: it is not known which.
            version: of the write; None or 0: not known, or nothing was changed.
            lost: its answer was lost, so it may be done even later.
        """
        if not version and not lost:
            version = self._newest()
        self._node.record_write(keys, version)

    def _newest(self) -> int | None:
        """Return a version of the primary that covers all answered writes, without a request."""
        upstream: Any = self.upstream
        while isinstance(upstream, Edge):
            upstream = upstream.upstream
        if isinstance(upstream, RemoteDatabase):
            return upstream._newest or None
        try:
            return int(upstream.version)
        except KvError:  # it was closed meanwhile
            return None

    def stats(self) -> EdgeStats:
        """Return figures: counters, position in the log, lag."""
        node = self._node
        if self._forked:
            self._check_usable()
        return EdgeStats(
            self.name,
            node.counters,
            node.position,
            node.known_version - node.position,
            time.monotonic() - node.synced_at,
            self._poller.connected,
            node.copies.memory_usage(),
            None if self._poller.error is None else str(self._poller.error),
        )

    def _check_usable(self) -> None:
        """Raise if the edge was closed."""
        if self._closed:
            raise StoreClosed(self._node.closed_reason)

    @property
    def closed(self) -> bool:
        return self._closed

    def close(self) -> None:
        self._closed = self._node.closed = True
        if self._forked:
            return
        self._end()

    def _after_fork(self) -> None:
        self._closed = self._forked = True
        self._lock = threading.RLock()
        self._node.after_fork()

    def __del__(self) -> None:
        if self.__dict__.get("_closed", True) or is_finalizing():
            return
        warnings.warn(f"{self!r} was not closed", ResourceWarning, source=self, stacklevel=2)
        # On a thread: whose memory is collected may hold a lock that one of the threads waits for.
        with contextlib.suppress(RuntimeError):
            threading.Thread(target=self._end, name="kvengine-end", daemon=True).start()

    def __repr__(self) -> str:
        return f"<kvengine.Edge {self.name!r} of {self.upstream!r}>"


def _end(
    node: EdgeNode,
    poller: ChangePoller,
    timers: Timers,
    remote: RemoteUpstream | None,
    own: RemoteDatabase | None,
) -> None:
    """Stop the parts of an edge; nothing here refers to the Edge, which may no longer exist."""
    node.closed = True
    poller.close()
    node.end()
    node.change_buffer.close()
    if remote is not None:
        remote.close()
    timers.close()
    node.close_disk()
    if own is not None:
        own.close()


def upstream_of(upstream: Database | Edge | RemoteDatabase) -> Any:
    """Return what an edge asks.

    Raises:
        StoreClosed: it was closed.
    """
    if isinstance(upstream, Database):
        return upstream._primary_for_edges()
    if isinstance(upstream, RemoteDatabase):
        return upstream._upstream()
    upstream._check_usable()
    return upstream._node
