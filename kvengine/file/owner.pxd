"""Whose the files are that root makes in the folder of another user: that user's.

Else a command of root would keep out the service that uses the folder.
"""

cdef extern from "<sys/stat.h>" nogil:
    struct owner_stat "stat":
        unsigned int st_uid, st_gid
        unsigned long st_nlink
    int fstat(int fd, owner_stat *found)

cdef extern from "<unistd.h>" nogil:
    unsigned int geteuid()
    int fchown(int fd, unsigned int owner, unsigned int group)


cdef inline void give_to_owner(int folder, int fd) noexcept nogil:
    """Let a file that root made in a folder belong to the owner of the folder.

    One with another name as well may have been put there by a link, and is left as it is.
    """
    cdef owner_stat where, made
    if geteuid() == 0 and fstat(folder, &where) == 0 and fstat(fd, &made) == 0:
        if made.st_uid == 0 and where.st_uid != 0 and made.st_nlink == 1:
            fchown(fd, where.st_uid, where.st_gid)  # refused in some namespaces of users
