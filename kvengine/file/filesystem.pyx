"""File systems that several machines may use at once: no place for a store.

Invariants:

* It creates nothing on such a file system: it checks before it makes a folder.
* What is not known to be shared counts as local: a file system that hides what is under it (an
  overlay, a FUSE file system of an unknown name) is let through.
"""

from libc.errno cimport EINTR, EOPNOTSUPP
from libc.stdint cimport uint32_t

import os

from kvengine.errors import StorageError, pass_on
from kvengine.file.folder import Descriptor

cdef extern from *:
    """
    #ifdef __linux__
    #include <errno.h>
    #include <sys/vfs.h>
    static int kv_filesystem(const char *path, uint32_t *found) {
        struct statfs status;
        if (statfs(path, &status) != 0)
            return errno;
        *found = (uint32_t)status.f_type;
        return 0;
    }
    #else
    static int kv_filesystem(const char *path, uint32_t *found) { return 0; }
    #endif
    """
    int kv_filesystem(const char *path, uint32_t *found) nogil

FUSE = 0x65735546  # whatever it is that a program makes of files

# What statfs() says; the numbers are in statfs(2) and in linux/magic.h, or in the file system.
SHARED = {
    0x6969: "NFS",
    0x517B: "SMB",
    0xFF534D42: "SMB (cifs)",
    0xFE534D42: "SMB (smb2)",
    0x01021997: "9p",
    0x00C36400: "Ceph",
    0x5346414F: "AFS",
    0x6B414653: "AFS (kafs)",
    0x73757245: "Coda",
    0x564C: "NCP",
    0x0BD00BD0: "Lustre",
    0x47504653: "GPFS",
    0x01161970: "GFS2",
    0x7461636F: "OCFS2",
    0x19830326: "BeeGFS",
    0x20030528: "OrangeFS",
    0xAAD7AAEA: "PanFS",
    0x786F4256: "vboxsf, a folder of the host of a virtual machine",
    0xBACBACBC: "vmhgfs, a folder of the host of a virtual machine",
    0x7C7C6673: "prl_fs, a folder of the host of a virtual machine",
}

# Of file systems in FUSE: their type behind "fuse.", or what is mounted.
SHARED_IN_FUSE = frozenset(
    "sshfs s3fs mountpoint-s3 gcsfuse goofys geesefs blobfuse blobfuse2 rclone juicefs seaweedfs "
    "glusterfs ceph ceph-fuse mfs moosefs mfsmount lizardfs curlftpfs davfs smbnetfs "
    "gvfsd-fuse hdfs fuse_dfs virtiofs vmhgfs-fuse grpcfuse osxfs fakeowner".split()
)


def refuse_shared(path: str) -> None:
    """Refuse a folder on a file system that several machines may use, or a path for one.

    Raises:
        StorageError: it says which file system, why, and what to do.
    """
    name = shared_type(path)
    if name is not None:
        raise StorageError(
            EOPNOTSUPP,
            f"the folder is on a network file system ({name}). The processes that use a store, "
            "including those that only read, share memory and locks, and neither works between "
            "machines: put the store on a local disk, and let other machines use it through "
            "kvengine serve or kvengine.Edge. If only processes of this machine ever open it, "
            "allow_network_filesystem=True permits it",
            path,
        )


def filesystem_type(path: str) -> int:
    """Return the number of the kind of file system that a path is on: f_type of statfs().

    It is 0 where the system has none.

    Raises:
        OSError: a system call failed.
    """
    cdef bytes name = os.fsencode(path)
    cdef const char *text = name
    cdef uint32_t found = 0
    cdef int code = EINTR
    with nogil:  # a server that is far may take its time
        while code == EINTR:
            code = kv_filesystem(text, &found)
    if code:
        raise OSError(code, os.strerror(code), path)
    return found


def shared_type(path: str) -> str | None:
    """Return what shared file system a path is on; None: none that is known as such.

    Of a path with nothing there the folder above it counts.
    """
    place = os.path.abspath(path)
    while True:
        try:
            found = filesystem_type(place)
        except FileNotFoundError:
            above = os.path.dirname(place)
            if above == place:
                return None
            place = above
            continue
        except OSError as error:  # opening the folder gives a better error
            pass_on(error)
            return None
        return _fuse_type(place) if found == FUSE else SHARED.get(found)


def _fuse_type(place: str) -> str | None:
    """Return the name of a shared file system in FUSE."""
    try:
        kind, source = _mounted(place)
    except (OSError, ValueError) as error:  # no /proc
        pass_on(error)
        return None
    for name in (kind.removeprefix("fuse."), source.partition("#")[0].partition(":")[0]):
        if name.lower() in SHARED_IN_FUSE:
            return f"{name} in FUSE"
    return f"{source} in FUSE" if source.startswith(("http://", "https://")) else None


def _mounted(place: str) -> tuple[str, str]:
    """Return type and source of what is mounted where a path is, as mountinfo has them.

    Raises:
        ValueError: it is not said.
    """
    with Descriptor(place, os.O_PATH) as file:
        lines = _lines(f"/proc/self/fdinfo/{file.fd}")
    mount = "".join(line.split()[1] for line in lines if line.startswith("mnt_id:"))
    for line in _lines("/proc/self/mountinfo"):
        before, _, after = line.partition(" - ")
        if before.split(" ", 1)[0] == mount:
            kind, source, *_ = after.split(" ")
            return kind, source.replace("\\043", "#")
    raise ValueError(f"mount {mount} not found")


def _lines(path: str) -> list[str]:
    with open(path, "rb") as file:
        return os.fsdecode(file.read()).splitlines()
