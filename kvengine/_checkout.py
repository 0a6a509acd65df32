"""In a source checkout: what was edited is compiled before it is imported.

setup.py notes in build/ which sources it compiled into the source tree, for each version of Python.
If one of them has changed since, or one was added or removed, importing kvengine compiles.  An
installed wheel has no such file beside it.

Invariants:

* One process compiles.  Others that import kvengine meanwhile wait for it.
* A compiled module that is older than its source is not imported: if it can't be compiled, the
  import fails and says why.
"""

import os
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
COMPILED = os.path.join(ROOT, "build", f"inplace-{sys.implementation.cache_tag}")
SHOWN_CHARACTERS = 4000  # of what the compiler printed


def changed_source() -> str | None:
    """Return a source that was changed, added or removed since all were compiled, or None."""
    try:
        with open(COMPILED) as file:
            when = os.fstat(file.fileno()).st_mtime_ns
            _, *sources = file.read().splitlines()
    except OSError:
        return None  # an installed package
    found = {"setup.py"}
    for folder, _, names in os.walk(os.path.join(ROOT, "kvengine")):
        beside = os.path.relpath(folder, ROOT)
        found.update(os.path.join(beside, one) for one in names if one.endswith((".pyx", ".pxd")))
    for source in found.symmetric_difference(sources):
        return source
    for source in sources:
        if os.stat(os.path.join(ROOT, source)).st_mtime_ns > when:
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
