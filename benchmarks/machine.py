"""Where and with what a run was made.

Invariants: facts only, and none that names a person or a host.
"""

import importlib.metadata
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

_HERE = Path(__file__).parent


def describe(folder: Path) -> dict[str, Any]:
    """CPU, kernel, Python, file system under ``folder``, git commit and load."""
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": _cpu_model(),
        "cpus": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "kernel": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "numpy": importlib.metadata.version("numpy"),
        "file_system": file_system(folder),
        "load_average": os.getloadavg()[0],
        "commit": git_commit(),
    }


def git_commit(folder: Path = _HERE.parent) -> str:
    """The commit of a checkout, with ``+`` when files differ from it; "" outside of git."""
    try:
        commit = _git(folder, "rev-parse", "--short=12", "HEAD")
        return commit + ("+" if _git(folder, "status", "--porcelain", "--", "kvengine") else "")
    except (OSError, subprocess.CalledProcessError):
        return ""


def another_kvengine(folder: Path) -> dict[str, str]:
    """Version and commit of the one in another folder; "" for what can't be told."""
    code = "import kvengine; print(kvengine.__version__)"
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False
    )
    is_checkout = (folder / ".git").exists()  # not just within that of something else
    return {
        "version": found.stdout.strip(),
        "commit": git_commit(folder) if is_checkout else "",
    }


def file_system(folder: Path) -> str:
    """The type of the file system under ``folder``."""
    best, kind = "", "unknown"
    place = str(folder.resolve())
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _device, mount, found, *_rest = line.split()
        inside = place == mount or place.startswith(mount.rstrip("/") + "/")
        if inside and len(mount) >= len(best):
            best, kind = mount, found
    return kind


def _git(folder: Path, *arguments: str) -> str:
    result = subprocess.run(
        ["git", *arguments], cwd=folder, capture_output=True, text=True, check=True
    )
    return result.stdout.strip()


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
