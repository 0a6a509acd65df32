"""How processes begin and end: what they run, what they remove, and that none outlives the rest."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from threading import Thread

import httpx
import pytest

import kvengine
from kvengine.file.child import python_running
from kvengine.server.http.listening import Listener, unix_socket
from kvengine.server.settings import ServerSettings
from tests.server.processes import HEADERS, children, serving, values_of, wait_for

HOSTILE = "import os; open(os.environ['HOSTILE'], 'a').write(__name__ + chr(10))\n"
ROOT = Path(kvengine.__file__).parents[1]


def hostile(folder: Path, *names: str) -> dict[str, str]:
    """Make modules in a folder that leave a note when they are imported; return the environment."""
    for name in names:
        (folder / f"{name}.py").write_text(HOSTILE)
    return {"HOSTILE": str(folder / "note")}


# -- what is killed


def test_who_is_killed_before_it_listens_is_started_again(tmp_path: Path) -> None:
    """Whoever kills processes, such as a system out of memory, also kills those that start."""
    with serving(tmp_path / "data", "--workers", "1", "--limits", "relaxed") as server:
        server.wait_until_ready()
        place = server.url + values_of(server) + "/k"
        known: set[int] = set()

        def new() -> set[int]:
            return set(children(server.process.pid)) - known

        for _ in range(3):
            wait_for(lambda: bool(new()))
            for pid in new():
                os.kill(pid, signal.SIGKILL)
                known.add(pid)
        wait_for(
            lambda: httpx.put(place, headers=HEADERS, content=b"v", timeout=30).status_code == 200
        )
        assert server.stop() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("listens", [False, True])
def test_an_edge_that_waits_for_its_primary_says_so_and_can_be_stopped(
    tmp_path: Path, number: int, listens: bool
) -> None:
    """Nobody listens where its primary should be, or somebody who hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as primary, ExitStack() as stack:
        url = f"http://127.0.0.1:{primary.getsockname()[1]}"
        if listens:
            stack.callback(primary.shutdown, socket.SHUT_RDWR)
            Thread(target=hang_up, args=(primary,), daemon=True).start()
        else:
            primary.close()
        server = stack.enter_context(serving(tmp_path / "copies", "--upstream", url))
        assert server.process.stderr is not None
        while "waiting for the primary" not in (said := server.process.stderr.readline()):
            assert said, "it has ended"
        assert url in said
        assert server.stop(number) == 0


def hang_up(listener: socket.socket) -> None:
    """Close what comes to a socket, until it is shut down."""
    with suppress(OSError):
        while True:
            listener.accept()[0].close()


# -- what is run


def test_nothing_is_run_from_the_current_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "here"
    folder.mkdir()
    note = hostile(folder, "uvloop", "uvicorn", "httpx", "json", "kvengine", "sitecustomize2")
    monkeypatch.chdir(folder)
    start = [sys.executable, "-P", "-m", "kvengine", "serve"]
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    with serving(tmp_path / "data", "--workers", "1", start=start, **note) as server:
        server.wait_until_ready()
        assert httpx.get(f"{server.url}/ready").status_code == 200
        assert server.stop() == 0
    assert not (folder / "note").exists()


def test_modules_beside_the_package_hide_nothing(tmp_path: Path) -> None:
    """A child finds the package that its parent runs, though no path names it."""
    command = python_running("kvengine.server.worker")
    assert command[1] == "-P"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, input="{}\n", capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip
    assert "KeyError: 'settings'" in done.stderr  # it ran, and had no order


# -- what is removed


def test_a_file_at_the_place_of_the_socket_stays(tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("data")
    link = tmp_path / "link"
    link.symlink_to(path)
    for place in (path, link, tmp_path):
        with serving(tmp_path / "data", "--unix-socket", str(place)) as server:
            _, said = server.process.communicate(timeout=60)
            assert server.process.returncode == 5
            assert "is not a socket; remove it or use another" in said
    assert path.read_text() == "data"
    assert link.is_symlink()


@pytest.mark.parametrize("workers", ["0", "1"])
def test_only_the_own_socket_is_removed(tmp_path: Path, workers: str) -> None:
    path = tmp_path / "socket"
    options = ("--unix-socket", str(path), "--workers", workers)
    with serving(tmp_path / "data", *options) as server:
        server.wait_until_ready()
        path.unlink()
        path.write_text("somebody else's")
        assert server.stop() == 0
    assert path.read_text() == "somebody else's"
    path.unlink()
    with serving(tmp_path / "data", *options) as server:
        server.wait_until_ready()
        path.unlink()
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(str(path))
            assert server.stop() == 0
            assert path.is_socket()


def test_the_socket_is_removed_by_the_program_that_took_over(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with serving(tmp_path / "data", "--unix-socket", str(path)) as server:
        server.wait_until_ready()
        server.process.send_signal(signal.SIGHUP)
        server.wait_until_ready()
        assert path.is_socket()
        assert server.stop() == 0
    assert not path.exists()


def test_a_start_that_fails_leaves_no_socket(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with (
        kvengine.open(tmp_path / "data", exclusive=True),
        serving(tmp_path / "data", "--unix-socket", str(path)) as server,
    ):
        server.process.communicate(timeout=60)
        assert server.process.returncode == 5
    assert not path.exists()


def test_a_socket_with_a_full_queue_is_somebody_s(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as busy, socket.socket(socket.AF_UNIX) as waiting:
        busy.bind(path)
        busy.listen(0)
        waiting.connect(path)
        with pytest.raises(OSError, match="another process is listening there"):
            unix_socket(path)
    settings = ServerSettings(data="", unix_socket=path)
    Listener(settings).close()  # nobody listens any more
    assert not os.path.lexists(path)


# -- that all end


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("when", [0.0, 0.2, 0.5, None])
def test_processes_end_with_their_supervisor(tmp_path: Path, when: float | None) -> None:
    """kill -9, while they start or later: the port and the lock are free again."""
    data = tmp_path / "data"
    with serving(data, "--workers", "2") as server:
        if when is None:
            server.wait_until_ready()
            values = values_of(server)
            put = httpx.put(f"{server.url}{values}/k", headers=HEADERS, content=b"v")
            assert put.status_code == 200
        else:
            wait_for(lambda: len(children(server.process.pid)) > 0)
            time.sleep(when)
        pids = children(server.process.pid)
        assert pids
        server.process.kill()
        server.process.wait()
        wait_for(lambda: not any(is_alive(pid) for pid in pids))
    with kvengine.open(data) as db:
        assert when is not None or db.namespace("default").get("k") == "v"


@pytest.mark.parametrize("workers", ["0", "1"])
def test_a_storm_of_signals(tmp_path: Path, workers: str) -> None:
    """Starting again and stopping, told many times over, end as if told once."""
    data = tmp_path / "data"
    with serving(data, "--workers", workers, "--limits", "relaxed") as server:
        server.wait_until_ready()
        values = values_of(server)
        with httpx.Client(base_url=server.url, headers=HEADERS, timeout=60) as client:
            for number in range(4):
                for _ in range(5):
                    server.process.send_signal(signal.SIGHUP)
                    time.sleep(0.01)
                assert client.put(f"{values}/k{number}", content=b"v").status_code == 200
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGINT) * 5:
            with suppress(ProcessLookupError):
                server.process.send_signal(number)
            time.sleep(0.01)
        assert server.process.wait(60) == 0
        assert server.process.stderr is not None
        assert "Traceback" not in server.process.stderr.read()
    with kvengine.open(data) as db:
        assert [db.namespace("default").get(f"k{number}") for number in range(4)] == ["v"] * 4


# -- whose folder goes away


@pytest.mark.parametrize("workers", ["0", "1"])
def test_ready_looks_at_the_folder(tmp_path: Path, workers: str) -> None:
    """Also before anybody writes, or reads."""
    data, away = tmp_path / "data", tmp_path / "away"
    with serving(data, "--workers", workers) as server:
        server.wait_until_ready()
        assert httpx.get(f"{server.url}/ready").json() == {"ready": True}
        data.rename(away)
        found = httpx.get(f"{server.url}/ready")  # it goes on; but a restart would begin anew
        assert found.status_code == 200
        assert "moved away" in found.json()["warning"]
        (away / "CONTROL").unlink()
        wait_for(lambda: httpx.get(f"{server.url}/ready").status_code == 503)
        assert httpx.get(f"{server.url}/health").status_code == 200
