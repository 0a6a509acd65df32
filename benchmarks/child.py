"""A child process as its parent sees it: lines in, lines out.

Invariants: the parent always waits for its child, and a child that fails shows its error in the
parent's message.
"""

import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from benchmarks.stage import Stage


class ChildFailed(Exception):
    """A child ended before it had answered."""


class Child:
    """A running child with its pipes."""

    def __init__(self, module: str, task: dict[str, Any]) -> None:
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed in __exit__
        self.process = subprocess.Popen(
            [sys.executable, "-m", module, json.dumps(task)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            bufsize=1,
            cwd=Path(__file__).parents[1],
        )

    @classmethod
    def of(cls, stage: Stage, action: str, order: dict[str, Any]) -> Self:
        """One that does what this file offers to the stores of a stage."""
        task = {
            "action": action,
            "engine": stage.kind.name,
            "settings": stage.settings,
            "options": stage.options.as_json(),
            "folder": str(stage.folder),
            **order,
        }
        return cls("benchmarks.children", task)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_details: object) -> None:
        if self.process.stdin:
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.close()
        try:
            self.process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.process.stdout:
            self.process.stdout.close()
        self._errors.close()

    def line(self) -> str:
        """The next line.

        Raises:
            ChildFailed: there is none.
        """
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            self._errors.seek(0)
            raise ChildFailed(self._errors.read()[-1500:] or "the child ended without a word")
        return line

    def expect(self, word: str) -> None:
        """Wait for this line.

        Raises:
            ChildFailed: another one came.
        """
        line = self.line().strip()
        if line != word:
            raise ChildFailed(f"expected {word!r}, the child said {line!r}")

    def rest(self) -> Iterator[str]:
        """Complete lines that are still in the pipe."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.endswith("\n"):
                yield line

    def send(self, word: str) -> None:
        """Write a line to the child."""
        assert self.process.stdin is not None
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()
