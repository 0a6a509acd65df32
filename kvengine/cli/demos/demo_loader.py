"""How the demo starts its writer process, listens to it, and kills it.

Invariants:
* what the writer acknowledged before it died counts, even if it is read after the kill;
* no writer outlives the ``with`` block that started it.
"""

import json
import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Self

from kvengine.cli.demos.demo_files import SourceFile
from kvengine.cli.failures import CommandFailed
from kvengine.file.child import python_running

WRITER = "kvengine.cli.demos.demo_writer"


class Loader:
    """A writer process that loads *files* into the store at *path*, in the given order."""

    def __init__(
        self,
        path: str,
        root: bytes,
        files: Sequence[SourceFile],
        *,
        batch_files: int,
        stay: bool = False,
    ) -> None:
        self.path, self.files = path, files
        self.done = self.begun = 0  # positions in files: acknowledged, and handed to the store
        self.seconds_in_store = 0.0
        self._skipped: set[int] = set()
        self._started = time.perf_counter()
        self._process = subprocess.Popen(
            [
                *python_running(WRITER, path, os.fsdecode(root)),
                *(_write_names(path, files), str(batch_files), "stay" if stay else "close"),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    @property
    def pid(self) -> int:
        """Return the id of the writer process."""
        return self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def acknowledgements(self) -> Iterator[int]:
        """Yield how many files are safe, each time the writer speaks, until its pipe ends."""
        for line in self._process.stdout or ():
            if not line.endswith(b"\n"):
                return  # the writer died while it spoke
            said = json.loads(line)
            if "begun" in said:
                self.begun = said["begun"]
                self._skipped.update(said["skipped"])
            else:
                self.done, self.seconds_in_store = said["done"], said["seconds"]
            yield self.done

    def finish(self) -> float:
        """Wait until everything is loaded and return the seconds since the start.

        Raises:
            CommandFailed: the writer failed; it has said why.
        """
        for _position in self.acknowledgements():
            pass
        self._process.communicate()
        if self._process.returncode:
            raise CommandFailed(
                f"the writer process ended with exit code {self._process.returncode}"
            )
        return time.perf_counter() - self._started

    def kill(self) -> int:
        """Kill the writer with SIGKILL, read what it still said, and return its exit status."""
        self._process.kill()
        for _position in self.acknowledgements():
            pass
        self._process.communicate()
        return self._process.returncode

    def loaded(self, position: int) -> list[SourceFile]:
        """Return the files that are in the store if it holds everything up to *position*."""
        return [
            file for index, file in enumerate(self.files[:position]) if index not in self._skipped
        ]


def _write_names(path: str, files: Sequence[SourceFile]) -> str:
    names_file = f"{path}.names"
    with open(names_file, "wb") as file:
        file.writelines(source.key + b"\0" for source in files)
    return names_file
