"""How a process puts, one atomic step at a time, and the mistakes one could make in it.

Each method named as a step yields (what happens, the next state) for a process that is there; none
if it must wait.  A process that is stopped is one whose turn does not come.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from tests.processes.lock_model import (
    FREE,
    HELD,
    TORN,
    Manifest,
    Page,
    Process,
    Record,
    Segment,
    State,
    Wrong,
    file_of,
    replaced,
)

Steps = Iterator[tuple[str, State]]
EMPTY = Manifest(1, 1, ())


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """How much of everything may happen."""

    processes: int = 2
    puts: int = 2
    sizes: tuple[int, ...] = (1,)  # records of a put, each in turn
    capacity: int = 2  # records of a segment
    kills: int = 0
    cuts: int = 0
    jobs: int = 0
    steals: int = 0  # of the lease of a process that is alive
    syncs: bool = False  # each put waits until it is durable
    readers: int = 0
    mistake: str = ""

    def with_mistake(self, mistake: str) -> Scenario:
        """Return the same scenario with a mistake in the protocol."""
        return replace(self, mistake=mistake)

    def start(self) -> State:
        """Return a new store, open in all processes."""
        idle = (Process(),) * self.processes + (Process("look"),) * self.readers
        return State(
            Page(),
            (),
            (EMPTY,),
            idle,
            kills=self.kills,
            cuts=self.cuts,
            jobs=self.jobs,
            steals=self.steals,
        )


class Puts:
    """The steps of a process that puts."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario, self.mistake = scenario, scenario.mistake

    def moved(
        self, state: State, number: int, process: Process, page: Page | None = None, **more: Any
    ) -> State:
        """Return the state with one process changed; they are told apart by what they are."""
        processes = list(state.processes)
        processes[number] = process
        return state._replace(
            processes=tuple(sorted(processes, key=repr)), page=page or state.page, **more
        )

    # -- a put

    def idle(self, state: State, number: int, process: Process) -> Steps:
        """Nothing to do, or to do again what had to wait."""
        page = state.page
        if page.write_lock == HELD:
            return
        started = state.started
        if process.put or started < self.scenario.puts:
            started += not process.put
            taken = process._replace(step="decide", has_write_lock=True, put=process.put or started)
            yield (
                "takes the write lock",
                self.moved(state, number, taken, page._replace(write_lock=HELD), started=started),
            )

    def known(self, manifest: Manifest | None) -> Manifest | None:
        """Return what a process remembers of a manifest: only one mistake needs that."""
        mistake = "a job begins with the manifest that it knows"
        return manifest if self.mistake == mistake else None

    def decide(self, state: State, number: int, process: Process) -> Steps:
        """Go on in the segment, or begin one; new files are made without the write lock."""
        page, ahead = state.page, process.ahead
        active = file_of(state.files, page.begun)
        size = self.size_of(process.put)
        is_full = active is None or (
            bool(active.records) and len(active.records) + size > self.scenario.capacity
        )
        is_marked = page.writing and self.mistake not in {
            "a dead writer's mark is ignored",
            "a tail is overwritten",
        }
        if not (is_full or is_marked):
            yield "says that it writes", self.marked(state, number, process, "append")
        elif self.must_wait(state) and (
            self.mistake != "the next segment does not wait for one that was taken over"
        ):
            away = process._replace(step="name", has_write_lock=False)
            yield "waits", self.moved(state, number, away, page._replace(write_lock=FREE))
        elif ahead and (
            ahead >= page.min_segment or self.mistake == "min_segment is not looked at"
        ):
            if self.mistake == "a segment begins before the mark":
                yield (
                    "writes a header",
                    self.moved(
                        state,
                        number,
                        process._replace(step="begin"),
                        page._replace(min_segment=ahead + 1),
                        files=self.with_header(state, ahead),
                    ),
                )
            else:
                yield "says that it writes", self.marked(state, number, process, "reserve")
        else:
            files = tuple(file for file in state.files if file.id != ahead)
            away = process._replace(step="make", has_write_lock=False, ahead=0)
            yield (
                "has no segment",
                self.moved(state, number, away, page._replace(write_lock=FREE), files=files),
            )

    def mark(self, state: State, number: int, process: Process) -> Steps:
        """Say it after the segment was begun: a mistake."""
        yield "says that it writes", self.marked(state, number, process, "append")

    def marked(self, state: State, number: int, process: Process, step: str) -> State:
        """Return the state with the mark of a writer."""
        away = process._replace(step=step, is_heir=state.page.writing and step == "reserve")
        return self.moved(state, number, away, state.page._replace(writing=True))

    def must_wait(self, state: State) -> bool:
        """True if the newest segment was taken over and may not be on disk: none may follow yet.

        Else a power cut could leave the tail of the dead one and the next segment, but not this.
        """
        page = state.page
        begun = file_of(state.files, page.begun)
        is_on_disk = begun is None or (begun.is_named and begun.synced > 0)
        return page.taken_over == page.begun != 0 and not is_on_disk

    def name(self, state: State, number: int, process: Process) -> Steps:
        """Bring the segment that was taken over to disk, without the write lock."""
        begun = file_of(state.files, state.page.begun)
        if begun is not None and begun.synced < 1 + len(begun.records):
            files = replaced(state.files, begun.on_disk())
            yield "syncs a segment", self.moved(state, number, process, files=files)
        else:
            away = process._replace(step="idle")
            yield "syncs the folder", self.folder_synced(state, number, away)

    def size_of(self, put: int) -> int:
        """Return how many records a put has."""
        return self.scenario.sizes[put % len(self.scenario.sizes)]

    def make(self, state: State, number: int, process: Process) -> Steps:
        """Take an id."""
        ahead = state.page.next_id
        page = state.page._replace(next_id=ahead + 1)
        yield (
            "takes an id",
            self.moved(state, number, process._replace(step="create", ahead=ahead), page),
        )

    def create(self, state: State, number: int, process: Process) -> Steps:
        """Make a segment ahead."""
        files = replaced(state.files, Segment(process.ahead))
        yield (
            "makes a segment",
            self.moved(state, number, process._replace(step="idle"), files=files),
        )

    def reserve(self, state: State, number: int, process: Process) -> Steps:
        """No segment with a lower id begins from now on, even if this process dies now."""
        page = state.page
        if self.mistake != "min_segment is not raised before a header":
            page = page._replace(min_segment=process.ahead + 1)
        yield (
            "raises min_segment",
            self.moved(state, number, process._replace(step="head"), page),
        )

    def head(self, state: State, number: int, process: Process) -> Steps:
        """Write the header."""
        files = self.with_header(state, process.ahead)
        yield (
            "writes a header",
            self.moved(state, number, process._replace(step="begin"), files=files),
        )

    def with_header(self, state: State, ahead: int) -> tuple[Segment, ...]:
        """Return the files with a header in the segment made ahead."""
        page = state.page
        file = file_of(state.files, ahead)
        if file is None:
            raise Wrong(f"segment {ahead}, made ahead, was removed")
        return replaced(state.files, file._replace(first=page.version + 1))

    def begin(self, state: State, number: int, process: Process) -> Steps:
        """Say that the log goes on there, and before that whether it took over from a dead one."""
        if process.is_heir:
            page = state.page._replace(taken_over=process.ahead)
            away = process._replace(is_heir=False)
            yield "takes over", self.moved(state, number, away, page)
            return
        page = state.page._replace(begun=process.ahead)
        step = "append"
        if self.mistake == "a segment begins before the mark":
            step = "mark"
        yield (
            "begins a segment",
            self.moved(state, number, process._replace(step=step, ahead=0), page),
        )

    def append(self, state: State, number: int, process: Process) -> Steps:
        """Write the first record of more, or a part of the only one."""
        first = state.page.version + 1
        if self.size_of(process.put) > 1:
            record = Record(first, process.put, more=True)
        else:
            record = Record(TORN, process.put)
        yield (
            "appends a part",
            self.moved(
                state,
                number,
                process._replace(step="append_rest"),
                files=self.appended(state, [record]),
            ),
        )

    def append_rest(self, state: State, number: int, process: Process) -> Steps:
        """Write the rest."""
        first, size = state.page.version + 1, self.size_of(process.put)
        records = [Record(first + at, process.put, at + 1 < size) for at in range(size)]
        yield (
            "appends the rest",
            self.moved(
                state,
                number,
                process._replace(step="publish", version=first + size - 1),
                files=self.appended(state, records),
            ),
        )

    def appended(self, state: State, records: list[Record]) -> tuple[Segment, ...]:
        """Return the files with records at the end of the log, over a part of the same."""
        active = file_of(state.files, state.page.begun)
        if active is None:
            raise Wrong(f"segment {state.page.begun}, which is written to, was removed")
        if self.mistake == "a tail is overwritten":
            at = sum(0 < one.version <= state.page.version for one in active.records)
        else:
            at = sum(one.put != records[0].put for one in active.records)
        new = (*active.records[:at], *records, *active.records[at + len(records) :])
        return replaced(state.files, active._replace(records=new))

    def publish(self, state: State, number: int, process: Process) -> Steps:
        """Let all others see it."""
        if self.mistake == "the mark is taken away first" and state.page.writing:
            yield (
                "no longer says that it writes",
                self.moved(state, number, process, state.page._replace(writing=False)),
            )
            return
        page = state.page._replace(version=process.version)
        if len(state.history) >= process.version:
            raise Wrong(f"version {process.version} is given twice")
        new = (process.put,) * self.size_of(process.put)
        yield (
            "publishes",
            self.moved(
                state, number, process._replace(step="unmark"), page, history=state.history + new
            ),
        )

    def unmark(self, state: State, number: int, process: Process) -> Steps:
        """Nothing is half done any more."""
        page = state.page._replace(writing=False)
        yield (
            "no longer says that it writes",
            self.moved(state, number, process._replace(step="release"), page),
        )

    def release(self, state: State, number: int, process: Process) -> Steps:
        """Release the write lock; with durability "os" that is all."""
        page = state.page._replace(write_lock=FREE)
        away = process._replace(
            has_write_lock=False, step="sync" if self.scenario.syncs else "idle", put=0
        )
        if not self.scenario.syncs:
            away = away._replace(version=0)
        yield "releases the write lock", self.moved(state, number, away, page)

    # -- durability

    def sync(self, state: State, number: int, process: Process) -> Steps:
        """Sync one file more; a sync of one process serves all that wait."""
        page = state.page
        done = process._replace(step="idle", version=0)
        if page.durable >= process.version:
            yield "is durable", self.acknowledged(state, number, done, page, process.version)
            return
        for file in state.files:
            is_in = file.first and file.is_log and file.first <= process.version
            is_in = is_in and not file.is_removed and file.synced < 1 + len(file.records)
            if self.mistake == "only the active segment is synced":
                is_in = is_in and file.id == page.begun
            if is_in and file.id <= page.begun:
                files = replaced(state.files, file.on_disk())
                yield "syncs a segment", self.moved(state, number, process, files=files)
                return
        if any(not file.is_named for file in state.files):
            yield "syncs the folder", self.folder_synced(state, number, process)
            return
        page = page._replace(durable=max(page.durable, process.version))
        yield "says what is durable", self.acknowledged(state, number, done, page, process.version)

    def acknowledged(
        self, state: State, number: int, process: Process, page: Page, version: int
    ) -> State:
        """Return the state after a put returned that is durable."""
        return self.moved(state, number, process, page, durable=max(state.durable, version))

    def folder_synced(self, state: State, number: int, process: Process) -> State:
        """Return the state after a sync of the folder."""
        files = tuple(file._replace(is_named=True) for file in state.files if not file.is_removed)
        return self.moved(state, number, process, files=files, manifests=state.manifests[-1:])
