"""A process that waits for writes of another one, in one of the ways there are.

Invariants: it says "ready" when it would miss nothing any more, then a line for each write: when it
heard of it, by the monotonic clock, which all processes share, and the number that was written.
"""

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import Callable, Generator, Iterator
from itertools import islice
from time import perf_counter_ns
from typing import Any

import kvengine
import kvengine.aio
from benchmarks.processes.wakes import KEY, NAMESPACE

LOOK_S = 0.0001  # between two reads at an edge
Heard = tuple[int, Any]


def wait(db: kvengine.Database) -> Generator[Heard, None, None]:
    """By the version of the store."""
    kv, version = db.namespace(NAMESPACE), db.store.version
    ready()
    while True:
        version = db.store.wait(version)
        yield perf_counter_ns(), kv.get(KEY)


def tail(db: kvengine.Database) -> Generator[Heard, None, None]:
    """By the log of the database."""
    return each(db.tail(db.version, follow=True))


def watch(db: kvengine.Database) -> Generator[Heard, None, None]:
    """By the changes of a namespace."""
    return each(db.namespace(NAMESPACE).watch())


def consumer(db: kvengine.Database) -> Generator[Heard, None, None]:
    """Under a name, which keeps its position."""
    named = db.consumer("bench")
    list(named.changes())
    named.acknowledge(db.version)
    return each(named.changes(follow=True))


def each(changes: Iterator[Any]) -> Generator[Heard, None, None]:
    """Say when each change comes."""
    ready()
    for change in changes:
        yield perf_counter_ns(), change.value


def edge(db: kvengine.Database) -> Generator[Heard, None, None]:
    """By reading at an edge again and again until it shows another value."""
    with kvengine.Edge(db) as edge:
        kv = edge.namespace(NAMESPACE)
        before = kv.get(KEY)
        ready()
        while True:
            value = kv.get(KEY)
            if value != before:
                yield perf_counter_ns(), value
                before = value
            time.sleep(LOOK_S)


async def watch_in_a_loop(path: str, count: int) -> None:
    """By the changes of a namespace, as a task."""
    async with kvengine.aio.open(path, durability="os") as db:
        kv = await db.namespace(NAMESPACE)
        async with contextlib.aclosing(kv.watch(after=db.version)) as changes:
            ready()
            async for change in changes:
                say((perf_counter_ns(), change.value))
                count -= 1
                if count == 0:
                    break


WAYS: dict[str, Callable[[kvengine.Database], Generator[Heard, None, None]]] = {
    "wait": wait,
    "tail": tail,
    "watch": watch,
    "consumer": consumer,
    "edge": edge,
}


def ready() -> None:
    """Tell that no write would be missed."""
    print("ready", flush=True)


def say(heard: Heard) -> None:
    """Tell of one that was heard of."""
    when, value = heard
    print(json.dumps([when, int(value)]), flush=True)


def main() -> None:
    """Do what the first argument says."""
    task = json.loads(sys.argv[1])
    path, count = task["path"], task["count"]
    if task["way"] == "asyncio watch":
        asyncio.run(watch_in_a_loop(path, count))
        return
    with (
        kvengine.open(path, durability="os") as db,
        contextlib.closing(WAYS[task["way"]](db)) as found,
    ):
        for heard in islice(found, count):
            say(heard)


if __name__ == "__main__":
    main()
