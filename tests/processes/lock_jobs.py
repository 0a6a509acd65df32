"""How a process does a job, one atomic step at a time: segments are closed, one is compacted.

Invariants:

* One process at a time has the lease.  Who has lost it while it was stopped finishes nothing.
* What a manifest does not know when it is written never begins later: min_segment is raised first.
"""

from __future__ import annotations

from tests.processes.lock_model import (
    FREE,
    HELD,
    Manifest,
    Process,
    Row,
    Segment,
    State,
    Wrong,
    chain_of,
    replaced,
)
from tests.processes.lock_steps import EMPTY, Puts, Steps


class Jobs(Puts):
    """The steps of a process that puts, and does a job now and then."""

    # -- jobs

    def idle(self, state: State, number: int, process: Process) -> Steps:
        """Nothing to do, or a put, or a job."""
        yield from super().idle(state, number, process)
        if state.jobs and not process.put and state.page.write_lock != HELD:
            yield from self.claim(state, number, process)

    def claim(self, state: State, number: int, process: Process) -> Steps:
        """Take the lease of nobody, of one who is dead, or of one who was not heard of for long."""
        page = state.page
        holders = [one.token for one in state.processes if one.token]
        is_mine = process.token != 0 and process.token == page.lease
        if page.lease in holders and not (is_mine or state.steals):
            return
        token = process.token if is_mine else page.tokens + 1
        yield (
            "claims the lease",
            self.moved(
                state,
                number,
                process._replace(step="load", token=token),
                page._replace(lease=token, tokens=max(token, page.tokens), write_lock=FREE),
                steals=state.steals - (page.lease in holders and not is_mine),
                jobs=state.jobs - 1,
            ),
        )

    def load(self, state: State, number: int, process: Process) -> Steps:
        """Read the manifest: the page may say less, if one was killed as it had replaced it."""
        built = state.manifests[-1]
        if self.mistake == "a job begins with the manifest that it knows":
            known = process.known or EMPTY
            built = known if known.generation == state.page.generation else built
        yield (
            "reads the manifest",
            self.moved(state, number, process._replace(step="plan", built=built)),
        )

    def given_up(self, state: State, number: int, process: Process) -> State:
        """Return the state after a job that was left, with what it had made."""
        files = tuple(file for file in state.files if file.id != process.output)
        return self.moved(
            state,
            number,
            Process(ahead=process.ahead, known=self.known(process.built)),
            files=files,
        )

    def plan(self, state: State, number: int, process: Process) -> Steps:
        """Choose a closed segment and copy what lives in it, on disk; or only name new ones."""
        assert process.built is not None
        page = state.page
        made = {row.id for row in process.built.rows if row.last}
        inputs = [file for file in state.files if file.id in made and file.is_log]
        if not inputs:
            yield (
                "has nothing to compact",
                self.moved(state, number, process._replace(step=self.after_plan())),
            )
            return
        output = page.next_id
        copy = Segment(
            output, inputs[0].first, inputs[0].records, is_named=True, is_log=False
        ).on_disk()
        away = process._replace(step=self.after_plan(), input=inputs[0].id, output=output)
        page = page._replace(next_id=output + 1)
        yield (
            "copies a segment",
            self.moved(state, number, away, page, files=replaced(state.files, copy)),
        )

    def after_plan(self) -> str:
        """Return the next step."""
        return (
            "write"
            if self.mistake == "segments are listed before min_segment is raised"
            else "fence"
        )

    def fence(self, state: State, number: int, process: Process) -> Steps:
        """Raise min_segment under the write lock: what the manifest will not know never begins."""
        page = state.page
        if (
            page.write_lock == HELD
            and self.mistake != "min_segment is raised without the write lock"
        ):
            return
        write_lock = page.write_lock if page.write_lock == HELD else FREE
        away = process._replace(step="write", next_id=page.next_id, begun=page.begun)
        yield (
            "raises min_segment",
            self.moved(
                state,
                number,
                away,
                page._replace(
                    min_segment=max(page.min_segment, page.next_id), write_lock=write_lock
                ),
            ),
        )

    def write(self, state: State, number: int, process: Process) -> Steps:
        """Sync what will be closed, and write the new manifest beside the old one."""
        built, page, files = process.built, state.page, state.files
        assert built is not None
        next_id, until = process.next_id, process.begun
        if self.mistake == "segments are listed before min_segment is raised":
            next_id, until = page.next_id, page.begun
        open_ones = [row.id for row in built.rows if not row.last]
        log = [file for file in files if file.id in open_ones]
        log += chain_of(files, built, until)
        rows = [row for row in built.rows if row.last]
        for number_in_log, file in enumerate(log):
            follower = log[number_in_log + 1] if number_in_log + 1 < len(log) else None
            last = follower.first - 1 if follower else 0
            if self.mistake != "a segment is named before it is on disk":
                files = replaced(files, file.on_disk()._replace(is_named=True))
            if not follower or last >= file.first:
                rows.append(Row(file.id, file.first, last))
        if process.input:
            rows = [
                row._replace(id=process.output) if row.id == process.input else row for row in rows
            ]
        draft = Manifest(built.generation + 1, next_id, tuple(rows))
        yield (
            "writes a manifest",
            self.moved(state, number, process._replace(step="commit", draft=draft), files=files),
        )

    def commit(self, state: State, number: int, process: Process) -> Steps:
        """Take the write lock, and see that the new manifest is still right."""
        page, draft, built = state.page, process.draft, process.built
        assert draft is not None
        assert built is not None
        if page.write_lock == HELD:
            return
        is_mine = page.lease == process.token
        is_strict = self.mistake == "the page must have the generation of the manifest"
        if (
            is_mine
            and page.generation != built.generation
            and (is_strict or page.generation > built.generation)
        ):
            raise Wrong("who has the lease can never finish a job: the page has another generation")
        if not (is_mine or self.mistake == "the lease is not looked at"):
            yield "has lost the lease", self.given_up(state, number, process)
        elif self.mistake == "segments are listed before min_segment is raised":
            yield from self.compare(state, number, process)
        else:
            taken = process._replace(has_write_lock=True, step="rename")
            yield (
                "takes the write lock",
                self.moved(state, number, taken, page._replace(write_lock=HELD)),
            )

    def compare(self, state: State, number: int, process: Process) -> Steps:
        """The mistake: compare only the newest segment, and raise min_segment now."""
        page, draft = state.page, process.draft
        assert draft is not None
        named = {row.id for row in draft.rows}
        if page.begun and page.begun not in named and page.begun < draft.next_id:
            yield (
                "sees a new segment",
                self.moved(
                    state, number, process._replace(step="write"), page._replace(write_lock=FREE)
                ),
            )
        else:
            taken = process._replace(has_write_lock=True, step="rename")
            min_segment = max(page.min_segment, draft.next_id)
            yield (
                "takes the write lock and raises min_segment",
                self.moved(
                    state, number, taken, page._replace(write_lock=HELD, min_segment=min_segment)
                ),
            )

    def rename(self, state: State, number: int, process: Process) -> Steps:
        """The point of no return."""
        draft, built = process.draft, process.built
        assert draft is not None
        assert built is not None
        if process.input in state.finished:
            raise Wrong(f"two processes have finished the same job, on segment {process.input}")
        if state.manifests[-1].generation != built.generation:
            raise Wrong(f"generation {state.manifests[-1].generation} of the manifest is lost")
        done = (process.input,) if process.input else ()
        yield (
            "renames the manifest",
            self.moved(
                state,
                number,
                process._replace(step="tell"),
                manifests=(*state.manifests, draft),
                finished=state.finished + done,
            ),
        )

    def tell(self, state: State, number: int, process: Process) -> Steps:
        """Tell the others, and release the write lock."""
        assert process.draft is not None
        page = state.page._replace(generation=process.draft.generation)
        yield (
            "tells the generation",
            self.moved(state, number, process._replace(step="put_down"), page),
        )

    def put_down(self, state: State, number: int, process: Process) -> Steps:
        """Release the write lock."""
        step = "sync_names"
        if self.mistake == "inputs are removed before the folder is synced":
            step = "remove"
        yield (
            "releases the write lock",
            self.moved(
                state,
                number,
                process._replace(has_write_lock=False, step=step),
                state.page._replace(write_lock=FREE),
            ),
        )

    def sync_names(self, state: State, number: int, process: Process) -> Steps:
        """Sync the folder."""
        yield "syncs the folder", self.folder_synced(state, number, process._replace(step="remove"))

    def remove(self, state: State, number: int, process: Process) -> Steps:
        """Remove what was replaced, and what others who were killed left; then the job is over."""
        assert process.draft is not None
        named = {row.id for row in process.draft.rows}
        min_segment = process.draft.next_id
        if self.mistake == "files above min_segment are taken for those of the dead":
            min_segment = state.page.next_id
        files = tuple(
            file._replace(is_removed=True)
            if file.id < min_segment and file.id not in named
            else file
            for file in state.files
        )
        over = Process(ahead=process.ahead, token=process.token, known=self.known(process.draft))
        yield "removes what no manifest will name", self.moved(state, number, over, files=files)
