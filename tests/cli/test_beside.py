"""Commands beside a service: a process that has the store open, reads it and writes all the time.

Invariants:

* what a command writes is seen by the service at once, and the other way round;
* neither disturbs the other, whatever the command does to the files.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import kvengine

KEYS = 2000

# It answers each line of its input with what that expression gives, and increments meanwhile.
SERVICE = """
import sys, threading, kvengine
with kvengine.open(sys.argv[1], durability="os", segment_bytes=65536) as db:
    kv = db.namespace("service")
    kv.put_many({f"key {n:04}": "x" * 100 for n in range(int(sys.argv[2]))})
    ended, failed, counted = threading.Event(), [], 0
    def count():
        global counted
        try:
            while not ended.is_set():
                counted = kv.increment("counter")
        except BaseException as error:
            failed.append(error)
    thread = threading.Thread(target=count)
    thread.start()
    print("ready", flush=True)
    for line in sys.stdin:
        print(repr(eval(line)), flush=True)
    ended.set()
    thread.join()
    assert not failed, failed
    assert kv.get("counter") == str(counted)
"""


class Service:
    """The process that has the database open."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def ask(self, expression: str) -> Any:
        """Return what an expression gives in the service."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(expression, file=self._process.stdin, flush=True)
        return eval(self._process.stdout.readline())  # what the test itself made


@pytest.fixture
def service(data: str, environment: dict[str, str]) -> Iterator[Service]:
    """A service, which must end well."""
    with subprocess.Popen(
        [sys.executable, "-c", SERVICE, data, str(KEYS)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield Service(process)
            process.communicate()
        finally:
            process.kill()
    assert process.returncode == 0


def test_what_a_command_writes_is_there_at_once(process, service: Service) -> None:
    where = ("--namespace", "service")
    assert process("key", "put", *where, "from", "cron").returncode == 0
    assert service.ask("kv.get('from')") == "cron"
    assert process("key", "delete", *where, "from").returncode == 0
    assert service.ask("kv.get('from')") is None
    pairs = json.dumps([{"key": f"bulk {n}", "value": str(n)} for n in range(50)]).encode()
    assert process("bulk", "put", *where, "-", stdin=pairs).returncode == 0
    assert service.ask("kv.get('bulk 49')") == "49"
    assert service.ask("kv.count()") == KEYS + 50 + 1
    assert service.ask("kv.put('for', 'cron')") > 0
    assert process("key", "get", *where, "for").stdout == b"cron"


def test_namespaces_come_and_go(process, service: Service) -> None:
    assert process("namespace", "create", "cron").returncode == 0
    assert service.ask("db.namespace('cron').put('a', '1')") > 0
    assert process("key", "get", "--namespace", "cron", "a").stdout == b"1"
    assert process("namespace", "delete", "cron", "-y").returncode == 0
    assert service.ask("[one.title for one in db.namespaces()]") == ["service"]


def test_maintenance(process, service: Service, data: str, tmp_path: Path) -> None:
    """Compaction, a backup and figures of a store in use, more than once."""
    for turn in range(2):
        overwritten = service.ask(
            f"kv.put_many({{f'key {{n:04}}': '{turn}' * 100 for n in range({KEYS})}}) and None"
        )
        assert overwritten is None
        assert process("compact").returncode == 0
        target = tmp_path / f"backup {turn}"
        done = process("backup", str(target), "--json")
        assert done.returncode == 0, done.stderr
        stats = json.loads(process("stats", "--json").stdout)
        assert stats["version"] >= json.loads(done.stdout)["version"]
        with kvengine.open(target) as copy:
            kv = copy.namespace("service")
            assert kv.get("key 0042") == str(turn) * 100
            assert int(kv.get("counter")) > 0
        assert process("verify", str(target)).returncode == 0
        assert service.ask("kv.get('key 1999')") == str(turn) * 100
    assert process("verify", data).returncode == 0


def test_a_plain_store(process, data: str, holder_pid: int) -> None:
    done = process("put", "key", "value", "--json")
    version = json.loads(done.stdout)["version"]
    assert process("put", "key", "other", "--if-version", str(version + 1)).returncode == 4
    assert process("put", "key", "other", "--if-version", str(version)).returncode == 0
    assert process("get", "key").stdout == b"other"
    assert process("compact").returncode == 0
    assert process("delete", "key").returncode == 0
    assert process("get", "key").returncode == 3
    assert json.loads(process("stats", "--json").stdout)["keys"] == 0
