"""A program with a pool of processes: `python -m tests.processes.servers.pool_program METHOD`.

It prints what each task counted, and in which process.
"""

import json
import multiprocessing
import os
import sys
import time

import kvengine

POOL = 4
TASKS = 200
db = kvengine.open(
    os.environ["KVENGINE_TEST_DB"]
)  # in the parent, and again in each process that is spawned
counters = db.namespace("counters")
counters.increment("opened")


def start(everybody):
    """Wait until all processes of the pool have started, so that each gets some tasks."""
    everybody.wait(60)


def visit(_number):
    """Count a visit."""
    time.sleep(0.001)
    return os.getpid(), counters.increment("visits")


if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    with context.Pool(POOL, start, [context.Barrier(POOL)]) as pool:
        running = pool.map_async(visit, range(TASKS), chunksize=1)
        own = [visit(None) for _ in range(TASKS)]
        print(json.dumps([*own, *running.get(60)]))
        pool.close()
        pool.join()
    db.close()
