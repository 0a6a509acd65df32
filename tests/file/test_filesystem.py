"""Folders on file systems that other machines use too are refused, by writers and readers."""

import contextlib
import ctypes
import errno
import os
import struct
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

import kvengine
from kvengine import InvalidRequest, StorageError, Store
from kvengine.file import filesystem
from tests.mounting import small_disk

LOCAL = {"ext4": 0xEF53, "xfs": 0x58465342, "btrfs": 0x9123683E, "tmpfs": 0x01021994,
         "overlay": 0x794C7630, "zfs": 0x2FC12FC1, "f2fs": 0xF2F52010, "none told": 0}  # fmt: skip


def pretend(monkeypatch, magic):
    monkeypatch.setattr(filesystem, "filesystem_type", lambda _path: magic)


@pytest.mark.parametrize("magic", filesystem.SHARED, ids=filesystem.SHARED.get)
def test_each_shared_file_system_is_refused(tmp_path, monkeypatch, magic):
    path = tmp_path / "a" / "store"
    pretend(monkeypatch, magic)
    for read_only in (False, True):
        with pytest.raises(StorageError) as caught:
            Store(path, read_only=read_only)
        assert caught.value.errno == errno.EOPNOTSUPP
        assert caught.value.filename == str(path)
        for word in (filesystem.SHARED[magic], "share memory and locks", "local disk",
                     "allow_network_filesystem=True"):  # fmt: skip
            assert word in str(caught.value)
    with pytest.raises(StorageError, match="network file system"):
        kvengine.open(path)
    assert not path.parent.exists()  # nothing was made


@pytest.mark.parametrize("magic", LOCAL.values(), ids=LOCAL)
def test_local_file_systems_are_not(tmp_path, monkeypatch, magic):
    pretend(monkeypatch, magic)
    with Store(tmp_path / "store", durability="os") as store:
        store[b"a"] = b"1"


def test_the_option_lets_one_in(tmp_path, monkeypatch):
    pretend(monkeypatch, 0x6969)
    with Store(tmp_path / "store", durability="os", allow_network_filesystem=True) as store:
        store[b"a"] = b"1"
    with kvengine.open(tmp_path / "db", allow_network_filesystem=True) as db:
        db.namespace("a").put("k", "v")
    with (
        pytest.raises(StorageError, match="NFS"),
        Store(tmp_path / "store", read_only=True),
    ):
        pass
    with Store(tmp_path / "store", read_only=True, allow_network_filesystem=True) as store:
        assert store[b"a"] == b"1"


def test_a_store_on_its_own_disk_below_a_shared_folder(tmp_path, monkeypatch):
    """The path counts, as far down as it is there: not the folder that it begins with."""
    asked = []
    real = filesystem.filesystem_type

    def noted(path):
        asked.append(path)
        return real(path)

    monkeypatch.setattr(filesystem, "filesystem_type", noted)
    with small_disk(tmp_path / "disk", 1 << 22):
        assert filesystem.shared_type(str(tmp_path / "disk" / "b" / "c")) is None
        assert real(str(tmp_path / "disk")) == LOCAL["tmpfs"]
    assert asked == [str(tmp_path / "disk" / "b" / "c"), str(tmp_path / "disk" / "b"),
                     str(tmp_path / "disk")]  # fmt: skip


def test_paths_that_cannot_be_looked_at_are_left_to_who_opens_them(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    assert filesystem.shared_type(str(tmp_path / "file" / "below")) is None
    assert filesystem.shared_type(str(tmp_path / ("x" * 300))) is None
    with pytest.raises(StorageError, match="File name too long"):
        Store(tmp_path / ("x" * 300))
    with pytest.raises(InvalidRequest):
        Store("")


# -- real ones: the kernel's FUSE, answered from here

INIT, STATFS, FORGET, GETATTR = 26, 17, 2, 3
HEADER_IN, HEADER_OUT = struct.Struct("<IIQQIIII"), struct.Struct("<IiQ")


def answer(fd: int) -> None:
    """Serve an empty file system, until it is unmounted."""
    while True:
        try:
            request = os.read(fd, 1 << 17)
        except OSError as error:
            if error.errno == errno.ENOENT:  # interrupted in the kernel
                continue
            return
        _, operation, unique, *_ = HEADER_IN.unpack_from(request)
        if operation == FORGET:
            continue
        code, body = -errno.ENOSYS, b""
        if operation == INIT:
            code, body = 0, struct.pack("<IIIIHHIIHHI28x", 7, 31, 4096, 0, 1, 1, 4096, 1, 1, 0, 0)
        elif operation == STATFS:
            code, body = 0, bytes(80)
        elif operation == GETATTR:
            attributes = struct.pack("<QQQQQQIIIIIIIII4x", 1, *[0] * 8, 0o40755, 2, 0, 0, 0, 4096)
            code, body = 0, struct.pack("<QII", 60, 0, 0) + attributes
        with contextlib.suppress(OSError):
            os.write(fd, HEADER_OUT.pack(HEADER_OUT.size + len(body), code, unique) + body)


@contextlib.contextmanager
def fuse(folder: Path, kind: str, source: str) -> Iterator[Path]:
    """Mount such a file system; where that can't be done the test is skipped, and says so."""
    folder.mkdir()
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        fd = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        warnings.warn(f"NOT TESTED on a real file system: /dev/fuse: {error}", stacklevel=2)
        pytest.skip(f"no FUSE: {error}")
    try:
        options = f"fd={fd},rootmode=40755,user_id=0,group_id=0".encode()
        if libc.mount(source.encode(), os.fsencode(folder), kind.encode(), 0, options) != 0:
            reason = os.strerror(ctypes.get_errno())
            warnings.warn(f"NOT TESTED on a real file system: mount: {reason}", stacklevel=2)
            pytest.skip(f"can't mount FUSE: {reason}")
        server = threading.Thread(target=answer, args=(fd,))
        server.start()
        try:
            yield folder
        finally:
            libc.umount2(os.fsencode(folder), 2)  # MNT_DETACH
            server.join(30)
            assert not server.is_alive()
    finally:
        os.close(fd)


@pytest.mark.parametrize(
    ("kind", "source", "name"),
    [
        ("fuse.sshfs", "user@host:/data", "sshfs in FUSE"),
        ("fuse.rclone", "remote:bucket", "rclone in FUSE"),
        ("fuse", "mountpoint-s3", "mountpoint-s3 in FUSE"),
        ("fuse", "mfs#master:9421", "mfs in FUSE"),
        ("fuse.juicefs", "JuiceFS:name", "juicefs in FUSE"),
        ("fuse", "https://dav.example/x", "https://dav.example/x in FUSE"),
        ("fuse.gocryptfs", "/home/user/secret", None),
        ("fuse", "own", None),
    ],
)
def test_fuse_file_systems(tmp_path, kind, source, name):
    with fuse(tmp_path / "mounted", kind, source) as folder:
        assert filesystem.filesystem_type(str(folder)) == filesystem.FUSE
        assert filesystem.shared_type(str(folder)) == name
        if name is not None:
            with pytest.raises(StorageError, match="network file system") as caught:
                Store(folder, durability="os")
            assert name in str(caught.value)
        else:
            with pytest.raises(StorageError, match="Function not implemented"):
                Store(folder, durability="os")  # this one can do nothing
    assert filesystem.shared_type(str(folder)) is None
