"""Ways to run a command: in this process (``run``), or in one of its own (``process``)."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import kvengine
from kvengine.cli.main import command

Run = Callable[..., Result]
Process = Callable[..., "subprocess.CompletedProcess[bytes]"]

HOLDER = """
import sys, kvengine
with kvengine.Store(sys.argv[1], exclusive=len(sys.argv) > 2):
    print(flush=True)
    input()
"""
DATABASE_HOLDER = """
import sys, kvengine
with kvengine.open(sys.argv[1], exclusive=len(sys.argv) > 2) as db:
    db.namespace("held").put("key", "value", metadata=[1])
    print(flush=True)
    input()
"""


@pytest.fixture
def data(tmp_path: Path) -> str:
    """A folder for a store, not made yet."""
    return str(tmp_path / "store")


@pytest.fixture
def environment(data: str) -> dict[str, str]:
    """An environment in which ``python -m kvengine`` finds this package and *data*."""
    package = Path(kvengine.__file__).resolve().parents[1]
    # Standard output must be buffered, as it is for users: that is what can fail at the end.
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return {**kept, "PYTHONPATH": str(package), "KVENGINE_DATA_DIR": data}


@pytest.fixture
def run(environment: dict[str, str]) -> Run:
    """Run a command in this process."""

    def run(*arguments: str, stdin: bytes = b"") -> Result:
        result = CliRunner(env=environment).invoke(command, arguments, input=stdin)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run


@pytest.fixture
def process(environment: dict[str, str], tmp_path: Path) -> Process:
    """Run a command in a process of its own."""

    def process(
        *arguments: str | bytes, stdin: bytes = b"", **options: Any
    ) -> subprocess.CompletedProcess[bytes]:
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        return subprocess.run(
            [sys.executable, "-m", "kvengine", *arguments],
            **{"input": stdin, "env": environment, "cwd": tmp_path, "timeout": 60, **options},
            check=False,
        )

    return process


@pytest.fixture
def holder_pid(data: str, environment: dict[str, str]) -> Iterator[int]:
    """The id of another process that has the store open for writing."""
    yield from held(HOLDER, data, environment)


@pytest.fixture
def exclusive_pid(data: str, environment: dict[str, str]) -> Iterator[int]:
    """The same, and keeps others from writing."""
    yield from held(HOLDER, data, environment, "exclusive")


@pytest.fixture
def database_holder_pid(data: str, environment: dict[str, str]) -> Iterator[int]:
    """As holder_pid, but a database with a namespace "held" that has one key, "key"."""
    yield from held(DATABASE_HOLDER, data, environment)


@pytest.fixture
def exclusive_database_pid(data: str, environment: dict[str, str]) -> Iterator[int]:
    """The same, and keeps others from writing."""
    yield from held(DATABASE_HOLDER, data, environment, "exclusive")


def held(program: str, data: str, environment: dict[str, str], *more: str) -> Iterator[int]:
    """Yield the id of a process that runs a program, which waits when it has begun."""
    with subprocess.Popen(
        [sys.executable, "-c", program, data, *more],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        yield holder.pid
        holder.communicate(b"\n")


@pytest.fixture
def damage() -> Callable[[str, bytes], None]:
    """Flip a bit of the first place below a folder where a text is stored."""

    def damage(folder: str, text: bytes) -> None:
        for path in sorted(path for path in Path(folder).rglob("*") if path.is_file()):
            contents = bytearray(path.read_bytes())
            offset = contents.find(text)
            if offset >= 0:
                contents[offset] ^= 1
                with path.open("r+b") as file:  # in place: a file may be larger than its content
                    file.seek(offset)
                    file.write(contents[offset : offset + 1])
                return
        raise AssertionError(f"{text!r} is not stored in {folder}")

    return damage
