"""Compile the Cython modules; everything else about the package is in pyproject.toml.

KVENGINE_BUILD chooses what the C code is built for:

    release     (the default) optimized, no bounds checks
    debug       C asserts and bounds checks on, no optimization
    coverage    debug, with line tracing for coverage.py
    sanitize    debug, with AddressSanitizer and UndefinedBehaviorSanitizer
"""

import multiprocessing
import os
import sys
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

if sys.platform != "linux":
    sys.exit(
        f"kvengine runs on Linux only, not on {sys.platform}: its processes share robust mutexes "
        "and futexes.  Use a container, a virtual machine or WSL 2."
    )
build = os.environ.get("KVENGINE_BUILD", "release")
if build not in {"release", "debug", "coverage", "sanitize"}:
    sys.exit(f"KVENGINE_BUILD must be release, debug, coverage or sanitize, not {build!r}")
release = build == "release"
built = Path("build/kind")  # what the compiled modules in the source tree were built for
switched = not built.exists() or built.read_text() != build
sanitizers = ["-fsanitize=address,undefined"] if build == "sanitize" else []

extensions = [
    Extension(
        ".".join(path.with_suffix("").parts),
        [str(path)],
        # No -march: a wheel must run on any machine.  -UNDEBUG turns C asserts on.
        extra_compile_args=["-O3"] if release else ["-O0", "-g", "-UNDEBUG", *sanitizers],
        extra_link_args=["-pthread", *sanitizers],
        # coverage.py's Cython plugin needs the older tracing (Cython 3.1 changes, gh #6144).
        define_macros=[("CYTHON_TRACE_NOGIL", "1"), ("CYTHON_USE_SYS_MONITORING", "0")]
        if build == "coverage"
        else [],
    )
    for path in sorted(Path("kvengine").rglob("*.pyx"))
]
if not extensions:
    sys.exit("no .pyx under kvengine/: run this from the folder of setup.py")

distribution = setup(
    ext_modules=cythonize(
        extensions,
        include_path=["."],  # where the modules find each other's .pxd
        # Generated C stays out of the source tree, except where coverage.py must find it.
        build_dir=None if build == "coverage" else "build/cython",
        force=switched,
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
    options={"build_ext": {"parallel": 2, "force": switched}},
)
if distribution.have_run.get("build_ext"):
    built.parent.mkdir(exist_ok=True)
    built.write_text(build)
