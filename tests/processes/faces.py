"""The ways in which a process reads and writes a store, with one face for the histories.

All methods are coroutines, so that the async database can be one of them; those of the others do
not wait for anything.
"""

from __future__ import annotations

import os
from typing import Any

import kvengine
import kvengine.aio
from kvengine.namespace.namespace import Namespace

Found = tuple[int, bytes] | None  # version and value
STORE_GROUPS = (b"k", 2)
TRIPLE = ["t0", "t1", "t2"]  # written by batches of all three only


class StoreFace:
    """kvengine.Store."""

    writes = True

    def __init__(self, path: str, **options: Any) -> None:
        self.store = kvengine.Store(path, groups=STORE_GROUPS, **options)

    async def start(self) -> None:
        """Do what needs an event loop."""

    def name(self, key: str) -> bytes:
        """Return a key as the store has it."""
        return key.encode()

    async def put(self, key: str, value: bytes, **options: Any) -> int:
        """Put; return the version."""
        return self.store.put(self.name(key), value, **options)

    async def delete(self, key: str, **options: Any) -> int:
        """Delete; return the version, or 0."""
        return self.store.delete(self.name(key), **options)

    async def batch(self, changes: list[tuple[str, bytes | None]], durability: str) -> int:
        """Change many keys at once; return the version of the last change."""
        with self.store.batch(durability=durability) as batch:
            for key, value in changes:
                if value is None:
                    batch.delete(self.name(key))
                else:
                    batch.put(self.name(key), value)
        assert batch.version is not None
        return batch.version

    async def get(self, key: str) -> Found:
        """Return what a key has."""
        entry = self.store.get_entry(self.name(key))
        return entry and (entry.version, entry.value)

    async def get_many(self, keys: list[str]) -> list[bytes | None]:
        """Return values of one moment."""
        return self.store.get_many([self.name(key) for key in keys])

    async def scan(self, prefix: str) -> dict[str, Found]:
        """Return what the keys with a prefix have."""
        start = len(self.name(""))
        return {
            entry.key[start:].decode(): (entry.version, entry.value)
            for entry in self.store.scan(self.name(prefix))
        }

    async def tail(self, after: int) -> list[tuple[int, str, bytes | None]]:
        """Return the changes above a version."""
        start = self.name("")
        return [
            (
                change.version,
                change.key[len(start) :].decode(),
                None if change.kind == "delete" else change.value,
            )
            for change in self.store.tail(after, prefix=start)
        ]

    async def version(self) -> int:
        """Return the version of the newest change."""
        return self.store.version

    async def job(self, name: str) -> None:
        """Do some work that changes nothing that one reads."""
        if name == "verify":
            report = self.store.verify()
            assert report.ok, report.problems
        elif name == "snapshot":
            with self.store.snapshot() as frozen:
                assert len(list(frozen.keys())) == len(frozen)
                assert len(set(frozen.get_many([self.name(key) for key in TRIPLE]))) == 1
        else:
            getattr(self.store, name)()

    async def close(self) -> None:
        """Close it."""
        self.store.close()


class DatabaseFace(StoreFace):
    """kvengine.open() and a namespace."""

    def __init__(self, path: str, **options: Any) -> None:
        self.database = kvengine.open(path, **options)
        self._use(self.database.namespace("history"))
        self.store = self.database.store

    def _use(self, namespace: Namespace) -> None:
        self.namespace = namespace

    def name(self, key: str) -> bytes:
        """Return a key as the store has it."""
        start = self.namespace._name("x")[:-1]
        return start + key.encode()

    async def put(self, key: str, value: bytes, **options: Any) -> int:
        """Put; return the version."""
        return self.namespace.put(key, value, **options)

    async def delete(self, key: str, **options: Any) -> int:
        """Delete; return the version, or 0."""
        return self.namespace.delete(key, **options)

    async def get(self, key: str) -> Found:
        """Return what a key has."""
        found = self.namespace.get_with_metadata(key, "bytes")
        return (found.version, found.value) if found.version else None

    async def add(self, key: str) -> int:
        """Add 1 to a number; return the sum."""
        return self.namespace.increment(key)

    async def close(self) -> None:
        """Close it."""
        self.database.close()


class AioFace(DatabaseFace):
    """kvengine.aio.open() and a namespace."""

    def __init__(self, path: str, **options: Any) -> None:
        self._path, self._options = path, options

    async def start(self) -> None:
        """Open it in the event loop."""
        self.aio = await kvengine.aio.open(self._path, **self._options)
        self.aio_namespace = await self.aio.namespace("history")
        self._use(self.aio_namespace._inner)
        self.store = self.aio._inner.store

    async def put(self, key: str, value: bytes, **options: Any) -> int:
        """Put; return the version."""
        return await self.aio_namespace.put(key, value, **options)

    async def delete(self, key: str, **options: Any) -> int:
        """Delete; return the version, or 0."""
        return await self.aio_namespace.delete(key, **options)

    async def get(self, key: str) -> Found:
        """Return what a key has."""
        found = await self.aio_namespace.get_with_metadata(key, "bytes")
        return (found.version, found.value) if found.version else None

    async def add(self, key: str) -> int:
        """Add 1 to a number; return the sum."""
        return await self.aio_namespace.increment(key)

    async def close(self) -> None:
        """Close it."""
        await self.aio.close()


FACES = {"store": StoreFace, "database": DatabaseFace, "aio": AioFace}


def open_face(kind: str, path: str | os.PathLike[str], **options: Any) -> StoreFace:
    """Open a store; "store reader" and the like only read."""
    name, _, role = kind.partition(" ")
    if role:
        options["read_only"] = True
    face = FACES[name](os.fspath(path), **options)
    face.writes = not role
    return face
