"""A model of how one store writes without the mutex until another joins: all interleavings.

A processor may keep a store to itself for a while (its store buffer), and load other words
meanwhile; so the model does.  The protocol is that of kvengine/engine/PROCESSES.md, "A single
process."

Invariants:

* explore() looks at every state that can be reached, once: never are two in a write at a time,
  and whoever wants to write or to join gets there, however the others were killed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

FREE, HELD, DEAD = "free", "held", "dead"  # the mutex: robust
GONE = "gone"  # a process that was killed


class Wrong(Exception):
    """A state in which the protocol does not keep what it promises."""


class Process(NamedTuple):
    """One process: its next step, and the stores to `inside` that only it sees."""

    step: str = "join"
    pending: tuple[int, ...] = ()
    writes: int = 0  # left


class State(NamedTuple):
    """The words on the page, the mutex and the processes."""

    processes: tuple[Process, ...]
    shared: int = 2  # no page is set up yet
    inside: int = 0
    mutex: str = FREE
    joining: int = -1  # who has the lock for opening
    kills: int = 0


Steps = Iterator[State]


class Sharing:
    """What may happen next, with at most one mistake in the protocol."""

    def __init__(self, mistake: str = "") -> None:
        self.mistake = mistake

    def steps(self, state: State) -> Steps:
        """Yield all that may happen in a state."""
        for number, process in enumerate(state.processes):
            if process.step == GONE:
                continue
            if process.pending:  # its oldest store reaches memory
                yield moved(
                    drained(state, number, 1), number, process._replace(pending=process.pending[1:])
                )
            yield from getattr(self, process.step)(state, number, process)
            if state.kills:
                yield self.killed(state, number, process)

    def killed(self, state: State, number: int, process: Process) -> State:
        """Return the state after a kill: what was stored stays, the system frees the locks."""
        state = drained(state, number)
        if process.step == "write_with_mutex":
            state = state._replace(mutex=DEAD)
        if state.joining == number:
            state = state._replace(joining=-1)
        return moved(state._replace(kills=state.kills - 1), number, Process(GONE))

    # -- joining, with the lock for opening

    def join(self, state: State, number: int, process: Process) -> Steps:
        """Take the lock for opening."""
        if state.joining == -1:
            yield moved(state._replace(joining=number), number, process._replace(step="look"))

    def look(self, state: State, number: int, process: Process) -> Steps:
        """See whether one is the only one, and whether the others share already."""
        others = [other for at, other in enumerate(state.processes) if at != number]
        if all(other.step in {"join", GONE} for other in others):
            page = state._replace(shared=0, inside=0, mutex=FREE, joining=-1)
            yield moved(page, number, process._replace(step="idle"))
        elif state.shared == 2:
            yield moved(state._replace(joining=-1), number, process._replace(step="idle"))
        else:
            yield moved(state._replace(shared=1), number, process._replace(step="barrier"))

    def barrier(self, state: State, number: int, process: Process) -> Steps:
        """Let every store that a processor keeps to itself reach memory."""
        if self.mistake != "no barrier":
            for at in range(len(state.processes)):
                state = moved(drained(state, at), at, state.processes[at]._replace(pending=()))
        yield moved(state, number, process._replace(step="wait"))

    def wait(self, state: State, number: int, process: Process) -> Steps:
        """Wait until nobody is inside; look from time to time whether that one is there still."""
        if state.inside == 0 or self.mistake == "who joins does not wait":
            page = state._replace(shared=2, joining=-1)
            yield moved(page, number, process._replace(step="idle"))
        elif self.mistake != "nobody looks whether the other one died":
            yield moved(state, number, process._replace(step="look"))

    # -- a write

    def idle(self, state: State, number: int, process: Process) -> Steps:
        """Begin a write, as one that is alone or as one of several."""
        if not process.writes:
            return
        begun = process._replace(writes=process.writes - 1)
        yield moved(state, number, begun._replace(step="take" if state.shared else "step_inside"))

    def step_inside(self, state: State, number: int, process: Process) -> Steps:
        """Say that one is inside; only this processor knows at first."""
        pending = (*process.pending, 1)
        yield moved(state, number, process._replace(step="look_again", pending=pending))

    def look_again(self, state: State, number: int, process: Process) -> Steps:
        """See whether one is alone still; if not, take the mutex."""
        if state.shared == 0 or self.mistake == "who is inside does not look again":
            yield moved(state, number, process._replace(step="write_alone"))
        else:
            pending = (*process.pending, 0)
            yield moved(state, number, process._replace(step="take", pending=pending))

    def take(self, state: State, number: int, process: Process) -> Steps:
        """Take the mutex, which is a barrier, too."""
        if state.mutex != HELD:
            state = drained(state, number)._replace(mutex=HELD)
            yield moved(state, number, process._replace(step="write_with_mutex", pending=()))

    def write_alone(self, state: State, number: int, process: Process) -> Steps:
        """Write, and say that one is no longer inside."""
        pending = (*process.pending, 0)
        yield moved(state, number, process._replace(step="idle", pending=pending))

    def write_with_mutex(self, state: State, number: int, process: Process) -> Steps:
        """Write, and give the mutex back."""
        yield moved(state._replace(mutex=FREE), number, process._replace(step="idle"))


def moved(state: State, number: int, process: Process) -> State:
    """Return the state with one process changed."""
    processes = list(state.processes)
    processes[number] = process
    return state._replace(processes=tuple(processes))


def drained(state: State, number: int, count: int | None = None) -> State:
    """Return the state with the oldest stores of a process, or all, in memory."""
    for value in state.processes[number].pending[:count]:
        state = state._replace(inside=value)
    return state


def explore(processes: int, writes: int, kills: int, mistake: str = "") -> int:
    """Look at all states; return how many there are.

    Raises:
        Wrong: two are in a write at a time, or somebody waits for ever.
    """
    sharing = Sharing(mistake)
    start = State((Process(writes=writes),) * processes, kills=kills)
    seen, left = {start}, deque([start])
    while left:
        state = left.popleft()
        writing = [one for one in state.processes if one.step.startswith("write_")]
        if len(writing) > 1:
            raise Wrong(f"two write at a time: {state}")
        found = list(sharing.steps(state))
        if not found and any(one.step != GONE and one.writes for one in state.processes):
            raise Wrong(f"nobody can go on: {state}")
        if not found and any(one.step not in {GONE, "idle"} for one in state.processes):
            raise Wrong(f"one waits for ever: {state}")
        for after in found:
            if after not in seen:
                seen.add(after)
                left.append(after)
    return len(seen)
