"""The command line beside a service that writes: what a cron job or an administrator runs."""

import sys

import pytest

import kvengine
from tests.processes.servers.serving import Crowd, Service, check, everybody, program

pytest.importorskip("gunicorn")


def run(*arguments):
    return program("", "kvengine", *arguments)


@pytest.fixture
def service(tmp_path):
    command = [
        *(sys.executable, "-m", "gunicorn", "--no-control-socket", "--workers", "2"),
        *("--bind", "unix:{socket}", "tests.processes.servers.wsgi_service:application"),
    ]
    with Service(tmp_path, command) as service:
        yield service


def test_commands_beside_a_service(service, tmp_path):
    """Each is run while visitors count; the service sees at once what it wrote."""
    place = ("--data", service.db, "--namespace", "settings")
    crowd = Crowd(service)

    def put():
        run("key", "put", *place, "color", f"shade-{len(crowd.values)}")
        shown = run("key", "get", *place, "--text", "color").strip()
        assert {service.ask("/setting/color")["value"] for _ in range(10)} == {shown}

    def bulk():
        (tmp_path / "pairs.json").write_text('[{"key": "size", "value": "12"}]')
        run("bulk", "put", *place, tmp_path / "pairs.json")
        assert service.ask("/setting/size")["value"] == "12"

    def look_after():
        run("compact", "--data", service.db)
        run("stats", "--data", service.db)
        run("backup", "--data", service.db, tmp_path / "backup")

    crowd.visit(20, everybody(2))
    for step in (put, bulk, look_after, put):
        crowd.visit(20, once(step))
    assert "Traceback" not in service.log()
    check(service.db, crowd)
    with kvengine.open(tmp_path / "backup") as copy:
        saved = int(copy.namespace("counters").get("visits"))
        assert 20 <= saved <= len(crowd.values)
        assert copy.namespace("counters").increment("visits") == saved + 1


def once(step):
    """Return a condition that does a step the first time it is asked."""
    done = []

    def condition(_crowd):
        if not done:
            done.append(step())
        return True

    return condition


def test_put_beside_a_store_that_is_open(tmp_path):
    with kvengine.Store(tmp_path / "store") as store:
        for number in range(3):
            run("put", "--data", tmp_path / "store", "key", f"cron {number}")
            assert store.get(b"key") == b"cron %d" % number
            version = store.put(b"own", b"%d" % number)
            assert run("get", "--data", tmp_path / "store", "own") == str(number)
            assert version == 2 * number + 2
        run("compact", "--data", tmp_path / "store")
        assert store.get(b"key") == b"cron 2"
        store.put(b"own", b"last")
    with kvengine.Store(tmp_path / "store") as store:
        assert store.get(b"own") == b"last"
