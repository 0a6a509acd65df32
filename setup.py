"""Compile the Cython modules; everything else about the package is in pyproject.toml.

KVENGINE_BUILD chooses what the C code is built for:

    release     (the default) optimized, no bounds checks
    debug       C asserts and bounds checks on, no optimization
    coverage    debug, with line tracing for coverage.py
    sanitize    debug, with AddressSanitizer and UndefinedBehaviorSanitizer
"""

import ctypes
import functools
import multiprocessing
import os
import signal
import sys
import time
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

if sys.platform != "linux":
    sys.exit(
        f"kvengine runs on Linux only, not on {sys.platform}: its processes share robust mutexes "
        "and futexes.  Use a container, a virtual machine or WSL 2."
    )
PR_SET_PDEATHSIG = 1
# Workers of cythonize() end with this process: if it is killed, they would else keep the lock of
# kvengine/_checkout.py forever.
end_with_parent = functools.partial(ctypes.CDLL(None).prctl, PR_SET_PDEATHSIG, signal.SIGKILL)
os.register_at_fork(after_in_child=end_with_parent)
SHARED = "kvengine._shared"  # what Cython else puts into each module; it writes this one, too
started = time.time_ns()
build = os.environ.get("KVENGINE_BUILD", "release")
if build not in {"release", "debug", "coverage", "sanitize"}:
    sys.exit(f"KVENGINE_BUILD must be release, debug, coverage or sanitize, not {build!r}")
release = build == "release"
built = Path("build/kind")  # what was compiled last
has_new_flags = built.exists() and built.stat().st_mtime < Path("setup.py").stat().st_mtime
is_as_built = built.exists() and built.read_text() == build and not has_new_flags
# Generated C stays out of the source tree, except where coverage.py must find it.
generated = {"release": "build/cython", "coverage": None}.get(build, f"build/cython-{build}")
sanitizers = ["-fsanitize=address,undefined"] if build == "sanitize" else []

options = {
    # No -march: a wheel must run on any machine.  With -O2 an export takes a third longer.
    # -UNDEBUG turns C asserts on.
    "extra_compile_args": ["-O3", "-g0"] if release else ["-O0", "-g", "-UNDEBUG", *sanitizers],
    "extra_link_args": ["-pthread", *sanitizers],
    # coverage.py's Cython plugin needs the older tracing (Cython 3.1 changes, gh #6144).
    "define_macros": [("CYTHON_TRACE_NOGIL", "1"), ("CYTHON_USE_SYS_MONITORING", "0")]
    if build == "coverage"
    else [],
}
sources, headers = (sorted(Path("kvengine").rglob(f"*.{suffix}")) for suffix in ("pyx", "pxd"))
extensions = [
    Extension(".".join(path.with_suffix("").parts), [str(path)], **options) for path in sources
]
for path in Path(generated or "kvengine").rglob("*.c"):
    with path.open("rb") as file:
        file.seek(max(os.path.getsize(path) - 100, 0))
        is_whole = file.read().rstrip().endswith(b"#endif /* Py_PYTHON_H */")
    if not is_whole:  # Cython was killed, or the disk was full; the date of the file says nothing
        path.unlink()
if not sources:
    sys.exit("no .pyx under kvengine/: run this from the folder of setup.py")


class BuildExtensions(build_ext):
    """With --inplace, and for an editable install: into the source tree, and only what changed."""

    def finalize_options(self) -> None:
        super().finalize_options()
        self.is_source_tree = bool(self.inplace)
        if self.is_source_tree:
            self.build_lib, self.inplace = ".", False

    def run(self) -> None:
        built.unlink(missing_ok=True)  # an interrupted build is repeated as a whole
        super().run()
        built.parent.mkdir(exist_ok=True)
        built.write_text(build)
        if self.is_source_tree:  # kvengine/_checkout.py compares them with their sources
            inplace = Path(f"build/inplace-{sys.implementation.cache_tag}")
            lines = (build, *sources, *headers, "setup.py")
            inplace.write_text("".join(f"{line}\n" for line in lines))
            os.utime(inplace, ns=(started, started))  # what changes meanwhile is compiled next time


setup(
    cmdclass={"build_ext": BuildExtensions},
    ext_modules=cythonize(
        [*extensions, Extension(SHARED, ["kvengine/_shared.c"], **options)],
        shared_utility_qualified_name=SHARED,
        include_path=["."],  # where the modules find each other's .pxd
        build_dir=generated,
        force=has_new_flags,  # else only what changed: pip runs this file three times
        # Where workers are not forked they would run this file again.
        nthreads=2 if multiprocessing.get_start_method() == "fork" else 0,
        # `freethreading_compatible` is not set on purpose: the code relies on the GIL in places,
        # and without the mark a free-threaded Python turns the GIL on again.
        compiler_directives={
            "language_level": 3,
            "auto_pickle": False,  # no hidden __reduce_cython__ methods
            "autotestdict": False,  # no hidden __test__ dictionary
            "boundscheck": not release,
            "wraparound": False,
            "linetrace": build == "coverage",
        },
    ),
    options={"build_ext": {"parallel": 2, "force": not is_as_built}},
)
