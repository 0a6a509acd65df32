"""System calls of several processes on the files of one store, recorded and merged into one order.

A library that the processes load first (LD_PRELOAD) writes down each call that changes the folder:
when it begins, with its bytes, and when it has ended, by numbers of one counter in memory that all
share.  It can end its process (SIGKILL) before, in the middle of, or after a call of its own.

Invariants:

* What a call may have changed it has changed between its two numbers, and what was written down
  before the kill of a process is there.
* The engine is the one that users have: with log_writes="pwrite" no call goes around the library.
  The control page, the locks and the reserve are left out, as in FaultyDirectory.
* steps() is as strict as can be: a sync makes durable what had ended before it began, once it has
  ended itself.  What has begun and not ended may be on disk.
"""

from __future__ import annotations

import os
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kvengine.testing.faulty import Recording, Step

SOURCE = r"""
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { MARK, END, CREATE, WRITE, RESERVE, TRUNCATE, SYNC, RENAME, REMOVE, SYNC_FOLDER };
enum { BEFORE, HALFWAY, AFTER };
struct line { uint64_t number, begun, offset, data_size; int32_t what; uint32_t name_size; };

static uint64_t *counter;       /* of all processes */
static int out = -1, kill_how, kill_in_log;
static long calls, kill_at, pause_us;
static const char *folder;      /* "/path/of/the/store" */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static long number_of(const char *name) {
    const char *text = getenv(name);
    return text ? atol(text) : 0;
}

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("RECORD_COUNTER");
    int fd;
    if (!path || (fd = syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC)) < 0) return;
    counter = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    out = syscall(SYS_openat, AT_FDCWD, getenv("RECORD_TO"),
                  O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    folder = getenv("RECORD_FOLDER");
    kill_at = number_of("RECORD_KILL_AT");
    kill_how = number_of("RECORD_KILL_HOW");
    kill_in_log = number_of("RECORD_KILL_IN_LOG");
    pause_us = number_of("RECORD_PAUSE_US");
}

static uint64_t note(int what, uint64_t begun, uint64_t offset, const char *name,
                     const void *data, uint64_t size) {
    struct line line = {0, begun, offset, size, what, strlen(name)};
    char *all = malloc(sizeof line + line.name_size + size);
    memcpy(all + sizeof line, name, line.name_size);
    memcpy(all + sizeof line + line.name_size, data, size);
    line.number = __atomic_add_fetch(counter, 1, __ATOMIC_SEQ_CST);
    memcpy(all, &line, sizeof line);
    if (syscall(SYS_write, out, all, sizeof line + line.name_size + size) < 0) abort();
    free(all);
    return line.number;
}

void record_mark(const char *text) { note(MARK, 0, 0, text, "", 0); }

/* For a test that decides what happens during a sync: let all that begin wait; how many do. */
static volatile int is_held, held;
void record_hold(int value) { is_held = value; }
int record_held(void) { return held; }

static int counts(const char *name) {
    static const char *others[] = {"CONTROL", "LOCK", "OPENING", "RESERVE", "CONSUMERS"};
    for (int i = 0; i < 5; i++) if (strcmp(name, others[i]) == 0) return 0;
    return !strchr(name, '/');
}

/* The name of an open file in the folder of the store ("" for the folder itself); 0: another. */
static int name_of(int fd, char *name) {
    char link[64], path[PATH_MAX];
    size_t prefix;
    ssize_t n;
    if (out < 0 || fd < 0 || fd == out) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    if ((n = readlink(link, path, sizeof path - 1)) < 0) return 0;
    path[n] = 0;
    prefix = strlen(folder);
    if (strncmp(path, folder, prefix) != 0) return 0;
    if (path[prefix] == 0) { *name = 0; return 1; }
    if (path[prefix] != '/' || n - prefix > NAME_MAX) return 0;
    strcpy(name, path + prefix + 1);
    char *removed = strstr(name, " (deleted)");
    if (removed) *removed = 0;
    return counts(name);
}

static void die(void) { syscall(SYS_kill, getpid(), SIGKILL); for (;;) pause(); }

/* Is this the call of this process in which it is to die? */
static int is_last(int what, const char *name) {
    if (kill_in_log && (what != WRITE || !strstr(name, ".log"))) return 0;
    return __atomic_add_fetch(&calls, 1, __ATOMIC_SEQ_CST) == kill_at;
}

/* Let others come in between: mostly during syncs, which take no time in memory. */
static void rest(int is_sync) {
    struct timespec moment = {0, 1000000};
    if (is_sync && is_held) {
        __atomic_add_fetch(&held, 1, __ATOMIC_SEQ_CST);
        while (is_held) nanosleep(&moment, NULL);
        __atomic_sub_fetch(&held, 1, __ATOMIC_SEQ_CST);
    }
    unsigned chance = (unsigned)(*(volatile uint64_t *)counter * 2654435761u) >> 8;
    if (pause_us && (is_sync || chance % 16 == 0)) {
        struct timespec time = {0, (long)(chance % (unsigned)pause_us) * 1000};
        nanosleep(&time, NULL);
    }
}

/* One call at a time changes something: no other is under way in a kill, but for syncs. */
#define CALL(is_ours, what, offset, name, data, size, act) \
    uint64_t n = (size); \
    if (!(is_ours)) return act; \
    int is_sync = (what) == SYNC || (what) == SYNC_FOLDER, last = is_last(what, name); \
    if (last || !is_sync) pthread_mutex_lock(&lock); \
    if (last && kill_how == BEFORE) die(); \
    if (last && kill_how == HALFWAY && (what) == WRITE) n /= 2; \
    uint64_t begun = note(what, 0, offset, name, data, n); \
    rest(is_sync); \
    int64_t result = act; \
    int code = errno; \
    note(END, begun, (uint64_t)((what) == RESERVE ? -result : result), "", "", 0); \
    if (last) die(); \
    if (!is_sync) pthread_mutex_unlock(&lock); \
    errno = code; \
    return result

int openat64(int at, const char *path, int flags, ...) {
    mode_t mode = 0;
    char place[NAME_MAX + 1];
    va_list more;
    va_start(more, flags);
    if (flags & O_CREAT) mode = va_arg(more, mode_t);
    va_end(more);
    CALL((flags & O_CREAT) && (flags & O_EXCL) && name_of(at, place) && !*place && counts(path),
         CREATE, 0, path, "", 0, syscall(SYS_openat, at, path, flags, mode));
}
ssize_t pwrite64(int fd, const void *data, size_t size, off_t offset) {
    char name[NAME_MAX + 1];
    CALL(name_of(fd, name), WRITE, offset, name, data, size,
         syscall(SYS_pwrite64, fd, data, n, offset));
}
ssize_t write(int fd, const void *data, size_t size) {
    char name[NAME_MAX + 1];
    CALL(name_of(fd, name), WRITE, lseek(fd, 0, SEEK_CUR), name, data, size,
         syscall(SYS_write, fd, data, n));
}
int fdatasync(int fd) {
    char name[NAME_MAX + 1];
    CALL(name_of(fd, name), SYNC, 0, name, "", 0, syscall(SYS_fdatasync, fd));
}
int fsync(int fd) {
    char name[NAME_MAX + 1];
    CALL(name_of(fd, name), *name ? SYNC : SYNC_FOLDER, 0, name, "", 0, syscall(SYS_fsync, fd));
}
int ftruncate64(int fd, off_t size) {
    char name[NAME_MAX + 1];
    CALL(name_of(fd, name), TRUNCATE, size, name, "", 0, syscall(SYS_ftruncate, fd, size));
}
int posix_fallocate64(int fd, off_t offset, off_t size) {
    char name[NAME_MAX + 1];
    CALL(name_of(fd, name), RESERVE, offset + size, name, "", 0,
         syscall(SYS_fallocate, fd, 0, offset, size) == 0 ? 0 : errno);
}
int renameat(int at, const char *from, int to_at, const char *to) {
    char place[NAME_MAX + 1];
    CALL(name_of(at, place) && !*place && counts(to), RENAME, 0, from, to, strlen(to),
         syscall(SYS_renameat2, at, from, to_at, to, 0));
}
int unlinkat(int at, const char *path, int flags) {
    char place[NAME_MAX + 1];
    CALL(name_of(at, place) && !*place && counts(path), REMOVE, 0, path, "", 0,
         syscall(SYS_unlinkat, at, path, flags));
}
/* What programs call that were not compiled for large files. */
int openat(int, const char *, int, ...) __attribute__((alias("openat64")));
ssize_t pwrite(int, const void *, size_t, off_t) __attribute__((alias("pwrite64")));
int ftruncate(int, off_t) __attribute__((alias("ftruncate64")));
int posix_fallocate(int, off_t, off_t) __attribute__((alias("posix_fallocate64")));
"""


LINE = struct.Struct("<QQQQiI")
OPERATIONS = (
    "mark", "end", "create", "write", "reserve", "truncate", "sync", "rename", "remove",
    "sync-folder",
)  # fmt: skip
NEVER = 1 << 62


def build(folder: Path) -> Path:
    """Compile the library; return its path."""
    source, library = folder / "record.c", folder / "record.so"
    source.write_text(SOURCE, encoding="ascii")
    command = ["cc", "-shared", "-fPIC", "-O1", "-o", library, source, "-lpthread"]
    subprocess.run(command, check=True, timeout=120)
    return library


@dataclass(slots=True)
class Call:
    """One call of one process: `ended` is NEVER if the process was killed in the middle of it."""

    who: str
    number: int
    operation: str
    name: str
    offset: int
    data: bytes
    ended: int = NEVER
    inode: int = 0


@dataclass(slots=True)
class Mark:
    """What a process wrote down for the test."""

    who: str
    number: int
    text: str


class Recordings:
    """What all processes did, in one order: numbers count from 1, across calls and marks.

    Args:
        folder: with a file NAME.recording of each process.
    """

    def __init__(self, folder: Path) -> None:
        self.calls: list[Call] = []
        self.marks: list[Mark] = []
        for path in sorted(folder.glob("*.recording")):
            self._read(path.stem, path.read_bytes())
        self.calls.sort(key=lambda call: call.number)
        self.marks.sort(key=lambda mark: mark.number)
        numbers = [call.number for call in self.calls] + [mark.number for mark in self.marks]
        ends = [call.ended for call in self.calls if call.ended != NEVER]
        self.last = max(numbers + ends, default=0)
        self._number_files()

    def _read(self, who: str, content: bytes) -> None:
        calls: dict[int, Call] = {}
        at = 0
        while at < len(content):
            number, begun, offset, size, what, length = LINE.unpack_from(content, at)
            at += LINE.size
            name, data = content[at : at + length], content[at + length : at + length + size]
            at += length + size
            operation = OPERATIONS[what]
            if operation == "mark":
                self.marks.append(Mark(who, number, name.decode()))
            elif operation != "end":
                calls[number] = Call(who, number, operation, name.decode(), offset, data)
            elif offset >> 63:  # it was refused, and has changed nothing
                del calls[begun]
            else:
                calls[begun].ended = number
        self.calls += calls.values()

    def _number_files(self) -> None:
        """Say which file each call is about, whatever its name is then."""
        inodes: dict[str, int] = {}
        for call in self.calls:
            if call.operation == "create":
                call.inode = inodes[call.name] = call.number
            elif call.operation == "rename":
                call.inode = inodes[call.data.decode()] = inodes[call.name]
            elif call.operation != "sync-folder":
                call.inode = inodes[call.name]

    def steps(self, number: int) -> Recording:
        """Return what was done up to a number, for CrashedFolder: see above."""
        found: list[tuple[int, Call]] = []
        for call in self.calls:
            if call.number > number:
                break
            if not call.operation.startswith("sync"):
                found.append((call.ended if call.ended <= number else NEVER, call))
            elif call.ended <= number:
                found.append((call.number, call))
        found.sort(key=lambda one: one[0])
        return Recording({}, {}, list(self._as_steps(found)))

    @staticmethod
    def _as_steps(calls: list[tuple[int, Call]]) -> Iterator[Step]:
        for number, (_, call) in enumerate(calls, 1):
            is_rename = call.operation == "rename"
            yield Step(
                number,
                call.operation,
                call.name,
                call.inode,
                call.offset,
                b"" if is_rename else call.data,
                call.data.decode() if is_rename else "",
            )


def environment(library: Path, folder: Path, who: str, **settings: int) -> dict[str, str]:
    """Return what a process needs whose calls on folder/store are to be recorded in `folder`.

    Args:
        who: its name.
        settings: kill_at: in which of its calls it is killed; kill_in_log: only writes to the log
            count; kill_how: 0 before it, 1 in the middle of it if it is a write, 2 after it;
            pause_us: the longest pause in a call.
    """
    counter = folder / "counter"
    if not counter.exists():
        counter.write_bytes(bytes(4096))
    return {
        **os.environ,
        "LD_PRELOAD": str(library),
        "RECORD_COUNTER": str(counter),
        "RECORD_TO": str(folder / f"{who}.recording"),
        "RECORD_FOLDER": str((folder / "store").resolve()),
        **{f"RECORD_{name.upper()}": str(value) for name, value in settings.items()},
    }
