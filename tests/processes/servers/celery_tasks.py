"""A Celery application whose tasks count; its messages are files in a folder.

`python -m tests.processes.servers.celery_tasks COUNT` sends so many tasks.
"""

import os
import sys
from pathlib import Path

import celery

import kvengine

PATH = os.environ["KVENGINE_TEST_DB"]
MESSAGES = Path(PATH).parent / "messages"
MESSAGES.mkdir(exist_ok=True)

app = celery.Celery(
    "tasks",
    broker="filesystem://",
    broker_transport_options={
        "data_folder_in": str(MESSAGES),
        "data_folder_out": str(MESSAGES),
        "control_folder": str(MESSAGES / "control"),
        "polling_interval": 0.05,  # seconds; else one second passes after every few tasks
    },
)
app.conf.update(worker_prefetch_multiplier=1, task_ignore_result=True)

if "worker" in sys.argv:  # before Celery forks its pool
    db = kvengine.open(PATH)
    counters, results = db.namespace("counters"), db.namespace("results")


@app.task
def visit(number):
    """Count a visit, and keep who counted it."""
    value = counters.increment("visits")
    results.put(str(number), {"pid": os.getpid(), "value": value}, type="json", if_version=0)


if __name__ == "__main__":
    from tests.processes.servers import celery_tasks  # by the name that the worker knows

    for sent in range(int(sys.argv[1])):
        celery_tasks.visit.delay(sent)
