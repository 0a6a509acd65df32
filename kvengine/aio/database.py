"""Database for asyncio.

Invariants:

* Its own threads open, close and change it; the event loop never waits for the disk.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator
from typing import TYPE_CHECKING, Any, Literal, Self

from kvengine.aio.consumer import Consumer
from kvengine.aio.following import follow, shown
from kvengine.aio.namespace import Namespace
from kvengine.aio.runner import THREADS, Runner, forwarded
from kvengine.client.base import DatabaseBase
from kvengine.clock import SYSTEM_CLOCK, Clock
from kvengine.database import database as sync
from kvengine.database.opening import open_database as open_sync
from kvengine.metering.ledger import INTERVAL_S
from kvengine.namespace import namespace as sync_namespace
from kvengine.namespace.interface.backend import described_as
from kvengine.namespace.interface.results import DatabaseChange
from kvengine.namespace.layout import DATA
from kvengine.namespace.limits import Limits
from kvengine.options import Durability, Options, named


class Database:
    """Namespaces in a store, for asyncio; see kvengine.Database, which has the same methods.

    Thread-safety: for one event loop at a time.
    """

    def __init__(self, inner: sync.Database, runner: Runner) -> None:
        self._inner, self._runner = inner, runner
        self._namespaces: dict[int, Namespace] = {}

    @classmethod
    def in_memory(
        cls,
        *,
        threads: int = THREADS,
        limits: Any = "relaxed",
        usage_interval_s: float = INTERVAL_S,
        durability: Durability = "os",
        sync_interval_s: float = 0.05,
        read_only: bool = False,
        exclusive: bool = False,
        create: bool = True,
        allow_network_filesystem: bool = False,
        rebuild: bool = False,
        log_writes: Literal["auto", "pwrite"] = "auto",
        segment_bytes: int = 64 << 20,
        compaction: Literal["auto", "manual"] = "auto",
        space_target: float = 1.3,
        compaction_bytes_per_s: int = 256 << 20,
        checkpoint_records: int = 1_000_000,
        key_buffer_entries: int = 65_536,
        verify: Literal["auto", "always"] = "auto",
        clock: Clock = SYSTEM_CLOCK,
        retention_s: float = 7 * 86400.0,
    ) -> Self:
        """Return a new database that leaves nothing on disk; for tests."""
        options = named(Options, locals())
        inner = sync.Database.in_memory(limits=limits, usage_interval_s=usage_interval_s, **options)
        return cls(inner, Runner(threads))

    def __repr__(self) -> str:
        return f"<kvengine.aio.Database {self._inner.store.path!r}>"

    @property
    def limits(self) -> Limits:
        """The limits of its namespaces."""
        return self._inner.limits

    @property
    def clock(self) -> Any:
        """The clock by which keys expire."""
        return self._inner.clock

    @property
    def version(self) -> int:
        """The version of the newest change."""
        return self._inner.version

    @property
    def closed(self) -> bool:
        """True after close()."""
        return self._inner.closed

    @described_as(DatabaseBase.namespace)
    async def namespace(self, title: str) -> Namespace:
        return self._shown(await self._runner.run(self._inner.namespace, title))

    @described_as(DatabaseBase.namespace_by_id)
    async def namespace_by_id(self, namespace_id: str) -> Namespace:
        return self._shown(await self._runner.run(self._inner.namespace_by_id, namespace_id))

    def _shown(self, inner: sync_namespace.Namespace) -> Namespace:
        found = self._namespaces.get(inner._number)
        if found is None or found._inner is not inner:
            found = self._namespaces[inner._number] = Namespace(inner, self._runner)
        return found

    create_namespace = forwarded(sync.Database.create_namespace)
    set_bounds = forwarded(sync.Database.set_bounds)
    namespaces = forwarded(sync.Database.namespaces)
    rename = forwarded(sync.Database.rename)
    delete = forwarded(sync.Database.delete)
    wait_for_removals = forwarded(sync.Database.wait_for_removals)
    usage = forwarded(sync.Database.usage)
    consumers = forwarded(sync.Database.consumers)

    @described_as(DatabaseBase.tail)
    async def tail(
        self, after: int = 0, *, follow: bool = False, timeout: float | None = None
    ) -> AsyncGenerator[DatabaseChange, None]:
        if follow:
            changes = self._follow(after, timeout)
        else:
            changes = self._runner.iterate(lambda: self._inner.tail(after))
        async for change in changes:
            yield change

    async def _follow(self, after: int, timeout: float | None) -> AsyncIterator[DatabaseChange]:
        store = self._inner.store
        tail = await self._runner.run(store._parts.tail_from, after, DATA)
        show = self._inner._shown
        async for change in shown(
            follow(self._runner, store._parts, tail, timeout), lambda one: one and show(one)
        ):
            yield change

    @described_as(sync.Database.consumer)
    async def consumer(self, name: str) -> Consumer[DatabaseChange]:
        return Consumer(await self._runner.run(self._inner.consumer, name), self._runner)

    sync = forwarded(sync.Database.sync)  # last: it hides the module

    def snapshot(self) -> Opening:
        """Return a read-only snapshot of the database: `async with db.snapshot() as frozen`."""
        return Opening(self._snapshot)

    async def _snapshot(self) -> Database:
        return Database(await self._runner.run(self._inner.snapshot), Runner())

    async def close(self) -> None:
        """Wait for calls in progress, save what makes the next open fast, release all resources."""
        await self._runner.close(self._inner.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()


class Opening:
    """A database that is being opened: `await` it, or use it in `async with`."""

    def __init__(self, begin: Callable[[], Awaitable[Database]]) -> None:
        self._begin = begin
        self._database: Database | None = None

    def __await__(self) -> Generator[Any, None, Database]:
        return self._begin().__await__()

    if not TYPE_CHECKING:  # which would accept every name

        def __getattr__(self, name: str) -> Any:
            hint = "the database is not open yet: write `await open(...)` or `async with open(...)`"
            raise AttributeError(hint, name=name, obj=self)

    async def __aenter__(self) -> Database:
        self._database = await self._begin()
        return self._database

    async def __aexit__(self, *exc_info: object) -> None:
        if self._database is not None:
            await self._database.close()


def open_database(
    path: Any,
    *,
    threads: int = THREADS,
    limits: Any = "relaxed",
    usage_interval_s: float = INTERVAL_S,
    durability: Durability = "group",
    sync_interval_s: float = 0.05,
    read_only: bool = False,
    exclusive: bool = False,
    create: bool = True,
    allow_network_filesystem: bool = False,
    rebuild: bool = False,
    log_writes: Literal["auto", "pwrite"] = "auto",
    segment_bytes: int = 64 << 20,
    compaction: Literal["auto", "manual"] = "auto",
    space_target: float = 1.3,
    compaction_bytes_per_s: int = 256 << 20,
    checkpoint_records: int = 1_000_000,
    key_buffer_entries: int = 65_536,
    verify: Literal["auto", "always"] = "auto",
    clock: Clock = SYSTEM_CLOCK,
    retention_s: float = 7 * 86400.0,
) -> Opening:
    """Open the database in a folder: `await open(path)`, or `async with open(path) as db`.

    Args:
        path: the folder; it and the database are created if they do not exist.
        threads: how many calls may wait for the disk at once.
        The others are as of kvengine.open().

    Raises:
        StoreLocked, NotAStore, CorruptData: as kvengine.open().
    """
    options = named(Options, locals())

    async def begin() -> Database:
        runner = Runner(threads)
        try:
            inner = await runner.run(
                open_sync, path, limits=limits, usage_interval_s=usage_interval_s, **options
            )
            return Database(inner, runner)
        except BaseException:
            await runner.close(lambda: None)
            raise

    return Opening(begin)
