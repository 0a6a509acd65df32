"""In a source checkout: what was edited is compiled before it is imported.

setup.py notes in build/inplace which sources it compiled into the source tree.  If one of them has
changed since, importing kvengine compiles it.  An installed wheel has no such file beside it.

Invariants:

* One process compiles.  Others that import kvengine meanwhile wait for it.
* A compiled module that is older than its source is not imported: if it can't be compiled, the
  import fails and says why.
"""

import os
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
COMPILED = os.path.join(ROOT, "build", "inplace")
SHOWN_CHARACTERS = 4000  # of what the compiler printed


def changed_source() -> str | None:
    """Return a source that has changed since it was compiled, or None."""
    try:
        with open(COMPILED) as file:
            when = os.fstat(file.fileno()).st_mtime_ns
            _, *sources = file.read().splitlines()
    except OSError:
        return None  # an installed package
    for source in sources:
        try:
            is_newer = os.stat(os.path.join(ROOT, source)).st_mtime_ns > when
        except FileNotFoundError:
            is_newer = True
        if is_newer:
            return source
    return None


def compile_changes() -> str:
    """Compile what has changed, if no other process did so first; return what goes wrong."""
    import fcntl  # noqa: PLC0415 - not for each import of kvengine
    import subprocess  # noqa: PLC0415

    if not os.path.basename(sys.executable).startswith("python"):
        return f"{sys.executable} is not Python alone"  # but a server with Python in it
    try:
        lock = open(f"{COMPILED}.lock", "w")  # noqa: SIM115 - closed below
    except OSError as error:
        return str(error)
    with lock, open(COMPILED) as file:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if changed_source() is None:
            return ""
        print("kvengine: compiling what has changed", file=sys.stderr)  # noqa: T201
        done = subprocess.run(
            [sys.executable, "setup.py", "-q", "build_ext", "--inplace"],
            cwd=ROOT,
            env={**os.environ, "KVENGINE_BUILD": file.readline().strip()},
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            pass_fds=[lock.fileno()],  # locked until it ends, even if this process is killed
        )
    return done.stdout[-SHOWN_CHARACTERS:] if done.returncode else ""


if (_source := changed_source()) and (_error := compile_changes()):
    raise ImportError(
        f"{_source} has changed since it was compiled, and compiling it failed; try by hand: "
        f"cd {ROOT} && {sys.executable} setup.py build_ext --inplace\n{_error}"
    )
