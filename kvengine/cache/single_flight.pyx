"""SingleFlight: when several callers miss a key, one computes the value and the others wait for it.

Threads and tasks, even of several event loops, wait for each other.

Invariants:

* All waiters get what the maker returns or raises, whether or not it can be stored.
* If a maker is interrupted or cancelled, one of the waiters takes over.
* After forget(), a flight is not stored and cannot be joined; forget() returns once a store already
  in progress is done, so that the value can be deleted.
* No caller waits for a flight that waits for the caller.  A maker that needs its own value gets an
  error; if two makers need each other's value, the one that would close the circle computes it.
* Once other callers can see a flight, only its maker and compiled code run until it is done: no
  signal and no tracer can end it in between.  The flights are accessed through dict calls, which
  are atomic; no lock is held except a flight's own.
* A forked child never waits for a flight of another thread.
"""

import asyncio
from _thread import allocate_lock, get_ident
from contextvars import ContextVar

from kvengine.errors import InvalidRequest

cdef extern from "<unistd.h>":
    int getpid() noexcept nogil

cdef enum:
    NOTIFY_ATTEMPTS = 3         # to wake a task, if interrupted

cdef object LEADING = ContextVar("kvengine flights", default=())


cdef class Epoch:
    """A number that grows; what was begun before is void."""


cdef class Flight:
    """A value that is being made.

    Thread-safety: the GIL.
    """

    def __cinit__(self, Epoch epoch not None) -> None:
        self.epoch, self.began = epoch, epoch.now
        self.landed, self.gate = allocate_lock(), allocate_lock()
        self.landed.acquire()
        self.thread = get_ident()
        self.needs, self.waiters = [], []

    @property
    def forgotten(self) -> bool:
        """True if its value is not to be stored any more."""
        return self.is_void()


cdef bint leads_to(Flight first, tuple chain) except -1:
    """True if one of these flights is among those that a flight needs."""
    cdef list left = [first]
    cdef set seen = set()
    cdef Flight flight
    while left:
        flight = left.pop()
        if flight in chain:
            return True
        if flight not in seen and not flight.is_done:
            seen.add(flight)
            left.extend(flight.needs)
    return False


cdef tell(future):
    if not future.done():
        future.set_result(None)


def _tell(future):
    tell(future)


cdef class SingleFlight:
    """Values that are being made, by key.

    Args:
        epoch: that of a cache, which clear() changes.

    Thread-safety: this is what it is for.
    """

    def __cinit__(self, Epoch epoch=None) -> None:
        self.epoch = Epoch() if epoch is None else epoch
        self.under_way, self.stores, self.process = {}, {}, getpid()

    cdef int check_fork(self) except -1:
        cdef int process = getpid()
        if process != self.process:
            self.under_way, self.stores, self.process = {}, {}, process
        return 0

    cdef Flight join(self, object key, Flight own):
        """Return the flight of a key, which is one's own if there was none."""
        cdef Flight flight = self.under_way.setdefault(key, own)
        if flight is not own and (flight.is_done or flight.is_void()):
            if self.under_way.get(key) is flight:
                self.under_way[key] = own
                return own
            return self.join(key, own)
        return flight

    cdef int lead(self, Flight own) except -1:
        """Record that the flights this thread or task leads already wait for this one."""
        cdef tuple chain = LEADING.get()
        if chain:
            (<Flight>chain[len(chain) - 1]).needs.append(own)
        LEADING.set((*chain, own))
        return 0

    cdef int land(self, object key, Flight own) except -1:
        """Wake the waiters; the flight has its result, its error, or neither."""
        cdef list waiters = own.waiters
        cdef tuple chain
        own.is_done = True
        own.waiters = []
        own.landed.release()
        for loop, future in waiters:
            for _ in range(NOTIFY_ATTEMPTS):
                try:
                    loop.call_soon_threadsafe(_tell, future)
                except RuntimeError:
                    pass  # the loop was closed
                except BaseException:
                    continue
                break
        chain = LEADING.get()
        if chain and chain[len(chain) - 1] is own:
            LEADING.set(chain[:len(chain) - 1])
            if len(chain) > 1 and own in (<Flight>chain[len(chain) - 2]).needs:
                (<Flight>chain[len(chain) - 2]).needs.remove(own)
        if self.under_way.get(key) is own:
            del self.under_way[key]
        return 0

    def run(self, key, make):
        """Return what `make(flight)` returns, here or in the thread or task that came first.

        Raises:
            InvalidRequest: the value is needed to make it.
        """
        cdef Flight own, flight
        cdef tuple chain
        cdef bint is_alone = False
        while True:
            self.check_fork()
            own = Flight(self.epoch)
            flight = own if is_alone else self.join(key, own)
            if flight is own:
                try:
                    self.lead(own)
                    own.result = make(own)
                    return own.result
                except Exception as error:
                    own.error = error
                    raise
                except BaseException:
                    own.is_left = True
                    raise
                finally:
                    self.land(key, own)
            chain = LEADING.get()
            check(flight, chain, key)
            if chain:
                (<Flight>chain[len(chain) - 1]).needs.append(flight)
            try:
                # Of another task of this thread's event loop nothing comes while this one waits.
                if flight.thread == get_ident() or leads_to(flight, chain):
                    is_alone = True
                    continue
                flight.landed.acquire()
                flight.landed.release()
            finally:
                if chain:
                    (<Flight>chain[len(chain) - 1]).needs.remove(flight)
            if not flight.is_left:
                return outcome(flight)

    async def run_async(self, key, make):
        """Return what `await make(flight)` gives, here or in the task or thread that came first.

        Raises:
            InvalidRequest: the value is needed to make it.
        """
        cdef Flight own, flight
        cdef tuple chain
        cdef bint is_alone = False
        while True:
            self.check_fork()
            own = Flight(self.epoch)
            flight = own if is_alone else self.join(key, own)
            if flight is own:
                try:
                    self.lead(own)
                    own.result = await make(own)
                    return own.result
                except Exception as error:
                    own.error = error
                    raise
                except BaseException:
                    own.is_left = True
                    raise
                finally:
                    self.land(key, own)
            chain = LEADING.get()
            check(flight, chain, key)
            if chain:
                (<Flight>chain[len(chain) - 1]).needs.append(flight)
            try:
                if leads_to(flight, chain):
                    is_alone = True
                    continue
                loop = asyncio.get_running_loop()
                future = loop.create_future()
                waiter = (loop, future)
                if not flight.is_done:
                    flight.waiters.append(waiter)
                    await future
            finally:
                if chain:
                    (<Flight>chain[len(chain) - 1]).needs.remove(flight)
            if not flight.is_left:
                return outcome(flight)

    def store(self, key, Flight flight not None, put):
        """Call `put()` and return True, unless the flight was forgotten."""
        flight.gate.acquire()
        try:
            flight.storing = get_ident()
            self.stores[flight] = key
            if flight.is_void():
                return False
            put()
            return True
        finally:
            flight.storing = None
            flight.gate.release()
            self.stores.pop(flight, None)

    def forget(self, key) -> None:
        """Keep the value that is being made for a key from being stored or joined."""
        if self.under_way or self.stores:
            self.forget_where(key.__eq__)

    def forget_where(self, is_meant) -> None:
        """Forget the flights of all keys of which `is_meant(key)` is true."""
        cdef Flight flight
        if not self.under_way and not self.stores:
            return
        self.check_fork()
        cdef list found = [*self.under_way.items()]
        found += [(key, flight) for flight, key in [*self.stores.items()]]
        for key, flight in found:
            if is_meant(key) is True:
                flight.is_forgotten = True
                if self.under_way.get(key) is flight:
                    del self.under_way[key]
                if flight.storing is not None and flight.storing != get_ident():
                    flight.gate.acquire()
                    flight.gate.release()


cdef int check(Flight flight, tuple chain, object key) except -1:
    """Refuse to wait for a flight that this thread or task leads."""
    if flight in chain:
        raise InvalidRequest(f"recursive get_or_set() for key {key!r}")
    return 0


cdef object outcome(Flight flight):
    if flight.error is not None:
        raise flight.error
    return flight.result
