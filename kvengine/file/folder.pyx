"""An open folder, which stays usable whatever happens to its path.

Invariants:

* The descriptor lives as long as anything refers to the object, so no call meets another folder
  that was given the same number.
* The file that is watched is held open: as long as its inode is found under its name, the folder
  holds the store that was opened.  A folder that was moved still does.
* A descriptor has an owner from the call that opens it on: no exception comes in between.
* What root makes in a folder is its owner's.
* A lock is taken as a whole or not at all, in one call that nothing interrupts, and given back by
  the process that took it; a forked child just closes its copy.
"""

from libc.errno cimport EAGAIN, ENOENT, ESTALE, errno
from libc.stdint cimport uint64_t

from kvengine.file.owner cimport give_to_owner

import os

from kvengine.errors import StorageError
from kvengine.file.system import fork_watch

cdef extern from "<sys/stat.h>" nogil:
    struct stat_t "stat":
        uint64_t st_dev
        uint64_t st_ino
        uint64_t st_nlink
    int fstat(int fd, stat_t *found)
    int fstatat(int fd, const char *name, stat_t *found, int flags)

cdef extern from "<fcntl.h>" nogil:
    int AT_FDCWD, AT_SYMLINK_NOFOLLOW
    int O_RDONLY, O_RDWR, O_CREAT, O_DIRECTORY, O_CLOEXEC, O_NOFOLLOW, O_NONBLOCK
    int openat(int fd, const char *name, int flags, ...)

cdef extern from "<sys/file.h>" nogil:
    int LOCK_SH, LOCK_EX, LOCK_NB, LOCK_UN
    int flock(int fd, int operation)

cdef extern from "<unistd.h>" nogil:
    int close(int fd)
    int getpid()
    int ftruncate(int fd, long long size)
    ssize_t pwrite(int fd, const void *data, size_t size, long long offset)

cdef extern from *:
    """
    static inline int kv_load(const int *number) {
        return __atomic_load_n(number, __ATOMIC_SEQ_CST);
    }
    static inline void kv_advance(int *number) { __atomic_fetch_add(number, 1, __ATOMIC_SEQ_CST); }
    #include <time.h>
    static void kv_sleep(double seconds) {
        struct timespec rest;
        rest.tv_sec = (time_t)seconds;
        rest.tv_nsec = (long)((seconds - (double)rest.tv_sec) * 1e9);
        nanosleep(&rest, NULL);
    }
    """
    int kv_load(const int *number) noexcept nogil
    void kv_advance(int *number) noexcept nogil
    void kv_sleep(double seconds) nogil

cdef int FILE_MODE = 0o600


def rest(seconds: float) -> None:
    """Sleep; gevent does not switch greenlets meanwhile, as it does in time.sleep()."""
    cdef double length = seconds
    if length > 0:
        with nogil:
            kv_sleep(length)


cdef class Folder:
    """An open folder, and optionally a file in it that identifies the store.

    Args:
        path: where it is now, and for messages.
        again: open this folder once more, wherever it is.

    Raises:
        OSError: a system call failed, or it is not a folder.

    Thread-safety: state() may be asked without the GIL; the rest holds it.
    """

    def __cinit__(self, path: str, again: Folder = None) -> None:
        cdef bytes name = b"." if again is not None else os.fsencode(path)
        cdef const char *start = name
        cdef int where = AT_FDCWD if again is None else again.fd
        self.held = self.next_held = -1
        self.path = path
        with nogil:
            self.fd = openat(where, start, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        if self.fd < 0:
            raise OSError(errno, os.strerror(errno), path)
        self.is_open = True

    def __dealloc__(self) -> None:
        if self.is_open:  # else an argument was refused, and descriptor 0 is not ours
            self._drop_held()
            give_back(self.fd)

    def watch(self, name: str) -> None:
        """Identify the store by a file from now on, if one of that name exists."""
        cdef bytes text = os.fsencode(name)
        cdef stat_t found
        cdef int fd = openat(self.fd, text, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)
        if fd < 0:
            return
        fstat(fd, &found)
        self.watched_name = NULL
        self._drop_held()
        self.held, self.device = fd, found.st_dev
        self.inode = self.next_inode = found.st_ino
        self.watched = text
        self.watched_name = text

    def require(self, name: str) -> None:
        """From now on a file of this name must be there as well; it may be replaced."""
        cdef bytes text = os.fsencode(name)
        self.required_name = NULL
        self.required = text
        self.required_name = text

    cdef void _drop_held(self) noexcept:
        give_back(self.next_held)
        give_back(self.held)
        self.held = self.next_held = -1

    def disk_bytes(self) -> tuple[int, int]:
        """Return how large the file system is that the folder is on, and how much of it is free."""
        found = os.fstatvfs(self.fd)
        return found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize

    def watches(self, name: str) -> bool:
        """True if this file identifies the store."""
        return self.watched is not None and self.watched == os.fsencode(name)

    def expect(self, descriptor: int) -> None:
        """The file that is watched is about to be replaced by this one: from now on either counts.

        Until the next call, so nothing need be said once it has its name.
        """
        cdef stat_t found
        cdef int fd = os.dup(descriptor)
        kv_advance(&self.sequence)
        if self.next_held >= 0:
            if fstatat(self.fd, self.watched_name, &found, AT_SYMLINK_NOFOLLOW) == 0 \
                    and found.st_ino == self.next_inode:
                self.inode = self.next_inode
                close(self.held)
                self.held = self.next_held
            else:  # it never got its name
                close(self.next_held)
        fstat(fd, &found)
        self.next_inode, self.next_held = found.st_ino, fd
        kv_advance(&self.sequence)

    cdef int state(self) noexcept nogil:
        """Return PRESENT if the next process to open the path finds this folder."""
        cdef int sequence, found
        while True:
            sequence = kv_load(&self.sequence)
            found = self._look()
            # Another thread may have replaced the file, even twice, between the two checks.
            if found != REPLACED or sequence % 2 == 0 and kv_load(&self.sequence) == sequence:
                return found

    cdef int _look(self) noexcept nogil:
        cdef stat_t found
        if self.watched_name != NULL:
            if fstatat(self.fd, self.watched_name, &found, AT_SYMLINK_NOFOLLOW) == 0:
                if found.st_dev == self.device \
                        and (found.st_ino == self.inode or found.st_ino == self.next_inode):
                    if self.required_name != NULL and errno_of(self.fd, self.required_name) \
                            == ENOENT:
                        return LACKING
                    return PRESENT
                return REPLACED
            if errno != ENOENT:
                return PRESENT  # unknown; the next write finds out
        if fstat(self.fd, &found) == 0 and found.st_nlink == 0:
            return REMOVED
        return PRESENT if self.watched_name == NULL else MISSING

    cdef object error(self, int state):
        """Return what to tell a user, for a state that is not PRESENT."""
        if state == REMOVED:
            return StorageError(
                ENOENT,
                "the folder of the store was removed while it was open, so anything written to it "
                "would be lost; read or back up what you still need, then close it",
                self.path)
        name = ((self.required if state == LACKING else self.watched) or b"").decode()
        if state == MISSING or state == LACKING:
            return StorageError(
                ENOENT,
                f"the file {name} was removed from the folder of the store while it was open, so "
                "anything written to it would be lost; read or back up what you still "
                "need, then close it",
                self.path)
        return StorageError(
            ESTALE,
            f"the folder now holds another store: expected the {name} that this one wrote or "
            "found, but it was replaced; close this store and open the folder again",
            self.path)

    def problem(self) -> object:
        """Return a StorageError if what is written here would be lost; else None."""
        cdef int state
        with nogil:
            state = self.state()
        return None if state == PRESENT else self.error(state)


cdef class Descriptor:
    """A file that is open; closed when this is dropped, or left as a context manager.

    Args:
        name: of the file.
        flags: as of os.open().
        mode: the permissions of a new file.
        folder: the descriptor of the folder that `name` is relative to; None: the current one.
        locks: it is to be locked, so a forked child closes its copy before other code runs there.

    Raises:
        OSError: a system call failed.
    """

    def __cinit__(
        self, name: str, flags: int, mode: int = FILE_MODE, folder: int | None = None, locks=False
    ):
        self.fd = -1
        if locks:  # opened with the GIL, so that no fork comes before the number is known
            fork_watch(self, Descriptor.close)
            self._open_at_once(os.fsencode(name), flags, mode, folder)
        else:
            self.fd = os.open(name, flags | O_CLOEXEC, mode, dir_fd=folder)
        if folder is not None and flags & O_CREAT:
            give_to_owner(folder, self.fd)

    def __dealloc__(self) -> None:
        give_back(self.fd)

    def __enter__(self) -> Descriptor:
        return self

    def __exit__(self, *exc_info) -> None:
        self.close()

    cdef int _open_at_once(self, bytes name, int flags, int mode, int folder) except -1:
        self.fd = openat(folder, <const char *>name, flags | O_CLOEXEC, mode)
        if self.fd < 0:
            raise OSError(errno, os.strerror(errno), os.fsdecode(name))
        return 0

    cdef int take(self) noexcept:
        """Give the descriptor away, to an object that closes it."""
        cdef int fd = self.fd
        self.fd = -1
        return fd

    def fileno(self) -> int:
        """Return the number of the descriptor; -1 if it was closed."""
        return self.fd

    def close(self) -> None:
        """Close the file; closing it twice is not an error."""
        cdef int fd = self.take()
        with nogil:
            give_back(fd)


cdef class FolderLock:
    """The lock of the writers: on the folder itself, and on a file in it.

    They share it, or one holds it exclusively.  The lock on the folder counts, because
    users may remove the file as stale; the file serves older versions, and its text names the last
    holder.  Where a folder can't be locked (NFS), only the file counts.
    """

    def __cinit__(self) -> None:
        self.folder_fd = self.file_fd = -1

    def __dealloc__(self) -> None:
        self.forget()

    def take(self, folder: Folder, name: str, shared: bool = False) -> bool:
        """Take the lock, exclusive or `shared`; False if another holder conflicts.

        Raises:
            OSError: the file can't be made or locked.
        """
        cdef bytes text = os.fsencode(name)
        cdef const char *start = text
        cdef int operation = (LOCK_SH if shared else LOCK_EX) | LOCK_NB
        # With the GIL: a child that was forked in here would have copies that it doesn't know of.
        cdef int code = self._take(folder.fd, start, operation)
        if code == 0:
            return True
        if code == EAGAIN:
            return False
        raise OSError(code, os.strerror(code), name)

    cdef int _take(self, int where, const char *name, int operation) noexcept nogil:
        cdef int code = 0
        cdef int folder_fd = openat(where, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        cdef int file_fd = -1
        if folder_fd < 0:
            return errno
        if flock(folder_fd, operation) != 0 and errno == EAGAIN:
            code = EAGAIN
        if code == 0:
            file_fd = openat(
                where, name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, FILE_MODE)
            if file_fd < 0 or flock(file_fd, operation) != 0:
                code = errno
        if code != 0:
            give_back(file_fd)
            give_back(folder_fd)
            return code
        give_to_owner(folder_fd, file_fd)
        self.folder_fd, self.file_fd, self.pid = folder_fd, file_fd, getpid()
        return 0

    def share(self) -> None:
        """Downgrade to a shared lock, with OPENING held so that no process tries it meanwhile."""
        flock(self.folder_fd, LOCK_SH)
        flock(self.file_fd, LOCK_SH)

    def take_alone(self) -> bool:
        """Upgrade to an exclusive lock; False if others share it, and it stays shared.

        A failed change loses the lock, so it is taken again at once: who is there
        shares it, or holds it for a moment to ask.
        """
        cdef bint alone
        with nogil:
            alone = flock(self.folder_fd, LOCK_EX | LOCK_NB) == 0 and (
                flock(self.file_fd, LOCK_EX | LOCK_NB) == 0)
            if not alone:
                flock(self.folder_fd, LOCK_SH)
                flock(self.file_fd, LOCK_SH)
        return alone

    def is_taken(self, folder: Folder, name: str) -> bool:
        """True if the lock is taken; the check itself holds it for a moment."""
        cdef bytes text = os.fsencode(name)
        cdef const char *start = text
        # With the GIL, as in take().
        return is_locked(openat(folder.fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)) or \
            is_locked(openat(folder.fd, start, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK))

    def note(self, text: bytes) -> None:
        """Record the holder of the lock; optional, so a full disk is no error."""
        if self.file_fd >= 0:
            ftruncate(self.file_fd, 0)
            pwrite(self.file_fd, <const char *>text, len(text), 0)

    def release(self, last: bool) -> None:
        """Give the lock back, if this process took it; the last one erases what note() wrote."""
        if self.file_fd >= 0 and self.pid == getpid():
            if last:
                ftruncate(self.file_fd, 0)  # so that errors don't name an ended process
            flock(self.file_fd, LOCK_UN)
            flock(self.folder_fd, LOCK_UN)
        self.forget()

    def forget(self) -> None:
        """Close the descriptors; a copy of them in another process holds the lock on."""
        give_back(self.file_fd)
        give_back(self.folder_fd)
        self.folder_fd = self.file_fd = -1


cdef void give_back(int fd) noexcept nogil:
    """Close a descriptor, if it is one."""
    if fd >= 0:
        close(fd)


cdef int errno_of(int fd, const char *name) noexcept nogil:
    """Return the error with which one can't look at a file; 0: one can."""
    cdef stat_t found
    return errno if fstatat(fd, name, &found, AT_SYMLINK_NOFOLLOW) != 0 else 0


cdef bint is_locked(int fd) noexcept nogil:
    """True if another descriptor of the same file has a lock; closes this one."""
    cdef bint taken = False
    if fd >= 0:
        taken = flock(fd, LOCK_EX | LOCK_NB) != 0 and errno == EAGAIN
        flock(fd, LOCK_UN)  # a child that was forked just now has a copy
        close(fd)
    return taken
