"""How tests run a coroutine on a database in memory."""

import asyncio

import kvengine.aio
from kvengine.testing.clock import ManualClock


def run(test):
    """Run a coroutine function that takes a database in memory."""

    async def main():
        async with kvengine.aio.Database.in_memory(clock=ManualClock(1000.0)) as db:
            return await test(db)

    return asyncio.run(main())
