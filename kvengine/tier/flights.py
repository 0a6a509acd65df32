"""Flights: of all who miss a key at once one makes its value, and the others wait for it.

Invariants:

* What the maker raises is raised in all who waited, and nothing is kept of it.
* A maker that was interrupted or cancelled leaves the work to one of those who waited.
* A forked child knows nothing of the flights of its parent, whose makers are not in it.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable, Hashable
from concurrent.futures import CancelledError, Future
from typing import Any

from kvengine.errors import InvalidRequest
from kvengine.file.system import fork_watch


class Flights:
    """Makers under way, by key.

    Thread-safety: this is what it is for.
    """

    def __init__(self) -> None:
        self._begin()
        fork_watch(self, Flights._begin)

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._flights: dict[Hashable, tuple[Future[Any], int]] = {}

    def run(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """Return what `make` returns, here or in the thread that came first.

        Raises:
            InvalidRequest: this thread is making the value of this key already.
        """
        own: Future[Any] = Future()
        while True:
            with self._lock:
                flight, owner = self._flights.setdefault(key, (own, threading.get_ident()))
            if flight is own:
                return self._make(key, make, own)
            if owner == threading.get_ident():
                raise InvalidRequest(f"the value of {key!r} needs itself to be made")
            with contextlib.suppress(CancelledError):  # its maker was interrupted: try it here
                return flight.result()

    def _make(self, key: Hashable, make: Callable[[], Any], own: Future[Any]) -> Any:
        try:
            own.set_result(make())
        except Exception as error:
            own.set_exception(error)
            raise
        finally:
            with self._lock:
                del self._flights[key]
            own.cancel()  # has an effect only if it has no result
        return own.result()


class AsyncFlights:
    """Makers under way, by key, for tasks; if one is cancelled, another takes over.

    Thread-safety: for the tasks of one event loop.
    """

    def __init__(self) -> None:
        self._begin()
        fork_watch(self, AsyncFlights._begin)

    def _begin(self) -> None:
        self._flights: dict[Hashable, tuple[asyncio.Future[None], asyncio.Task[Any] | None]] = {}

    async def run(self, key: Hashable, make: Callable[[], Awaitable[Any]]) -> Any:
        """Return what `make` gives, here or in the task that came first."""
        while key in self._flights:
            flight, owner = self._flights[key]
            if owner is asyncio.current_task():
                raise InvalidRequest(f"the value of {key!r} needs itself to be made")
            await asyncio.shield(flight)  # then look again: its value is stored, or it failed
            error = getattr(flight, "error", None)
            if error is not None:
                raise error
        return await self._make(key, make)

    async def _make(self, key: Hashable, make: Callable[[], Awaitable[Any]]) -> Any:
        flight = _Flight(loop=asyncio.get_running_loop())
        self._flights[key] = flight, asyncio.current_task()
        try:
            return await make()
        except Exception as error:
            flight.error = error
            raise
        finally:
            del self._flights[key]
            flight.set_result(None)


class _Flight(asyncio.Future[None]):
    error: Exception | None = None
