"""Open folders as C sees them."""

from libc.stdint cimport uint64_t

cdef enum:
    PRESENT = 0
    REMOVED = 1             # the folder has no name any more: what is written goes with it
    MISSING = 2             # the file that is watched has gone
    REPLACED = 3            # another file has its name
    LACKING = 4             # another file that must be there has gone


cdef class Folder:
    cdef readonly int fd
    cdef bint is_open               # `fd` and those below are ours to close
    cdef readonly str path          # for messages
    cdef bytes watched              # the name of the file that identifies the store
    cdef const char *watched_name   # the same; NULL: none
    cdef bytes required             # the name of another one that must be there, whichever it is
    cdef const char *required_name  # the same; NULL: none
    cdef uint64_t device, inode     # of the file that is watched
    cdef uint64_t next_inode        # of the one that is about to take its name, or has
    cdef int sequence                   # odd while what follows "watched" is being changed
    cdef int held, next_held        # descriptors of both, so that no other file gets their inodes

    cdef int state(self) noexcept nogil
    cdef int _look(self) noexcept nogil
    cdef void _drop_held(self) noexcept
    cdef object error(self, int state)


cdef class Descriptor:
    cdef readonly int fd            # -1 once given away or closed
    cdef object __weakref__

    cdef int take(self) noexcept
    cdef int _open_at_once(self, bytes name, int flags, int mode, int folder) except -1


cdef class FolderLock:
    cdef int folder_fd, file_fd     # locked; -1: not
    cdef int pid                    # of the process that took it

    cdef int _take(self, int where, const char *name, int operation) noexcept nogil
