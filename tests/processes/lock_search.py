"""Deaths, power cuts and readers in the model of the write lock, and a search through all states.

Invariants:

* explore() looks at every state that can be reached, once, and checks each.
* Of a state that is wrong it says all steps that led there; no way is shorter.
"""

from __future__ import annotations

from collections import deque

from tests.processes.lock_jobs import Jobs
from tests.processes.lock_model import (
    DEAD,
    HELD,
    Manifest,
    Page,
    Process,
    Row,
    State,
    Wrong,
    check_recovered,
    left_by_cut,
    read_log,
    recovered,
)
from tests.processes.lock_steps import Scenario, Steps

STATES_MAX = 1_000_000


class Protocol(Jobs):
    """What may happen next, in a scenario."""

    def steps(self, state: State) -> Steps:
        """Yield all that may happen in a state."""
        for number, process in enumerate(state.processes):
            if number and process == state.processes[number - 1]:
                continue  # the same with another name
            for what, found in getattr(self, process.step)(state, number, process):
                yield f"{number}: {what}", found
            if state.kills and process.step not in {"dead", "look", "look_more"}:
                yield f"{number}: is killed", self.killed(state, number, process)
        if state.cuts:
            yield from self.cut(state)

    # -- deaths

    def killed(self, state: State, number: int, process: Process) -> State:
        """Return the state after a process died; the system marks the write lock if it had it."""
        page = state.page
        if process.has_write_lock and self.mistake != "the write lock stays with the dead":
            page = page._replace(write_lock=DEAD)
        return self.moved(state, number, Process("dead"), page, kills=state.kills - 1)

    def dead(self, state: State, number: int, process: Process) -> Steps:
        """Another process starts in its place; one that is alone recovers what is there."""
        writers = [one for one in state.processes if one.step not in {"look", "look_more"}]
        if any(one.step != "dead" for one in writers):
            known = self.known(state.manifests[-1])
            yield "starts, and joins", self.moved(state, number, Process(known=known))
            return
        log, rows = read_log(state.files, state.manifests[-1])
        check_recovered(tuple(log), state.history, len(state.history))
        yield "starts alone", self.opened(state, number, log, rows)

    def opened(self, state: State, number: int, log: list[int], rows: list[Row]) -> State:
        """Return the state after a process recovered what others left on the same boot."""
        files, manifest = recovered(state.files, state.manifests[-1], rows)
        page = page_of(manifest, len(log), state.page)
        return self.moved(
            state,
            number,
            Process(),
            page,
            files=files,
            manifests=(manifest,),
            history=tuple(log),
        )

    def cut(self, state: State) -> Steps:
        """Power is cut; then one process recovers what is left, and the others join."""
        left = left_by_cut(state.files, state.manifests)
        for log, files, manifest in sorted(left):
            page = page_of(manifest, len(log), state.page)
            if self.mistake == "a page of another boot is believed":
                page = state.page._replace(lease=0)
            yield (
                f"power is cut, {len(log)} are left",
                state._replace(
                    page=page,
                    files=files,
                    manifests=(manifest,),
                    processes=self.scenario.start().processes,
                    history=log,
                    cuts=state.cuts - 1,
                ),
            )

    # -- who reads without the write lock

    def look(self, state: State, number: int, process: Process) -> Steps:
        """Load the first word."""
        page = state.page
        if self.mistake == "readers load the segment before the version":
            seen = page.begun
        else:
            seen = page.version
        if seen or page.version:
            yield (
                "loads a word",
                self.moved(state, number, process._replace(step="look_more", seen=seen)),
            )

    def look_more(self, state: State, number: int, process: Process) -> Steps:
        """Load the second word, and read up to the version."""
        version, begun = process.seen, state.page.begun
        if self.mistake == "readers load the segment before the version":
            version, begun = state.page.version, process.seen
        log, _ = read_log(state.files, state.manifests[-1], until=begun)
        if tuple(log[:version]) != state.history[:version]:
            raise Wrong(f"a reader sees {log[:version]}, not {state.history[:version]}")
        yield "reads", self.moved(state, number, Process("look"))


def page_of(manifest: Manifest, version: int, before: Page) -> Page:
    """Return the page as one sets it up who is alone."""
    return Page(
        version=version,
        min_segment=manifest.next_id,
        generation=manifest.generation,
        next_id=manifest.next_id,
        tokens=before.tokens,
        durable=before.durable,
    )


def check(state: State, protocol: Protocol) -> None:
    """See that a state keeps what is promised.

    Raises:
        Wrong: it does not.
    """
    page = state.page
    log, _ = read_log(
        state.files,
        state.manifests[-1],
        until=page.begun,
    )
    if tuple(log[: page.version]) != state.history[: page.version]:
        raise Wrong(f"one sees {log[: page.version]}, and before {state.history}")
    if page.version != len(state.history):
        raise Wrong(f"version {page.version} is published after {len(state.history)}")
    for left, _, _ in left_by_cut(state.files, state.manifests):
        check_recovered(left, state.history, state.durable)


def explore(scenario: Scenario) -> int:
    """Look at all states of a scenario, nearest first; return how many there are.

    Raises:
        Wrong: one of them is wrong; its text says how it came about.
    """
    protocol = Protocol(scenario)
    first = scenario.start()
    before: dict[State, tuple[State, str] | None] = {first: None}
    waiting = deque([first])
    while waiting:
        state = waiting.popleft()
        is_stuck = state.page.write_lock == HELD or any(
            one.put or one.step not in {"idle", "dead", "look"} for one in state.processes
        )
        try:
            check(state, protocol)
            for what, found in protocol.steps(state):
                is_stuck = is_stuck and what.endswith(("killed", "left"))
                if found not in before:
                    before[found] = (state, what)
                    waiting.append(found)
            if is_stuck:
                raise Wrong("nobody can go on")
        except Wrong as error:
            raise Wrong("\n".join([*steps_to(state, before), str(error)])) from None
        assert len(before) < STATES_MAX, "the scenario is too large"
    return len(before)


def steps_to(state: State, before: dict[State, tuple[State, str] | None]) -> list[str]:
    """Return what led to a state."""
    steps = []
    while (step := before[state]) is not None:
        state, what = step
        steps.append(what)
    return steps[::-1]
