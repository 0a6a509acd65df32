"""Two Jupyter kernels on one database, each of which opens it twice, as notebooks do."""

import json

import pytest

import kvengine
from tests.processes.servers.serving import PATIENCE_S, environment

pytest.importorskip("ipykernel")
pytest.importorskip("jupyter_client")
VISITS = 100
pytestmark = pytest.mark.filterwarnings("default")  # of pyzmq, tornado and jupyter_client

OPEN = "import json, os, kvengine; db = kvengine.open({path!r}); kv = db.namespace('counters')"
VISIT = f"values = [kv.increment('visits') for _ in range({VISITS})]"
SHOW = "print(json.dumps([os.getpid(), values]))"


@pytest.fixture
def kernels(tmp_path):
    from jupyter_client.manager import start_new_kernel

    own = environment(tmp_path / "db") | {"IPYTHONDIR": str(tmp_path / "ipython")}
    started = [start_new_kernel(env=own, cwd=str(tmp_path)) for _ in range(2)]
    yield [client for _, client in started]
    for manager, client in started:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def result_of(client, asked):
    """Return what a cell printed."""
    printed = ""
    while True:
        message = client.get_iopub_msg(timeout=PATIENCE_S)
        if message["parent_header"].get("msg_id") != asked:
            continue
        content = message["content"]
        assert message["msg_type"] != "error", "\n".join(content["traceback"])
        if message["msg_type"] == "stream":
            printed += content["text"]
        if message["msg_type"] == "status" and content["execution_state"] == "idle":
            return printed


def run(clients, code):
    """Run a cell in all kernels at the same time; return what each printed."""
    asked = [client.execute(code) for client in clients]
    return [result_of(client, one) for client, one in zip(clients, asked, strict=True)]


def test_two_notebooks_count(kernels, tmp_path):
    path = str(tmp_path / "db")
    run(kernels, OPEN.format(path=path))
    run(kernels, OPEN.format(path=path))  # the cell is run again
    run(kernels, VISIT)
    shown = [json.loads(text) for text in run(kernels, SHOW)]
    values = [value for _, several in shown for value in several]
    assert sorted(values) == list(range(1, 2 * VISITS + 1))
    assert len({pid for pid, _ in shown}) == 2
    assert run(kernels, "print(kv.get('visits'))") == [f"{2 * VISITS}\n"] * 2
    with kvengine.open(path) as db:  # a third one, while both are alive
        assert db.namespace("counters").increment("visits") == 2 * VISITS + 1
    assert run(kernels[:1], "print(kv.get('visits'))") == [f"{2 * VISITS + 1}\n"]
