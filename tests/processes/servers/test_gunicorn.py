"""gunicorn with four workers: each writes, whether it opened the database itself or was forked."""

import os
import signal
import sys

import pytest

from tests.processes.servers.serving import Crowd, Service, check, everybody

pytest.importorskip("gunicorn")
WORKERS = 4
VISITS = 200


def gunicorn(folder, *arguments):
    return Service(
        folder,
        [
            *(sys.executable, "-m", "gunicorn", "--no-control-socket"),
            *("--workers", str(WORKERS), "--bind", "unix:{socket}", "--graceful-timeout", "30"),
            *(*arguments, "tests.processes.servers.wsgi_service:application"),
        ],
    )


@pytest.mark.parametrize("preload", [[], ["--preload"]], ids=["import", "preload"])
@pytest.mark.parametrize(
    "kind", [["sync"], ["gthread", "--threads", "4"], ["gevent"]], ids=lambda kind: kind[0]
)
def test_every_worker_counts_and_keeps_sessions(tmp_path, kind, preload):
    if kind[0] == "gevent":
        pytest.importorskip("gevent")
    with gunicorn(tmp_path, "--worker-class", *kind, *preload) as service:
        crowd = Crowd(service).visit(VISITS, everybody(WORKERS))
        assert "Traceback" not in service.log(), service.log()
    assert service.process.returncode == 0, service.log()
    check(service.db, crowd)


@pytest.mark.parametrize("preload", [[], ["--preload"]], ids=["import", "preload"])
def test_workers_that_end_after_some_requests(tmp_path, preload):
    with gunicorn(tmp_path, "--max-requests", "50", *preload) as service:
        crowd = Crowd(service).visit(VISITS, everybody(2 * WORKERS))
    check(service.db, crowd)


@pytest.mark.parametrize("preload", [[], ["--preload"]], ids=["import", "preload"])
def test_reload_while_requests_come(tmp_path, preload):
    with gunicorn(tmp_path, "--worker-class", "gthread", "--threads", "2", *preload) as service:
        crowd = Crowd(service).visit(VISITS, everybody(WORKERS))
        for _ in range(2):
            earlier = set(crowd.pids)
            os.kill(service.process.pid, signal.SIGHUP)
            crowd.visit(
                VISITS, lambda crowd, before=earlier: len({*crowd.pids} - before) >= WORKERS
            )
    assert service.process.returncode == 0, service.log()
    check(service.db, crowd)


def test_workers_that_are_killed(tmp_path):
    """A worker is killed at any moment; the others go on, and the master starts another one."""
    with gunicorn(tmp_path, "--preload") as service:
        crowd = Crowd(service).visit(VISITS, everybody(WORKERS))
        for _ in range(3):
            earlier = set(crowd.pids)

            def kill_one(crowd, before=earlier, killed=[]):  # noqa: B006 - one list a round
                if not killed:
                    killed.append(crowd.pids[-1])
                    os.kill(killed[0], signal.SIGKILL)
                return {*crowd.pids} - before

            crowd.visit(VISITS, kill_one)
    check(service.db, crowd)
