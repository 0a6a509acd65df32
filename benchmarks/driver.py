"""Starts one process for each engine and leads them through the workloads.

Invariants: by default all engines do the same repeat of the same workload one after the other,
never at once, so that a noisy minute hits all alike; an engine that dies is started again and loses
only the repeat in which it died; the result says what was left out and why.
"""

import contextlib
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

from benchmarks import machine
from benchmarks.engines import ENGINES
from benchmarks.engines.base import EngineMissing
from benchmarks.options import Options
from benchmarks.workloads import WORKLOADS
from benchmarks.workloads.base import Workload

FORMAT = 1
Say = Callable[[str], None]


@dataclass(slots=True)
class Contender:
    """An engine with settings, and its process."""

    engine: str
    settings: str
    options: Options
    folder: Path
    process: subprocess.Popen[str] | None = None
    answers: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """How tables name it."""
        return self.engine if self.settings == "default" else f"{self.engine} {self.settings}"

    def ask(self, workload: str, repeat: int) -> dict[str, Any]:
        """Run one repeat in the process, which is started when there is none."""
        if self.process is None:
            self._start()
        process = self.process
        assert process is not None
        assert process.stdin
        assert process.stdout
        try:
            process.stdin.write(json.dumps({"workload": workload, "repeat": repeat}) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if line:
            answer: dict[str, Any] = json.loads(line)
        else:
            code = self._end_process()
            shutil.rmtree(self.folder, ignore_errors=True)
            answer = {"error": f"the process ended with code {code}"}
        self.answers.setdefault(workload, []).append(answer)
        return answer

    def stop(self) -> None:
        """End the process and remove its folder."""
        self._end_process()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _end_process(self) -> int:
        """Close the pipes, wait, and return the exit code."""
        process, self.process = self.process, None
        if process is None:
            return 0
        for pipe in (process.stdin, process.stdout):
            with contextlib.suppress(BrokenPipeError):
                if pipe:
                    pipe.close()
        return process.wait()

    def _start(self) -> None:
        task = {
            "engine": self.engine,
            "settings": self.settings,
            "options": self.options.as_json(),
            "folder": str(self.folder),
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker", json.dumps(task)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            cwd=Path(__file__).parents[1],
        )


def run(
    options: Options,
    engines: Sequence[tuple[str, str]],
    workloads: Sequence[str],
    *,
    interleave: bool,
    say: Say,
) -> dict[str, Any]:
    """Run everything and return the result as a dict for ``json``."""
    present, versions, missing = available(engines, say)
    parent = Path(options.directory) if options.directory else None
    folder = Path(tempfile.mkdtemp(prefix="kvengine-bench-", dir=parent))
    contenders = [
        Contender(engine, settings, options, folder / f"{engine}-{settings}".replace(" ", "_"))
        for engine, settings in present
    ]
    facts, started = machine.describe(folder), perf_counter()
    chosen = [workload for name, workload in WORKLOADS.items() if name in workloads]
    try:
        groups = [contenders] if interleave else [[one] for one in contenders]
        for group in groups:
            for workload in chosen:
                _run_workload(workload, group, options.repeats, say)
            for contender in group:
                contender.stop()
    finally:
        for contender in contenders:
            contender.stop()
        shutil.rmtree(folder, ignore_errors=True)
    return {
        "format": FORMAT,
        "machine": facts,
        "options": options.as_json() | {"directory": None},
        "versions": versions,
        "missing": missing,
        "engines": [contender.label for contender in contenders],
        "workloads": {workload.name: workload.about for workload in chosen},
        "duration_s": round(perf_counter() - started, 1),
        "results": [
            {"engine": contender.label, "workload": workload.name}
            | summary(contender.answers.get(workload.name, []))
            for workload in chosen
            for contender in contenders
            if suits(workload, contender.engine)
        ],
    }


def available(
    engines: Sequence[tuple[str, str]], say: Say
) -> tuple[list[tuple[str, str]], dict[str, str], dict[str, str]]:
    """Those that can be imported, their versions, and why the others cannot."""
    versions: dict[str, str] = {}
    missing: dict[str, str] = {}
    for engine in dict.fromkeys(name for name, _settings in engines):
        try:
            versions[engine] = ENGINES[engine].version()
        except EngineMissing as error:
            missing[engine] = str(error)
            say(f"without {engine}: {error}")
    return [pair for pair in engines if pair[0] in versions], versions, missing


def suits(workload: Workload, engine: str) -> bool:
    """Whether the engine can do what the workload needs."""
    return workload.needs <= ENGINES[engine].abilities


def _run_workload(
    workload: Workload, contenders: Sequence[Contender], repeats: int, say: Say
) -> None:
    able = [contender for contender in contenders if suits(workload, contender.engine)]
    started = perf_counter()
    for repeat in range(workload.repeats or repeats):
        for contender in able:
            earlier = contender.answers.get(workload.name, [])
            if not any("error" in answer for answer in earlier):
                contender.ask(workload.name, repeat)
    parts = []
    for contender in able:
        found = summary(contender.answers[workload.name])
        time = "failed" if "error" in found else human_ns(found["ns_median"])
        parts.append(f"{contender.label} {time}")
        if "error" in found:
            say(f"{workload.name}: {contender.label}: {found['error']}")
    say(f"{workload.name} ({perf_counter() - started:.1f} s): " + ", ".join(parts))


def summary(answers: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Median and minimum of the repeats, medians of their percentiles, figures of the last one."""
    samples = [answer["sample"] for answer in answers if "sample" in answer]
    errors = [answer["error"] for answer in answers if "error" in answer]
    if errors or not samples:
        return {"error": errors[0] if errors else "was not run"}
    times = [sample["ns_per_operation"] for sample in samples]
    names = samples[0]["latencies_ns"]
    return {
        "ns_median": median(times),
        "ns_min": min(times),
        "ns_all": times,
        "operations": [sample["operations"] for sample in samples],
        "latencies_ns": {
            name: median(sample["latencies_ns"].get(name, 0.0) for sample in samples)
            for name in names
        },
        "figures": samples[-1]["figures"],
        "wall_s": sum(answer["wall_s"] for answer in answers),
    }


def human_ns(nanoseconds: float) -> str:
    """A time with three digits and its unit."""
    for unit, size in (("s", 1e9), ("ms", 1e6), ("µs", 1e3)):
        if nanoseconds >= size:
            return f"{nanoseconds / size:.3g} {unit}"
    return f"{nanoseconds:.3g} ns"
