"""`uvicorn --workers 4`: processes that are started anew, each with the async database open."""

import os
import signal
import sys

import pytest

from tests.processes.servers.serving import Crowd, Service, check, everybody

pytest.importorskip("uvicorn")
WORKERS = 4
VISITS = 300


def uvicorn(folder, application):
    return Service(
        folder,
        [
            *(sys.executable, "-m", "uvicorn", "--workers", str(WORKERS)),
            *("--uds", "{socket}", application),
        ],
    )


def test_every_worker_counts_and_keeps_sessions(tmp_path):
    with uvicorn(tmp_path, "tests.processes.servers.asgi_service:application") as service:
        crowd = Crowd(service).visit(VISITS, everybody(WORKERS))
        assert "Traceback" not in service.log(), service.log()
    check(service.db, crowd)


def test_a_worker_that_is_killed_is_replaced(tmp_path):
    with uvicorn(tmp_path, "tests.processes.servers.asgi_service:application") as service:
        crowd = Crowd(service).visit(VISITS, everybody(WORKERS))
        earlier = set(crowd.pids)
        os.kill(crowd.pids[-1], signal.SIGKILL)
        crowd.visit(VISITS, lambda crowd: set(crowd.pids) - earlier)
    check(service.db, crowd)
