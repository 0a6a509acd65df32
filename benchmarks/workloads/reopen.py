"""How long it takes from nothing to the first answer.

Invariants: the store is opened in a new process whose imports are done before the clock starts; the
time runs from the call that opens to the return of the first ``get``.  After a kill the answer is
checked: the last write that the dead process acknowledged must be there.
"""

import json
import signal
from time import monotonic

from benchmarks import footprint
from benchmarks.child import Child
from benchmarks.stage import Stage, WrongAnswer
from benchmarks.timing import Sample

_ACKNOWLEDGED_MIN = 1000


def reopen(stage: Stage, repeat: int, _seconds: float) -> Sample:
    """After a clean close, files in the page cache."""
    stage.main()
    stage.close_main()
    return _open_and_get(stage, repeat)


def reopen_cold(stage: Stage, repeat: int, _seconds: float) -> Sample:
    """After a clean close, files dropped from the page cache."""
    stage.main()
    stage.close_main()
    footprint.drop_page_cache(stage.main_path)
    return _open_and_get(stage, repeat)


def reopen_killed(stage: Stage, repeat: int, seconds: float) -> Sample:
    """After SIGKILL of a process that was overwriting a tenth of the store with single puts."""
    stage.main()
    stage.close_main()
    stage.generation += 1
    wanted = min(stage.loaded, max(_ACKNOWLEDGED_MIN, stage.loaded // 10))
    order = {"loaded": stage.loaded, "generation": stage.generation, "repeat": repeat}
    written = 0
    with Child.of(stage, "write", order) as child:
        deadline = monotonic() + max(seconds, 0.2)
        while written < wanted and monotonic() < deadline:
            written = int(child.line())
        child.process.send_signal(signal.SIGKILL)
        for line in child.rest():
            written = int(line)
    sample = _open_and_get(stage, repeat, written)
    sample.figures["overwritten"] = written
    return sample


def _open_and_get(stage: Stage, repeat: int, written: int = 0) -> Sample:
    """Open in a new process; with ``written``, look for the last of so many overwrites."""
    order = {
        "loaded": stage.loaded,
        "generation": stage.generation,
        "repeat": repeat,
        "written": written,
    }
    with Child.of(stage, "open", order) as child:
        answer = json.loads(child.line())
    if not answer["right"]:
        raise WrongAnswer(f"{stage.kind.name}: an acknowledged write is lost after reopening")
    figures = {name: answer[name] for name in ("open_ns", "get_ns")}
    return Sample(1, answer["open_ns"] + answer["get_ns"], figures=figures)
