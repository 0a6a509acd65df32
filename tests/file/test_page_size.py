"""A machine whose pages are of 64 KiB: nothing asks the system for a range that is not aligned."""

import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

# What a kernel with such pages does, as far as kvengine can see it: maps begin where a page does,
# calls about ranges that do not are refused (here: they end the process), and mincore() tells one
# byte a page.
LIBRARY = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#define PAGE 65536UL

static long calls;

static int is_of_kvengine(void *caller) {
    Dl_info info;
    return dladdr(caller, &info) && strstr(info.dli_fname, "/kvengine/");
}
static void check(const char *what, uintptr_t number, void *caller) {
    if (!is_of_kvengine(caller)) return;
    calls++;
    if (number % PAGE) {
        fprintf(stderr, "%s: 0x%lx is not at the beginning of a page\n", what, (long)number);
        abort();
    }
}
long kv_calls(void) { return calls; }

long sysconf(int name) {
    static long (*real)(int);
    if (name == _SC_PAGESIZE) return PAGE;
    if (!real) real = (long (*)(int))dlsym(RTLD_NEXT, "sysconf");
    return real(name);
}
void *mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset) {
    check("mmap", (uintptr_t)offset, __builtin_return_address(0));
    if (at || !is_of_kvengine(__builtin_return_address(0)))
        return (void *)syscall(SYS_mmap, at, size, protection, flags, fd, offset);
    char *room = (char *)syscall(
        SYS_mmap, NULL, size + PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (room == MAP_FAILED) return room;
    char *start = (char *)(((uintptr_t)room + PAGE - 1) & ~(PAGE - 1));
    void *found = (void *)syscall(
        SYS_mmap, start, size, protection, flags | MAP_FIXED, fd, offset);
    return found;                       /* the rest stays taken: this is a test */
}
void *mmap64(void *, size_t, int, int, int, off_t) __attribute__((alias("mmap")));
int madvise(void *start, size_t size, int advice) {
    check("madvise", (uintptr_t)start, __builtin_return_address(0));
    return syscall(SYS_madvise, start, size, advice);
}
int mincore(void *start, size_t size, unsigned char *pages) {
    size_t n = (size + PAGE - 1) / PAGE, i, j;
    unsigned char small[PAGE / 4096];
    check("mincore", (uintptr_t)start, __builtin_return_address(0));
    for (i = 0; i < n; i++) {
        memset(small, 0, sizeof small);
        if (syscall(SYS_mincore, (char *)start + i * PAGE, PAGE, small)) return -1;
        pages[i] = 1;
        for (j = 0; j < sizeof small; j++) pages[i] &= small[j];
    }
    return 0;
}
int msync(void *start, size_t size, int flags) {
    check("msync", (uintptr_t)start, __builtin_return_address(0));
    return syscall(SYS_msync, start, size, flags);
}
"""

PROGRAM = """
import ctypes, os, random, sys
from kvengine import CorruptData, Store

library, folder = sys.argv[1:]
assert os.sysconf("SC_PAGESIZE") == 65536
source, model = random.Random(1), {}
options = {"segment_bytes": 1 << 20, "key_buffer_entries": 200, "durability": "os"}


def forget(store):
    # Nothing is known to be in memory: what is read next asks the system.
    for row in store._parts.rows:
        store._parts.segment_table.segment_file(row.id).drop_cache()
    store._parts.segment_table.forget_residency()


def check(store):
    for read in (
        lambda: {key: store.get(key) for key in model},
        lambda: dict(zip(model, store.get_many(list(model)))),
        lambda: {key: bytes(store.get_view(key)) for key in model},
        lambda: dict(store.items()),
        lambda: {change.key: change.value for change in store.tail() if change.key in model},
    ):
        forget(store)
        assert read() == model
    forget(store)
    assert store.verify().ok
    store.digest()


with Store(folder, **options) as store:
    for number in range(1500):
        key = b"%d" % source.randrange(700)
        model[key] = source.randbytes(source.choice([0, 10, 100, 3000, 20_000]))
        store.put(key, model[key])
    model[b"large"] = source.randbytes(300_000)
    store[b"large"] = model[b"large"]
    check(store)
    store.compact()
    check(store)
    with store.snapshot() as frozen, Store(folder, read_only=True) as reader:
        check(frozen)
        check(reader)
    store.backup(folder + "-copy")
for path in (folder, folder + "-copy"):
    for rebuild in (False, True):
        with Store(path, rebuild=rebuild, **options) as store:
            check(store)
            name = f"{store._parts.rows[0].id:08x}.log"
            if rebuild and path != folder:  # its files are links to those of the other
                forget(store)
                os.truncate(os.path.join(path, name), 4096)
                try:
                    dict(store.items())
                except CorruptData as error:
                    assert "truncated" in str(error)
                else:
                    raise AssertionError("a shortened file was not noticed")
count = ctypes.CDLL(library).kv_calls()
assert count > 1000, count
"""


@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")
@pytest.mark.skipif(os.uname().sysname != "Linux", reason="mincore() of Linux")
def test_pages_of_64_kib(tmp_path: Path):
    source, library = tmp_path / "pages.c", tmp_path / "pages.so"
    source.write_text(LIBRARY, encoding="ascii")
    command = ["cc", "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"]
    subprocess.run(command, check=True, timeout=120)
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PROGRAM), library, tmp_path / "store"],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env=os.environ | {"LD_PRELOAD": str(library), "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 0, (done.returncode, done.stderr[-4000:])
