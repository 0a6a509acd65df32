"""uWSGI forks its workers after the application was imported, or with `lazy-apps` before."""

import shutil
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.processes.servers.serving import Crowd, Service, check, everybody

UWSGI = shutil.which("uwsgi", path=sysconfig.get_path("scripts"))
WORKERS = 4
VISITS = 200

pytestmark = pytest.mark.skipif(UWSGI is None, reason="pip install pyuwsgi")


def uwsgi(folder, *arguments):
    return Service(
        folder,
        [
            *(UWSGI, "--http-socket", "{socket}", "--master", "--die-on-term", "--need-app"),
            *("--processes", str(WORKERS), "--home", sys.prefix, "--pythonpath", "."),
            *("--module", "tests.processes.servers.wsgi_service:application", "--disable-logging"),
            *("--enable-threads", *arguments),
        ],
    )


@pytest.mark.parametrize(
    "arguments",
    [[], ["--lazy-apps"], ["--threads", "2"], ["--max-requests", "50"]],
    ids=["forked", "lazy", "threads", "max-requests"],
)
def test_every_worker_counts_and_keeps_sessions(tmp_path, arguments):
    with uwsgi(tmp_path, *arguments) as service:
        crowd = Crowd(service).visit(VISITS, everybody(WORKERS))
        assert "Traceback" not in service.log(), service.log()
    check(service.db, crowd)


def test_reload_while_requests_come(tmp_path):
    """Worker by worker, as `touch-chain-reload` does."""
    with uwsgi(tmp_path, "--lazy-apps", "--touch-chain-reload", "{socket}.reload") as service:
        crowd = Crowd(service).visit(VISITS, everybody(WORKERS))
        Path(f"{service.socket}.reload").touch()
        crowd.visit(VISITS, everybody(2 * WORKERS))
    check(service.db, crowd)
