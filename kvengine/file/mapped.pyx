"""A file read through a mapping and written with pwrite: what segments are made of.

Invariants:

* The mapping lives as long as anything refers to the file object, also when the file was removed.
* write_at() writes everything or raises; after an error the bytes behind the old end are undefined
  but nothing before them has changed.
* load() reports bytes that can't be read, where touching them would end the process (SIGBUS):
  another program truncated the file, or the disk fails.  What it has loaded may be touched, unless
  that happens just then.
* A failed sync is reported once, to the caller; this module never syncs again on its own.
"""

from libc.errno cimport EAGAIN, EDQUOT, EINTR, EINVAL, ENOSPC, ENXIO, errno
from libc.stdint cimport int64_t
from libc.string cimport memcmp

import os

from kvengine.errors import CorruptData, StorageError, StorageFull
from kvengine.file.folder cimport Descriptor

cdef extern from "<sys/mman.h>" nogil:
    int PROT_READ, PROT_WRITE, MAP_SHARED, MAP_NORESERVE
    void *MAP_FAILED
    void *mmap(void *address, size_t size, int protection, int flags, int fd, int64_t offset)
    int munmap(void *address, size_t size)
    int madvise(void *address, size_t size, int advice)
    int MADV_DONTNEED
    int mincore(void *address, size_t size, unsigned char *pages)

cdef extern from "<unistd.h>" nogil:
    int close(int fd)
    int fdatasync(int fd)
    int64_t lseek(int fd, int64_t offset, int whence)
    int SEEK_END
    long sysconf(int name)
    int _SC_PAGESIZE

cdef extern from "<fcntl.h>" nogil:
    int posix_fadvise(int fd, int64_t offset, int64_t size, int advice)
    int POSIX_FADV_DONTNEED

cdef extern from *:
    """
    #include <unistd.h>
    #ifndef SEEK_DATA
    #define SEEK_DATA -1            /* refused: then all of a file counts as data */
    #define SEEK_HOLE -1
    #endif
    #define ZEROS_BYTES 262144
    static const char kv_zeros[ZEROS_BYTES];
    #ifndef MADV_POPULATE_READ
    #define MADV_POPULATE_READ 22   /* Linux 5.14 */
    #endif
    """
    int MADV_POPULATE_READ, SEEK_DATA, SEEK_HOLE
    const char *ZEROS "kv_zeros"
    int ZEROS_BYTES

cdef enum:
    GIL_BYTES_MAX = 65536       # larger writes release the GIL
    AHEAD_BYTES = 1 << 20
    RESIDENT_PAGES_MAX = 257    # 1 MiB that begins in a page

cdef uint64_t PAGE_BYTES = sysconf(_SC_PAGESIZE)


cdef object storage_error(int code, str what, str name):
    """Return the error for a refusal of the operating system."""
    kind = StorageFull if code in (ENOSPC, EDQUOT) else StorageError
    return kind(code, f"{what}: {os.strerror(code)}", name)


cdef class MappedFile:
    """One open, mapped file.

    Args:
        file: its descriptor or the owner of one; this object owns it from now on.
        name: for messages.
        map_bytes: how much address space to take, as far as the file may grow; 0: as far as it
            goes, and after shorten() as far as it goes then.
        writable: map it to be written, too.

    Thread-safety: counters change while holding the GIL; blocking calls release it.
    """

    def __cinit__(self, file: int | Descriptor, name: str, map_bytes: int, writable: bool) -> None:
        cdef uint64_t size = map_bytes
        cdef int fd = -1 if isinstance(file, Descriptor) else file
        # Every argument is one: from here on, as __dealloc__ sees, the descriptor is ours to close.
        self.is_own = True
        self.fd = (<Descriptor>file).take() if isinstance(file, Descriptor) else fd
        self.name, self.writable, self.by_size = name, writable, size == 0
        found = os.fstat(self.fd)
        self.size_bytes, self.inode = found.st_size, found.st_ino
        self._map(self.size_bytes if self.by_size else size)

    cdef int _map(self, uint64_t size) except -1:
        """Map the first `size` bytes, in the place of what is mapped."""
        cdef int protection = PROT_READ | (PROT_WRITE if self.writable else 0)
        cdef void *base
        size = max(size, PAGE_BYTES)
        base = mmap(NULL, size, protection, MAP_SHARED | MAP_NORESERVE, self.fd, 0)
        if base == MAP_FAILED:
            raise storage_error(
                errno, f"cannot map {size} bytes (is address space limited, by ulimit -v?)",
                self.name)
        if self.base != NULL:
            munmap(self.base, self.mapped_bytes)
        self.base, self.mapped_bytes = <char *>base, size
        return 0

    def __dealloc__(self) -> None:
        if self.base != NULL:
            munmap(self.base, self.mapped_bytes)
        if self.is_own and self.fd >= 0:
            close(self.fd)

    @property
    def descriptor(self) -> int:
        """The file descriptor; -1 once it was given back."""
        return self.fd

    cdef int reserve(self, uint64_t end) except -1:
        """Have disk space for the first `end` bytes, so that storing to them can't fail."""
        cdef int code = self.try_reserve(end, False)
        if code:
            what = "" if end <= self.mapped_bytes else f", no mapping behind {self.mapped_bytes}"
            raise storage_error(code, f"cannot grow to {end} bytes{what}", self.name)
        return 0

    cdef int try_reserve(self, uint64_t end, bint at_once) except -1:
        """The same; return the number of an error.  Only a hook of tests can raise.

        With `at_once` the GIL stays, and what was found before space ran out is kept: other
        processes may have it in use.
        """
        cdef int code
        if end <= self.size_bytes:
            return 0
        if end > self.mapped_bytes and not self.by_size:
            return EINVAL
        if self.hook is not None:
            self._call_hook("reserve", end, None)
        if at_once:
            code = allocate(self.fd, self.size_bytes, end)
        else:
            with nogil:
                code = allocate(self.fd, self.size_bytes, end)
                if code > 0:  # some systems keep what they found before space ran out
                    ftruncate(self.fd, self.size_bytes)
        if code < 0:
            self.sparse, code = True, 0
        if code == 0:
            self.size_bytes = end
        return code

    cdef int try_prepare(self, uint64_t start, uint64_t end) noexcept:
        """Make storing into [start, end) of the mapping cheap; nothing is there yet.

        Writing zeros in one call gives the page cache large pieces, which are mapped with one
        fault each; storing into fresh pages costs a fault for every 4 KiB (26 against 76 ns a
        record of 144 bytes).  Returns the number of an error.
        """
        cdef uint64_t at = max(start, self.prepared)
        cdef uint64_t size
        cdef int code = 0
        while at < end and code == 0:
            size = min(<uint64_t>ZEROS_BYTES, self.size_bytes - at)
            code = write_fully(self.fd, ZEROS, size, at)
            at += size
        if code == 0:
            self.prepared = max(at, self.prepared)
        return code

    cdef int write_at(self, const char *data, uint64_t size, uint64_t offset) except -1:
        """Write all bytes at an offset."""
        cdef int code = self.try_write(data, size, offset)
        if code:
            raise storage_error(code, f"cannot write {size} bytes at {offset}", self.name)
        return 0

    cdef int try_write(self, const char *data, uint64_t size, uint64_t offset) except -1:
        """The same; return the number of an error.  Only a hook of tests can raise."""
        cdef int code = 0
        if self.hook is not None:
            allowed = self._call_hook("write", offset, data[:size])
            if allowed is not None:
                write_fully(self.fd, data, min(<uint64_t>allowed, size), offset)
                return ENOSPC
        if size <= GIL_BYTES_MAX:
            code = write_fully(self.fd, data, size, offset)
        else:
            with nogil:
                code = write_fully(self.fd, data, size, offset)
        if code == 0:
            self.size_bytes = max(self.size_bytes, offset + size)
        return code

    cdef int sync(self) except -1:
        """Wait until everything written is on disk."""
        cdef int code = self.try_sync()
        if code:
            raise storage_error(code, "cannot sync", self.name)
        return 0

    cdef int try_sync(self) except -1:
        """The same; return the number of an error.  Only a hook of tests can raise."""
        cdef int code = 0
        if self.hook is not None:
            self._call_hook("sync", 0, None)
        with nogil:
            if fdatasync(self.fd) != 0:
                code = errno
        return code

    cdef int truncate(self, uint64_t size) except -1:
        """Cut the file to `size` bytes."""
        cdef int code = 0
        if self.hook is not None:
            self._call_hook("truncate", size, None)
        with nogil:
            if ftruncate(self.fd, size) != 0:
                code = errno
        if code:
            raise storage_error(code, f"cannot cut to {size} bytes", self.name)
        self.size_bytes = size
        self.prepared = 0
        if self.by_size:
            self._map(size)
        return 0

    def _call_hook(self, operation: str, offset: int, data: bytes | None) -> int | None:
        try:
            return self.hook(operation, self.name, offset, data)
        except StorageError:
            raise
        except OSError as error:
            raise storage_error(error.errno or EINVAL, f"cannot {operation}", self.name) from error

    cdef bint resident(self, uint64_t offset, uint64_t size) noexcept nogil:
        """True if all pages of a range are in memory."""
        cdef uint64_t start = offset & ~<uint64_t>(PAGE_BYTES - 1)
        cdef unsigned char[RESIDENT_PAGES_MAX] pages
        cdef uint64_t count = (offset + size - start + PAGE_BYTES - 1) // PAGE_BYTES
        cdef uint64_t i
        cdef bint all_there = True
        if count > RESIDENT_PAGES_MAX:
            return False
        if mincore(self.base + start, count * PAGE_BYTES, pages) != 0:
            return False
        for i in range(count):
            if not pages[i] & 1:
                all_there = False
        return all_there

    cdef int load(self, uint64_t offset, uint64_t size) noexcept nogil:
        """Read a range so that it is in memory; the caller has released the GIL.

        Returns the number of an error: the bytes are not there, or the disk can't read them.
        """
        cdef uint64_t at = offset & ~<uint64_t>(PAGE_BYTES - 1)
        cdef volatile char *base = self.base
        cdef char _byte  # the loads count, not what they give
        if offset + size > self.mapped_bytes:
            return EINVAL
        while size and madvise(self.base + at, offset + size - at, MADV_POPULATE_READ) != 0:
            if errno == EINTR or errno == EAGAIN:
                continue
            if errno != EINVAL:
                return errno
            while at < offset + size:  # an older kernel: unknown
                _byte = base[at]
                at += PAGE_BYTES
            break
        return 0

    cdef int load_ahead(
        self, uint64_t *loaded, uint64_t offset, uint64_t size, uint64_t end
    ) noexcept nogil:
        """As load(), for one who reads on and on up to `end`: a larger piece now and then.

        `loaded` is up to where that was done; 0 at first.
        """
        cdef int code
        cdef uint64_t upto = min(offset + size, end)
        if upto <= loaded[0]:
            return 0
        upto = min(max(upto, offset + AHEAD_BYTES), end)
        code = self.load(offset, upto - offset)
        if code == 0:
            loaded[0] = upto
        return code

    cdef int64_t find_bytes(self, uint64_t start) noexcept nogil:
        """Return 1 if a file has anything but zeros from `start` on, 0 if not, or -errno.

        The system knows where nothing was ever written, so that need not be read.
        """
        cdef uint64_t at = start, size
        cdef int64_t data, hole
        cdef int code
        while at < self.size_bytes:
            data = lseek(self.fd, at, SEEK_DATA)
            if data < 0 and errno == ENXIO:
                return 0
            hole = lseek(self.fd, data, SEEK_HOLE) if data >= <int64_t>at else -1
            if hole <= data:  # it can't say
                data, hole = at, self.size_bytes
            at = data
            while at < min(<uint64_t>hole, self.size_bytes):
                size = min(<uint64_t>ZEROS_BYTES, min(<uint64_t>hole, self.size_bytes) - at)
                code = self.load(at, size)
                if code:
                    return -code
                if memcmp(self.base + at, ZEROS, size) != 0:
                    return 1
                at += size
        return 0

    cdef int fetch(self, uint64_t offset, uint64_t size) except -1:
        """Read a range while other threads run; raise if it can't be read."""
        cdef int code
        with nogil:
            code = self.load(offset, size)
        if code:
            raise self.unreadable(code, offset, size)
        return 0

    cdef object unreadable(self, int code, uint64_t offset, uint64_t size):
        """Return the error for what load() returned."""
        return CorruptData(
            "file", file=self.name, offset=offset, expected=f"{size} bytes that can be read",
            found=f"{os.strerror(code)}: another program truncated the file, or the disk fails")

    # -- the same, for callers in Python

    def allocate(self, end: int) -> None:
        """Have disk space for the first `end` bytes."""
        self.reserve(end)

    def write(self, data: bytes, offset: int) -> None:
        """Write all bytes at an offset."""
        self.write_at(data, len(data), offset)

    def flush(self) -> None:
        """Wait until everything written is on disk."""
        self.sync()

    def shorten(self, size: int) -> None:
        """Cut the file to `size` bytes."""
        self.truncate(size)

    def check_readable(self, offset: int, size: int) -> None:
        """Read a range so that it is in memory.

        Raises:
            CorruptData: the bytes are not there any more, or the disk can't read them.
        """
        self.fetch(offset, size)

    def has_bytes(self, start: int) -> bool:
        """True if the file has anything but zeros from `start` on.

        Raises:
            CorruptData: it can't be read.
        """
        cdef uint64_t offset = start
        cdef int64_t found
        with nogil:
            found = self.find_bytes(offset)
        if found < 0:
            raise self.unreadable(-found, offset, self.size_bytes - offset)
        return found == 1

    def drop_cache(self) -> None:
        """Ask the system to forget clean pages of the file, so that the next read is from disk."""
        madvise(self.base, self.mapped_bytes, MADV_DONTNEED)  # pages in use are not forgotten
        if self.fd >= 0:
            posix_fadvise(self.fd, 0, 0, POSIX_FADV_DONTNEED)

    cdef void fit(self) noexcept:
        """Unmap the address space after the end of a file that no process appends to any more."""
        cdef int64_t end = lseek(self.fd, 0, SEEK_END)
        cdef uint64_t kept = (max(end, <int64_t>1) + PAGE_BYTES - 1) // PAGE_BYTES * PAGE_BYTES
        if end >= 0 and kept < self.mapped_bytes:
            munmap(self.base + kept, self.mapped_bytes - kept)
            self.mapped_bytes = kept

    def close_descriptor(self) -> None:
        """Close the descriptor of a file that no process appends to; its mapping stays."""
        if self.fd >= 0:
            self.fit()
            close(self.fd)
            self.fd = -1
