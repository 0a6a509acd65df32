"""Memory, disk and device writes of a process and a folder.

Invariants:
* Memory is what the process alone must hold: anonymous pages (``Pss_Anon``) and shared memory.
  Pages of files are reported beside it, because the kernel may take them back.
* Disk is blocks, not file length: maps and preallocated files are longer than they are big.
* Device writes are sectors that the block device counted, around a ``sync``: what a process reports
  of itself leaves out what the kernel writes later on its behalf.
* A figure that this machine cannot give is ``None``, never zero.
"""

import ctypes
import gc
import os
import shutil
import subprocess
from pathlib import Path

_SECTOR_BYTES = 512
_FIELDS = ("Pss_Anon", "Pss_Shmem", "Private_Dirty", "Pss_File", "Rss")


def memory(pid: int | None = None) -> dict[str, int]:
    """Bytes by kind, from ``smaps_rollup``."""
    path = Path(f"/proc/{pid or 'self'}/smaps_rollup")
    found = dict.fromkeys(_FIELDS, 0)
    for line in path.read_text().splitlines()[1:]:
        name, _, rest = line.partition(":")
        if name in found:
            found[name] = int(rest.split()[0]) * 1024
    return found


def trim_heap() -> None:
    """Give free heap back, so that the garbage of a load is not counted as memory of the store."""
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except AttributeError:  # not glibc
        return


def files(folder: Path) -> list[Path]:
    """All files under a folder; files that vanish meanwhile are left out."""
    return [path for path in folder.rglob("*") if path.is_file()]


def disk_bytes(folder: Path) -> int:
    """Blocks that the folder's files occupy."""
    total = 0
    for path in files(folder):
        try:
            total += path.stat().st_blocks * _SECTOR_BYTES
        except FileNotFoundError:
            continue
    return total


def page_cache_bytes(folder: Path) -> int | None:
    """How much of the folder is in the page cache, as ``fincore`` of util-linux says."""
    tool, names = shutil.which("fincore"), [str(path) for path in files(folder)]
    if not tool or not names:
        return None
    command = [tool, "--bytes", "--noheadings", "--output", "RES", *names]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    return sum(int(word) for word in result.stdout.split() if word.isdigit())


def drop_page_cache(folder: Path) -> None:
    """Ask the kernel to forget the folder's files; they must be closed and are synced first."""
    for path in files(folder):
        file = os.open(path, os.O_RDONLY)
        try:
            os.fsync(file)
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(file)


class DeviceWrites:
    """Bytes that reach the block device under a folder between ``__init__`` and ``stop``.

    Others who write to the same device are counted too: keep the machine quiet.
    """

    def __init__(self, folder: Path) -> None:
        number = folder.stat().st_dev
        self._stat = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}/stat")
        os.sync()
        self._sectors, self._own = self._read(), own_write_bytes()

    def stop(self) -> dict[str, int | None]:
        """``device_bytes`` (None where there is no block device) and ``process_bytes``."""
        os.sync()
        sectors, own = self._read(), own_write_bytes()
        device = None
        if sectors is not None and self._sectors is not None:
            device = (sectors - self._sectors) * _SECTOR_BYTES
        process = None if own is None or self._own is None else own - self._own
        return {"device_bytes": device, "process_bytes": process}

    def _read(self) -> int | None:
        try:
            return int(self._stat.read_text().split()[6])
        except (FileNotFoundError, IndexError):  # tmpfs, overlay, network
            return None


def own_write_bytes() -> int | None:
    """``write_bytes`` of this process in /proc/self/io."""
    try:
        text = Path("/proc/self/io").read_text()
    except OSError:  # hidden in some containers
        return None
    fields = dict(line.split(": ") for line in text.splitlines())
    return int(fields["write_bytes"])
