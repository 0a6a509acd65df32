"""`multiprocessing.Pool`: processes that are spawned or forked write, and so does their parent."""

import json

import pytest

import kvengine
from tests.processes.servers.serving import program


@pytest.mark.parametrize("method", ["spawn", "fork", "forkserver"])
def test_all_processes_of_a_pool_write(tmp_path, method):
    printed = program(tmp_path / "db", "tests.processes.servers.pool_program", method)
    answers = json.loads(printed)
    assert sorted(value for _, value in answers) == list(range(1, 401))
    assert len({pid for pid, _ in answers}) == 5
    with kvengine.open(tmp_path / "db", read_only=True) as db:
        counters = db.namespace("counters")
        assert counters.get("visits") == "400"
        if method != "forkserver":  # some versions of Python import the program before they fork
            assert counters.get("opened") == {"spawn": "5", "fork": "1"}[method]
