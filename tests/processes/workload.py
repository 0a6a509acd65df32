"""What a process of a history does: each of its threads, or tasks, calls one method after another.

Invariants:

* Any error but VersionConflict and LogCompacted ends the process, and is written down.
* A process ends when it is told to, or by itself after some calls; then it closes the store.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import threading
import traceback
from collections.abc import Awaitable, Callable
from typing import Any

from kvengine import LogCompacted, VersionConflict
from tests.processes.faces import TRIPLE, AioFace, StoreFace, open_face
from tests.processes.recording import Recorder, tag_of, value_of

KEYS = [f"k{group}{number}" for group in range(3) for number in range(6)]
COUNTERS = ["c0", "c1"]  # by compare-and-set
NUMBERS = ["n0"]  # by increment(); of databases only
DURABILITIES = ("os", "os", "os", "interval", "group", "sync")
READERS_JOBS = ("sync", "snapshot", "verify")
JOBS = ("compact", "checkpoint", *READERS_JOBS)


class Actor:
    """One thread, or task."""

    def __init__(self, face: StoreFace, record: Recorder, seed: int) -> None:
        self.face, self.record, self.source = face, record, random.Random(seed)
        self.jobs = JOBS if face.writes else READERS_JOBS
        self.calls: list[tuple[int, Callable[[], Awaitable[None]]]] = [
            (24, self.get),
            (8, self.get_triple),
            (6, self.get_many),
            (6, self.scan),
            (10, self.version),
            (2, self.tail),
            (1, self.job),
        ]
        if face.writes:
            self.calls += self._writes()

    def _writes(self) -> list[tuple[int, Callable[[], Awaitable[None]]]]:
        calls: list[tuple[int, Callable[[], Awaitable[None]]]] = [
            (20, self.put),
            (8, self.delete),
            (20, self.compare_and_set),
            (10, self.triple),
            (6, self.batch),
            (16, self.count),
        ]
        return [*calls, (10, self.add)] if hasattr(self.face, "add") else calls

    async def act(self) -> None:
        """Make one call."""
        weights = [weight for weight, _ in self.calls]
        await self.source.choices(self.calls, weights)[0][1]()

    # -- writes

    async def _write(
        self,
        changes: list[tuple[str, str | None]],
        call: Callable[[], Awaitable[int]],
        expected: int | None = None,
    ) -> bool:
        """Write down what is written; False if another version was there."""
        self.record.began("write", changes=changes, expected=expected)
        try:
            version = await call()
        except VersionConflict as conflict:
            self.record.ended(conflict=conflict.found)
            return False
        self.record.ended(version=version)
        return True

    def _durability(self) -> str:
        return self.source.choice(DURABILITIES)

    async def put(self) -> None:
        """Put, whatever is there."""
        key, tag = self.source.choice(KEYS), self.record.tag()
        level = self._durability()
        await self._write([(key, tag)], lambda: self.face.put(key, value_of(tag), durability=level))

    async def delete(self) -> None:
        """Delete, whatever is there."""
        key, level = self.source.choice(KEYS), self._durability()
        await self._write([(key, None)], lambda: self.face.delete(key, durability=level))

    async def compare_and_set(self) -> None:
        """Put or delete a key if nobody else has written it since it was read."""
        key = self.source.choice(KEYS[:6])
        found = await self._get(key)
        if self.source.random() < 0.2:
            await self._delete_if(key, found[0] if found else 0)
            return
        tag = self.record.tag()
        expected = found[0] if found else 0
        await self._write(
            [(key, tag)],
            lambda: self.face.put(key, value_of(tag), if_version=expected, durability="os"),
            expected,
        )

    async def _delete_if(self, key: str, expected: int) -> None:
        if expected:
            await self._write(
                [(key, None)],
                lambda: self.face.delete(key, if_version=expected, durability="os"),
                expected,
            )

    async def count(self) -> None:
        """Add 1 to a number, by compare-and-set; try again when another was first."""
        key = self.source.choice(COUNTERS)
        for _ in range(50):
            found = await self._get(key)
            number = int(tag_of(found[1]).split("#")[1]) + 1 if found else 1
            tag, expected = f"{self.record.tag()}#{number}", found[0] if found else 0
            if await self._write(
                [(key, tag)],
                lambda tag=tag, expected=expected: self.face.put(  # type: ignore[misc]
                    key, value_of(tag), if_version=expected, durability="os"
                ),
                expected,
            ):
                return

    async def triple(self) -> None:
        """Give three keys the same value."""
        tag, level = self.record.tag(), self._durability()
        value = value_of(tag)
        await self._write(
            [(key, tag) for key in TRIPLE],
            lambda: self.face.batch([(key, value) for key in TRIPLE], level),
        )

    async def batch(self) -> None:
        """Put and delete some keys at once."""
        tag, level = self.record.tag(), self._durability()
        keys = self.source.sample(KEYS, self.source.choice([2, 3, 8]))
        changes = [(key, tag if self.source.random() < 0.7 else None) for key in keys]
        pairs = [(key, None if tag is None else value_of(tag)) for key, tag in changes]
        await self._write(changes, lambda: self.face.batch(pairs, level))

    async def add(self) -> None:
        """Increment a number."""
        key = self.source.choice(NUMBERS)
        self.record.began("add", key=key)
        self.record.ended(total=await self.face.add(key))  # type: ignore[attr-defined]

    # -- reads

    async def _get(self, key: str) -> Any:
        self.record.began("read", keys=[key])
        found = await self.face.get(key)
        self.record.ended(found=[found and (found[0], tag_of(found[1]))])
        return found

    async def get(self) -> None:
        """Get one key."""
        await self._get(self.source.choice([*KEYS, *TRIPLE, *COUNTERS]))

    async def get_triple(self) -> None:
        """Get three keys that are written together, at one moment."""
        self.record.began("read", keys=TRIPLE, same=True)
        values = await self.face.get_many(TRIPLE)
        self.record.ended(found=[value and (0, tag_of(value)) for value in values])

    async def get_many(self) -> None:
        """Get some keys."""
        keys = self.source.sample(KEYS, 4)
        self.record.began("read", keys=keys)
        values = await self.face.get_many(keys)
        self.record.ended(found=[value and (0, tag_of(value)) for value in values])

    async def scan(self) -> None:
        """Read all keys of a kind in their order."""
        keys = self.source.choice([TRIPLE, COUNTERS, KEYS[:6], KEYS])
        prefix = keys[0][0] if keys != KEYS[:6] else keys[0][:2]
        self.record.began("read", keys=keys, same=keys is TRIPLE)
        found = await self.face.scan(prefix)
        assert list(found) == sorted(found)
        assert set(found) <= set(keys), found.keys()
        seen = [found.get(key) for key in keys]
        self.record.ended(found=[one and (one[0], tag_of(one[1])) for one in seen])

    async def version(self) -> None:
        """Ask how far the store is."""
        self.record.began("version")
        self.record.ended(version=await self.face.version())

    async def tail(self) -> None:
        """Read what was changed of late."""
        after = max(await self.face.version() - self.source.randrange(300), 0)
        self.record.began("tail", after=after)
        try:
            changes = await self.face.tail(after)
        except LogCompacted:
            self.record.ended(changes=None)
            return
        self.record.ended(
            changes=[
                (version, key, None if value is None else tag_of(value))
                for version, key, value in changes
                if key not in NUMBERS
            ]
        )

    async def job(self) -> None:
        """Do something that one must not notice."""
        name = self.source.choice(self.jobs)
        self.record.began("job", name=name)
        await self.face.job(name)
        self.record.ended()


class Worker:
    """All actors of one process."""

    def __init__(self, path: str, name: str, seed: int, shared: Any, slot: int) -> None:
        self.path, self.name, self.seed = path, name, seed
        self.shared, self.slot = shared, slot
        self.source = random.Random(seed)
        self.left = self.source.choice([30, 300, *[1 << 60] * 5])  # calls of each actor

    def run(
        self, kinds: tuple[str, ...], threads: int, options: dict[str, Any], face: StoreFace | None
    ) -> None:
        """Work until it is time to end, and close; `face`: opened before the fork."""
        count = self.source.randrange(threads) + 1
        if face is None:
            face = open_face(self.source.choice(kinds), self.path, **options)
        if isinstance(face, AioFace):
            asyncio.run(self.run_tasks(face, count))
            return
        runners = [
            threading.Thread(target=self.run_thread, args=(face, number)) for number in range(count)
        ]
        for runner in runners:
            runner.start()
        for runner in runners:
            runner.join()
        asyncio.run(face.close())

    async def run_tasks(self, face: StoreFace, count: int) -> None:
        """Run some tasks in one event loop."""
        await face.start()
        await asyncio.gather(*(self.work(face, number) for number in range(count)))
        await face.close()

    def run_thread(self, face: StoreFace, number: int) -> None:
        """Run in a thread of its own; an error ends the process."""
        try:
            asyncio.run(self.work(face, number))
        except BaseException:  # noqa: BLE001
            fail(self.path)

    async def work(self, face: StoreFace, number: int) -> None:
        """Call and call."""
        record = Recorder(f"{self.path}.{self.name}-{number}.calls")
        actor = Actor(face, record, self.seed * 10 + number)
        done = 0
        while done < self.left and not self.shared[0]:
            await actor.act()
            done += 1
            self.shared[self.slot] = (self.shared[self.slot] + 1) % 256


def fail(path: str) -> None:
    """Write down the error, and end the process."""
    text = traceback.format_exc()
    with open(f"{path}.error", "a") as file:
        file.write(f"pid {os.getpid()}:\n{text}\n")
    sys.stderr.write(text)
    os._exit(1)


def run_worker(*args: Any, **kwargs: Any) -> None:
    """Run a worker in this process, which ends with it."""
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        Worker(*args).run(**kwargs)
    except BaseException:  # noqa: BLE001
        fail(args[0])
    os._exit(0)
