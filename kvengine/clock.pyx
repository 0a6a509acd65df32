"""The time of day, from one place, so that tests and simulations can say what time it is.

Invariants:

* Compiled code asks the system itself only while time.time() would do just that: a program may have
  put something in its place, as freezegun and time-machine do, and then that is asked.
"""

import time
from typing import Protocol


class Clock(Protocol):
    """Whatever can say what time it is."""

    def time(self) -> float:
        """Return seconds since 1970-01-01 UTC."""
        ...


class SystemClock:
    """The clock of this machine."""

    def time(self) -> float:
        """Return seconds since 1970-01-01 UTC, as the operating system has it."""
        return time.time()

    def __repr__(self) -> str:
        return "SystemClock()"


SYSTEM_CLOCK = SystemClock()

cdef dict names_of_time = time.__dict__
cdef str TIME = "time"
cdef object asked = time.time                           # held, so that what follows stays valid
cdef object ask_system_clock = SystemClock.time
cdef void *code_of_asked = NULL

if PyCFunction_Check(asked) and abs(time.time() - seconds_since_epoch()) < 1:
    code_of_asked = PyCFunction_GetFunction(asked)


cdef bint is_system_clock(object clock):
    """True of a clock that only asks time.time()."""
    return type(clock) is SystemClock and SystemClock.time is ask_system_clock


cdef bint time_is_real() noexcept:
    """True while time.time() is the system's; no Python code runs in here."""
    return (
        code_of_asked != NULL
        and PyDict_GetItem(names_of_time, TIME) == <PyObject *>asked
        and PyCFunction_GetFunction(asked) == code_of_asked
    )
