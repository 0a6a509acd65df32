"""Raise an exception at one chosen line of a call, as Ctrl-C or a lack of memory would.

Invariants:

* The exception is raised once, in the thread that makes the call, before the chosen line runs.
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
from types import CodeType, FrameType
from typing import Any

TESTING = os.path.dirname(os.path.abspath(__file__))
PACKAGE = os.path.dirname(TESTING)
# Such as a line with `try:`, and the way of an exception to `__exit__`.
QUIET = ("NOP", "PUSH_EXC_INFO", "WITH_EXCEPT_START")
HARMLESS = ("LOAD_CONST", "LOAD_FAST", "NOP", "SWAP")  # neither raise nor look for signals
ERRORS: tuple[type[BaseException], ...] = (KeyboardInterrupt, SystemExit, MemoryError)


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
        before, unraisable = sys.gettrace(), sys.unraisablehook
        sys.unraisablehook = self._ignore  # in a finalizer the interpreter drops the exception
        sys.settrace(self._enter)
        try:
            call()
        except BaseException as error:  # noqa: BLE001  # the caller judges it
            return _bare(error)
        finally:
            sys.settrace(before)
            sys.unraisablehook = unraisable
        return None

    def _ignore(self, unraisable: Any) -> None:
        if not isinstance(unraisable.exc_value, self._error):
            sys.__unraisablehook__(unraisable)

    def _enter(self, frame: FrameType, event: str, _: Any) -> Any:
        name = frame.f_code.co_filename
        if not name.startswith(PACKAGE) or name.startswith(TESTING):
            return None
        if self._opcodes:
            frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return self._step

    def _step(self, frame: FrameType, event: str, _: Any) -> Any:
        if event == ("opcode" if self._opcodes else "line") and frame.f_lasti not in _quiet_places(
            frame.f_code
        ):
            self.points += 1
            if self.points == self._at:
                self.place = f"{frame.f_code.co_filename[len(PACKAGE) + 1 :]}:{frame.f_lineno}"
                raise self._error
        return self._step


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
