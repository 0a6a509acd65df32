"""A process in which the engine's n-th request for memory is refused: for test_reserved.py.

Invariants:

* Only what compiled modules of kvengine ask of the C library is refused, and only while armed: the
  rest of the process goes on as ever.
* The library is made once a test run, with the compiler that built kvengine.
"""

import os
import subprocess
import sys
from pathlib import Path

SOURCE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
static volatile long left;      /* requests until one is refused; 0: none is */

void kv_refuse(long n) { left = n; }
long kv_left(void) { return left; }

static int refused(void *caller) {
    Dl_info info;
    if (left == 0 || !dladdr(caller, &info) || !strstr(info.dli_fname, "/kvengine/engine/"))
        return 0;
    return --left == 0;
}
void *malloc(size_t n) { return refused(__builtin_return_address(0)) ? NULL : __libc_malloc(n); }
void *calloc(size_t n, size_t m) {
    return refused(__builtin_return_address(0)) ? NULL : __libc_calloc(n, m);
}
void *realloc(void *p, size_t n) {
    return refused(__builtin_return_address(0)) ? NULL : __libc_realloc(p, n);
}
void *mmap(void *at, size_t n, int protection, int flags, int fd, off_t offset) {
    if (refused(__builtin_return_address(0))) { errno = ENOMEM; return MAP_FAILED; }
    return (void *)syscall(SYS_mmap, at, n, protection, flags, fd, offset);
}
/* What a program with large files calls when it says mmap(). */
void *mmap64(void *, size_t, int, int, int, off_t) __attribute__((alias("mmap")));
"""


def build(folder: Path) -> Path:
    """Compile the library that refuses memory; return its path."""
    source, library = folder / "refuse.c", folder / "refuse.so"
    source.write_text(SOURCE, encoding="ascii")
    subprocess.run(
        ["cc", "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True, timeout=120
    )
    return library


def run(library: Path, program: str, *arguments: str) -> str:
    """Run a program with it; return what it wrote, or fail with all that it said."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "LD_PRELOAD": str(library)}
    done = subprocess.run(
        [sys.executable, "-c", program, str(library), *arguments],
        capture_output=True, text=True, env=environment, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout
