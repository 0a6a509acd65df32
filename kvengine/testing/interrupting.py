"""Raise an exception at one chosen line of a call, as Ctrl-C or a lack of memory would.

Invariants:

* The exception is raised once, in the thread that makes the call, before the chosen line runs:
  by sys.monitoring where there is such a thing (Python 3.12), else by sys.settrace.
* Only lines of kvengine count, and not those of kvengine.testing; they are counted in the order in
  which they run, so the same call from the same state has the same lines.
* It never comes between the last line of a `with` block and the call of `__exit__`: the interpreter
  looks for signals after calls and before loops, and there is neither in between, so `with lock`
  gives its lock back whatever happens. A tracer would make that up.
"""

from __future__ import annotations

import dis
import functools
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import get_ident
from types import CodeType, FrameType
from typing import Any, NoReturn

TESTING = os.path.dirname(os.path.abspath(__file__))
PACKAGE = os.path.dirname(TESTING)
# Such as a line with `try:`, and the way of an exception to `__exit__`.
QUIET = ("NOP", "PUSH_EXC_INFO", "WITH_EXCEPT_START")
HARMLESS = ("LOAD_CONST", "LOAD_FAST", "NOP", "SWAP")  # neither raise nor look for signals
MONITOR = 4  # the numbers below have a use by convention: debugger, coverage, profiler
ERRORS: tuple[type[BaseException], ...] = (KeyboardInterrupt, SystemExit, MemoryError)

Reach = Callable[[FrameType], None]  # called before a line, or an instruction, of a frame


class Interruption:
    """One call that is interrupted.

    Args:
        at: before which line the exception is raised, from 1; 0: nowhere, the lines are counted.
        error: what is raised.
        opcodes: count bytecode instructions instead of lines, which is finer: the exception also
            comes between a call that returned and the assignment of what it returned.
    """

    def __init__(
        self, at: int, error: type[BaseException] = KeyboardInterrupt, *, opcodes: bool = False
    ) -> None:
        self._at, self._error, self._opcodes = at, error, opcodes
        self.points = 0  # lines that ran, up to the exception
        self.place = ""  # where the exception was raised; empty if the call ended before

    def run(self, call: Callable[[], Any]) -> BaseException | None:
        """Make the call; return what it raised, without a traceback, or None."""
        unraisable = sys.unraisablehook
        sys.unraisablehook = self._ignore  # in a finalizer the interpreter drops the exception
        try:
            with _watched(self._reach, self._opcodes):
                call()
        except BaseException as error:  # noqa: BLE001  # the caller judges it
            return _bare(error)
        finally:
            sys.unraisablehook = unraisable
        return None

    def _ignore(self, unraisable: Any) -> None:
        if not isinstance(unraisable.exc_value, self._error):
            sys.__unraisablehook__(unraisable)

    def _reach(self, frame: FrameType) -> None:
        """A frame is about to run a line, or an instruction."""
        if frame.f_lasti not in _quiet_places(frame.f_code):
            self.points += 1
            if self.points == self._at:
                self.place = f"{frame.f_code.co_filename[len(PACKAGE) + 1 :]}:{frame.f_lineno}"
                _handle(self._error, sys._getframe())


def _handle(error: type[BaseException], _frame: FrameType) -> NoReturn:
    """Raise as a signal handler does, which is given the frame that it interrupts."""
    raise error


if sys.version_info >= (3, 12):

    @contextmanager
    def _watched(reach: Reach, opcodes: bool) -> Iterator[None]:
        monitoring, thread = sys.monitoring, get_ident()
        event = monitoring.events.INSTRUCTION if opcodes else monitoring.events.LINE

        def at(code: CodeType, _where: int) -> Any:
            if not _counts(code):
                return monitoring.DISABLE
            if get_ident() == thread:
                reach(sys._getframe(1))
            return None

        monitoring.use_tool_id(MONITOR, "kvengine.testing")
        monitoring.register_callback(MONITOR, event, at)
        monitoring.set_events(MONITOR, event)
        try:
            yield
        finally:
            monitoring.set_events(MONITOR, 0)
            monitoring.register_callback(MONITOR, event, None)
            monitoring.free_tool_id(MONITOR)

else:

    @contextmanager
    def _watched(reach: Reach, opcodes: bool) -> Iterator[None]:
        wanted, before = "opcode" if opcodes else "line", sys.gettrace()

        def enter(frame: FrameType, event: str, _: Any) -> Any:
            if not _counts(frame.f_code):
                return None
            if opcodes:
                frame.f_trace_opcodes, frame.f_trace_lines = True, False
            return at

        def at(frame: FrameType, event: str, _: Any) -> Any:
            if event == wanted:
                reach(frame)
            return at

        sys.settrace(enter)
        try:
            yield
        finally:
            sys.settrace(before)


def _counts(code: CodeType) -> bool:
    return code.co_filename.startswith(PACKAGE) and not code.co_filename.startswith(TESTING)


@functools.cache
def _quiet_places(code: CodeType) -> frozenset[int]:
    """Return where in a function nothing can be raised: at NOPs, and just before `__exit__`."""
    instructions = [at for at in dis.get_instructions(code) if at.opname != "EXTENDED_ARG"]
    found = {at.offset for at in instructions if at.opname in QUIET}
    for n in range(len(instructions) - 3):
        loads = instructions[n : n + 3]
        calls = instructions[n + 3].opname in ("PRECALL", "CALL")
        if calls and all(at.opname == "LOAD_CONST" and at.argval is None for at in loads):
            found.update(at.offset for at in loads)
            while n and instructions[n - 1].opname in HARMLESS:  # what `return name` puts before
                n -= 1
                found.add(instructions[n].offset)
    return frozenset(found)


def count_points(call: Callable[[], Any], *, opcodes: bool = False) -> int:
    """Return how many points a call has at which it can be interrupted."""
    interruption = Interruption(0, opcodes=opcodes)
    error = interruption.run(call)
    if error is not None:
        raise error
    return interruption.points


def spread(points: int, most: int) -> Iterator[int]:
    """Yield at most so many numbers from 1 to `points`, evenly spread."""
    count = min(points, most)
    for n in range(count):
        yield 1 + n * points // count


def _bare(error: BaseException) -> BaseException:
    """Let go of the frames, and so of what the interrupted call held."""
    chain = [error]
    for one in chain:
        one.__traceback__ = None
        for other in (one.__context__, one.__cause__):
            if other is not None and other not in chain:
                chain.append(other)
    for one in chain:
        one.__context__ = one.__cause__ = None
    return error
