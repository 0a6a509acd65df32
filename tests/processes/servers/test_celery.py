"""A Celery worker with a prefork pool: the database was opened before it forked."""

import signal
import subprocess
import sys

import pytest

import kvengine
from tests.processes.servers.serving import PATIENCE_S, ROOT, environment, program
from tests.waiting import until

pytest.importorskip("celery")
TASKS = 120
POOL = 4


def test_every_process_of_the_pool_writes(tmp_path):
    def done():
        assert worker.poll() is None, (tmp_path / "log").read_text()
        return results.count() == TASKS

    arguments = ("-A", "tests.processes.servers.celery_tasks", "worker", "--pool", "prefork", "-c")
    command = [sys.executable, "-m", "celery", *arguments, str(POOL), "--without-mingle"]
    with (
        kvengine.open(tmp_path / "db") as db,  # this process writes beside them
        (tmp_path / "log").open("wb") as log,
        subprocess.Popen(
            command, cwd=ROOT, stdout=log, stderr=log, env=environment(tmp_path / "db")
        ) as worker,
    ):
        try:
            counters, results = db.namespace("counters"), db.namespace("results")
            program(tmp_path / "db", "tests.processes.servers.celery_tasks", TASKS)
            own = [counters.increment("visits") for _ in range(50)]
            until(done, "not all tasks were done")
        finally:
            worker.send_signal(signal.SIGTERM)
            worker.wait(PATIENCE_S)
        found = [results.get(str(number), "json") for number in range(TASKS)]
        values = own + [result["value"] for result in found]
        assert sorted(values) == list(range(1, TASKS + 51))
        assert len({result["pid"] for result in found}) == POOL
        assert counters.get("visits") == str(TASKS + 50)
