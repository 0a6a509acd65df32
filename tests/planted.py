"""Plant bugs, one at a time, and run the tests that must fail.

    python -m tests.planted                 all of tests/planted_bugs.py
    python -m tests.planted NAME ...        those whose names contain one of these texts
    python -m tests.planted --list          only say which there are
    python -m tests.planted --fast          without those that need a compiler
    python -m tests.planted --shard 1/4     every fourth, from the first on

The tests must pass before anything is planted.  A bug counts as caught only if its tests ran and
failed, or hung: what can't be built or collected says nothing about the tests.  The exit status is
1 if one was not caught, or can't be planted any more.

Invariants:

* The tree is not touched: bugs are planted in a copy, which is deleted at the end.
* Between two bugs the copy is as it was, builds too, with the times of its files, so that nothing
  is compiled but the module with the bug.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

from tests.planted_bug import Bug
from tests.planted_bugs import BUGS

ROOT = Path(__file__).parent.parent
LEFT_OUT = ("node_modules", ".git", ".venv", "__pycache__", ".hypothesis", "temp.*", ".*_cache")
BUILD = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
BUILD_S, TEST_S = 600, 300
CAUGHT, SURVIVED = "caught", "SURVIVED"
NOT_APPLICABLE, NO_BUILD, NO_TESTS = "NOT APPLICABLE", "DOES NOT BUILD", "NO TESTS RAN"
FAILED_TESTS = 1  # as pytest exits; the other codes above 0 mean that tests did not run


def chosen(names: Sequence[str], *, fast: bool, shard: str) -> list[Bug]:
    """Return the bugs that the command line asks for."""
    number, count = (int(part) for part in shard.split("/"))
    found = [bug for bug in BUGS if not names or any(name in bug.name for name in names)]
    found = [bug for bug in found if not (fast and bug.is_compiled)]
    return found[number - 1 :: count]


def run(command: Sequence[str], cwd: Path, seconds: float) -> tuple[int, str]:
    """Return the exit status and the output of a command; what runs too long ends as a hang."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(cwd),
        "PYTHONDONTWRITEBYTECODE": "1",
        "KVENGINE_LONG": "",  # the short forms must see it
    }
    modules = ROOT / "tests" / "node_modules"
    if modules.exists():
        environment.setdefault("KVENGINE_NODE_MODULES", str(modules))
    with subprocess.Popen(
        command,
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as child:
        try:
            output, _ = child.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            output, _ = child.communicate()
            return -signal.SIGKILL, output
        return child.returncode, output


def build_files(copy: Path, source: Path) -> list[Path]:
    """Return the files that a change of a source, and a build after it, may change."""
    if source.suffix == ".py":
        return [source]
    compiled = source.with_suffix(EXTENSION_SUFFIXES[0])
    relative = source.relative_to(copy).with_suffix(".c")
    return [source, compiled, copy / "build" / "cython" / relative]


@contextmanager
def planted(copy: Path, bug: Bug) -> Iterator[None]:
    """Have a bug in the copy; afterwards everything is as it was before."""
    source = copy / bug.file
    files = build_files(copy, source)
    with tempfile.TemporaryDirectory() as kept:
        places = [Path(kept) / str(number) for number in range(len(files))]
        for file, place in zip(files, places, strict=True):
            if file.exists():
                shutil.copy2(file, place)
        try:
            text = source.read_text()
            source.write_text(text.replace(bug.old, bug.new))
            yield
        finally:
            for file, place in zip(files, places, strict=True):
                if place.exists():
                    file.unlink(missing_ok=True)  # a library that is mapped must keep its bytes
                    shutil.copy2(place, file)


def test(copy: Path, tests: Iterable[str], seconds: float) -> tuple[int, str]:
    """Run tests in the copy, up to the first that fails."""
    options = ["-q", "-x", "-p", "no:cacheprovider", "--no-header", "-rs"]
    return run([sys.executable, "-m", "pytest", *options, *tests], copy, seconds)


def outcome(copy: Path, bug: Bug) -> tuple[str, str]:
    """Plant a bug and run its tests; return what came of it, and the last output."""
    if (copy / bug.file).read_text().count(bug.old) != 1:
        return NOT_APPLICABLE, f"{bug.file} does not hold the old text exactly once"
    with planted(copy, bug):
        if bug.is_compiled:
            code, output = run(BUILD, copy, BUILD_S)
            if code:
                return NO_BUILD, output
        code, output = test(copy, bug.tests, TEST_S)
    if code == 0:
        return SURVIVED, output
    # A signal: the tests hung or the process died, which nobody overlooks.
    return (CAUGHT if code == FAILED_TESTS or code < 0 else NO_TESTS), output


def main() -> int:
    """Do what the command line says; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.planted", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--list", action="store_true", help="only say which there are")
    parser.add_argument("--fast", action="store_true", help="only bugs in Python code")
    parser.add_argument("--shard", default="1/1", metavar="N/COUNT", help="every COUNT-th")
    parser.add_argument(
        "--no-baseline",
        action="store_true",
        help="do not see first whether the tests pass as it is",
    )
    parser.add_argument("--verbose", action="store_true", help="show what the tests say")
    arguments = parser.parse_args()
    bugs = chosen(arguments.names, fast=arguments.fast, shard=arguments.shard)
    if arguments.list:
        print(*(f"{bug.name}  ({bug.file})" for bug in bugs), sep="\n")
        return 0
    failed = [] if bugs else ["no bug of that name"]
    with tempfile.TemporaryDirectory(prefix="planted-") as folder:
        copy = Path(folder) / "tree"
        shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(*LEFT_OUT), symlinks=True)
        code, output = run(BUILD, copy, 6 * BUILD_S)
        if code == 0 and not arguments.no_baseline:
            tests = dict.fromkeys(one for bug in bugs for one in bug.tests)
            code, output = test(copy, tests, TEST_S + 30 * len(tests))
        if code:
            print("without any bug:", output[-3000:], sep="\n")
            return 1
        for bug in bugs:
            began = time.monotonic()
            found, output = outcome(copy, bug)
            print(f"{found:14} {time.monotonic() - began:5.0f} s  {bug.name}", flush=True)
            if found != CAUGHT:
                failed.append(f"{found}: {bug.name}")
            if found != CAUGHT or arguments.verbose:
                print(output[-3000:], flush=True)
    print(f"{len(bugs)} bugs planted, {len(failed)} not caught", *failed, sep="\n  ")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
