"""Uvicorn stays as it is for other applications in the process."""

import subprocess
import sys
import threading
import time
from typing import Any

import httpx
import uvicorn

from tests.server.running import Running

CHECK = """
from uvicorn.protocols.http import httptools_impl as module
before, lines = dict(vars(module)), dict(module.STATUS_LINE)
classes = {name: dict(vars(value)) for name, value in before.items() if isinstance(value, type)}
import kvengine.server.main, kvengine.server.serving, kvengine.server.supervisor
assert dict(vars(module)) == before
assert module.STATUS_LINE == lines
assert classes == {name: dict(vars(before[name])) for name in classes}
"""


def test_importing_the_server_changes_nothing() -> None:
    subprocess.run([sys.executable, "-c", CHECK], check=True, timeout=60)


async def application(scope: Any, receive: Any, send: Any) -> None:
    start = {"type": "http.response.start", "status": 404, "headers": [], "reason": "Of its own"}
    await send(start)
    await send({"type": "http.response.body", "body": scope["path"].encode()})


def test_another_application_beside_the_server(server: Running) -> None:
    config = uvicorn.Config(application, port=0, http="httptools", lifespan="off", log_config=None)
    other = uvicorn.Server(config)
    thread = threading.Thread(target=other.run)
    thread.start()
    try:
        while not other.started:
            time.sleep(0.01)
        port = other.servers[0].sockets[0].getsockname()[1]
        path = f"/accounts/x/namespaces/{'0' * 32}/values/a"
        for _ in range(2):
            assert server.http.get(path).status_code == 404
            found = httpx.get(f"http://127.0.0.1:{port}{path}")
            assert (found.status_code, found.reason_phrase) == (404, "Not Found")
            assert found.text == path
    finally:
        other.should_exit = True
        thread.join()
