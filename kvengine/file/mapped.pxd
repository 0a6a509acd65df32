"""Mapped files as C sees them."""

from libc.errno cimport EINTR, EINVAL, EOPNOTSUPP, errno
from libc.stdint cimport int64_t, uint64_t

cdef extern from "<unistd.h>" nogil:
    int ftruncate(int fd, int64_t size)
    ssize_t pwrite(int fd, const void *data, size_t size, int64_t offset)

cdef extern from "<fcntl.h>" nogil:
    int posix_fallocate(int fd, int64_t offset, int64_t size)

cdef object storage_error(int code, str what, str name)

cdef class MappedFile:
    cdef readonly str name
    cdef int fd                     # -1 once given back
    cdef bint is_own                # the descriptor is this object's to close
    cdef bint writable
    cdef bint by_size               # the mapping is as large as the file
    cdef char *base
    cdef uint64_t mapped_bytes      # of address space; may be more than the file has
    cdef public uint64_t size_bytes  # of the file, as far as it is allocated
    cdef readonly uint64_t inode    # of the file
    cdef public object hook         # None, or called before each operation; for tests
    cdef readonly bint sparse       # space can't be allocated ahead here: do not store into the map

    cdef uint64_t prepared          # pages below this are in memory and may be stored to cheaply

    cdef int _map(self, uint64_t size) except -1
    cdef void fit(self) noexcept
    cdef int reserve(self, uint64_t end) except -1
    cdef int try_reserve(self, uint64_t end, bint at_once) except -1
    cdef int try_prepare(self, uint64_t start, uint64_t end) noexcept
    cdef int write_at(self, const char *data, uint64_t size, uint64_t offset) except -1
    cdef int try_write(self, const char *data, uint64_t size, uint64_t offset) except -1
    cdef int sync(self) except -1
    cdef int try_sync(self) except -1
    cdef int truncate(self, uint64_t size) except -1
    cdef bint resident(self, uint64_t offset, uint64_t size) noexcept nogil
    cdef int load(self, uint64_t offset, uint64_t size) noexcept nogil
    cdef int load_ahead(
        self, uint64_t *loaded, uint64_t offset, uint64_t size, uint64_t end
    ) noexcept nogil
    cdef int64_t find_bytes(self, uint64_t start) noexcept nogil
    cdef int fetch(self, uint64_t offset, uint64_t size) except -1
    cdef object unreadable(self, int code, uint64_t offset, uint64_t size)

cdef inline int write_fully(
    int fd, const char *data, uint64_t size, uint64_t offset
) noexcept nogil:
    """Write all bytes; return 0 or the error number."""
    cdef uint64_t done = 0
    cdef ssize_t now
    while done < size:
        now = pwrite(fd, data + done, size - done, offset + done)
        if now < 0:
            if errno == EINTR:
                continue
            return errno
        done += now
    return 0

cdef inline int allocate(int fd, uint64_t start, uint64_t end) noexcept nogil:
    """Have disk for a part of a file; return an error, or -1 if that can't be said ahead."""
    cdef int code = posix_fallocate(fd, start, end - start)
    while code == EINTR:
        code = posix_fallocate(fd, start, end - start)
    if code == EOPNOTSUPP or code == EINVAL:
        code = -1 if ftruncate(fd, end) == 0 else errno
    return code
