"""What every engine must be able to do, so that the workloads need not know which one they drive.

Invariants:
* ``get``, ``get_many``, ``put`` and ``delete`` are the peer's own bound methods wherever it has
  such methods, so that the loop measures the peer and not this file.
* An engine opened with durability "os" keeps every acknowledged write when its process is killed;
  with "sync" it keeps them when the machine stops.
* Both settings of an engine are in the same durability class.
"""

import importlib
import importlib.metadata
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

Durability = Literal["os", "sync", "group"]
Pair = tuple[bytes, bytes]

STORE = "store"  # keeps pairs at all
ORDERED = "ordered"  # lists keys in byte order
SEEK = "seek"  # lists from a given key on
DURABLE = "durable"  # there is something to open again
SYNC = "sync"  # can put a write on the disk before it returns
THREADS = "threads"  # several threads may write through one handle
PROCESSES = "processes"  # another process may read while this one writes
FULL = frozenset({STORE, ORDERED, SEEK, DURABLE, SYNC})


class EngineMissing(Exception):
    """The peer is not installed; the message says what to install."""


class Engine:
    """One open store. A subclass has all callables that its abilities need, and ``close``.

    It sets the first four in ``__init__``.
    """

    name: ClassVar[str]
    package: ClassVar[str] = ""  # on PyPI, for the version and the message when it is missing
    settings: ClassVar[tuple[str, ...]] = ("default", "tuned")
    abilities: ClassVar[frozenset[str]] = FULL

    get: Callable[[bytes], bytes | None]
    get_many: Callable[[list[bytes]], Sequence[bytes | None]]
    put: Callable[[bytes, bytes], object]
    delete: Callable[[bytes], object]

    load: Callable[[list[Pair]], None]  # one batch, atomic where the engine can
    items: Callable[[], Iterator[Pair]]  # all, in key order
    keys: Callable[[bytes], Iterator[bytes]]  # all with this prefix, in order
    range: Callable[[bytes, int], list[Pair]]  # so many from a key on, in key order
    close: Callable[[], None]  # cleanly

    def __init__(
        self, path: Path, settings: str, durability: Durability, *, read_only: bool = False
    ) -> None:
        self.path, self.tuned, self.durability = path, settings == "tuned", durability
        self.read_only = read_only
        path.mkdir(parents=True, exist_ok=True)

    @classmethod
    def version(cls) -> str:
        """The version in use.

        Raises:
            EngineMissing: it is not installed.
        """
        peer_module(cls.package, cls.package)
        return importlib.metadata.version(cls.package)

    def refresh(self) -> None:
        """Make later reads see all earlier writes; take ``get`` and ``get_many`` anew after it."""

    def fresh_get(self) -> Callable[[bytes], bytes | None]:
        """A ``get`` that sees what any process had acknowledged when it was called."""
        return self.get

    def before_writes(self) -> None:
        """Let go of what reads hold; after this call ``refresh`` before the next read."""

    def settle(self) -> None:
        """Wait until work in the background is done."""

    def for_thread(self) -> "Engine":
        """A handle that another thread may use at the same time; it is closed with this one."""
        return self

    def figures(self) -> dict[str, float]:
        """What the engine says about itself."""
        return {}


def peer_module(name: str, package: str) -> Any:
    """The module of a peer.

    Raises:
        EngineMissing: it cannot be imported; the message names the package.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise EngineMissing(f"cannot import {name} ({error}); pip install {package}") from error


def after_prefix(prefix: bytes) -> bytes:
    """The least key above all keys with this prefix."""
    stem = prefix.rstrip(b"\xff")
    return stem[:-1] + bytes([stem[-1] + 1]) if stem else b"\xff" * 1100


def wait_until_quiet(folder: Path, seconds_max: float = 20.0) -> None:
    """Wait until no file of the folder has changed in name or size for 0.3 s."""
    deadline, last, since = time.monotonic() + seconds_max, None, time.monotonic()
    while time.monotonic() < deadline:
        now = _names_and_sizes(folder)
        if now != last:
            last, since = now, time.monotonic()
        if time.monotonic() - since >= 0.3:
            return
        time.sleep(0.05)


def _names_and_sizes(folder: Path) -> list[tuple[str, int]]:
    found = []
    for file in folder.rglob("*"):
        try:
            found.append((str(file), file.stat().st_size))
        except FileNotFoundError:  # compaction removed it between the two calls
            continue
    return sorted(found)
