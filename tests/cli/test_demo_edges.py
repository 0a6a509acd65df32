"""The demo of edges: it ends by itself, checks what it claims, and leaves nothing."""

import os
import pty
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from kvengine import Database, Edge
from kvengine.cli.demos import demo_edges, demo_places
from kvengine.cli.demos.demo_places import KEY, Place, Way
from kvengine.errors import UpstreamUnavailable


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which temporary folders are made."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


def test_the_demo_in_plain_lines(run, temporary: Path) -> None:
    before = threading.active_count()
    result = run("demo", "--seconds", "4")
    assert result.exit_code == 0, result.output
    said = result.stdout
    assert re.search(r"\w+ writes 'on', version \d+", said)
    assert re.search(r"7 of 7 edges see it, after [\d.]+ ms at the most", said)
    assert "gru is cut off. It keeps what it has, for 1.2 s." in said
    assert "gru is cut off, and refuses to answer" in said
    assert "gru is connected again." in said
    assert re.search(r"15 changes, at the other edges after [\d.]+ ms \(p50\)", said)
    assert "5 checks held, 0 failed" in said
    assert "\x1b" not in said
    assert list(temporary.iterdir()) == []
    assert threading.active_count() == before


def test_the_demo_on_a_terminal_is_a_table(environment: dict[str, str], tmp_path: Path) -> None:
    pytest.importorskip("rich")
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "kvengine", "demo", "--seconds", "4"],
        stdout=theirs,
        stderr=subprocess.DEVNULL,
        cwd=tmp_path,
        env={**environment, "TERM": "xterm-256color", "COLUMNS": "140", "LINES": "40"},
    ) as demo:
        os.close(theirs)
        shown = b""
        while True:
            try:
                shown += os.read(ours, 65536)
            except OSError:  # the demo has ended
                break
    os.close(ours)
    assert demo.returncode == 0
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.decode())
    assert text.count("edge") > 10
    assert "cut off, shows what it has" in text
    assert "5 checks held, 0 failed" in text


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_demo_leaves_nothing(
    temporary: Path, environment: dict[str, str], number: int, code: int
) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "kvengine", "demo"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**environment, "TMPDIR": str(temporary)},
    ) as demo:
        assert demo.stdout is not None
        demo.stdout.readline()
        demo.send_signal(number)
        _, messages = demo.communicate()
    assert demo.returncode == code
    assert b"Traceback" not in messages
    assert list(temporary.iterdir()) == []


def test_options_of_the_store_do_not_go_with_edges(run, tmp_path: Path) -> None:
    for options in (("--from", str(tmp_path)), ("--keep", str(tmp_path / "kept"))):
        assert run("demo", "edges", *options).exit_code == 2
    assert run("demo", "--seconds", "1").exit_code == 2
    assert run("demo", "nothing").exit_code == 2


def test_an_edge_that_never_comes_back_fails_the_demo(
    run, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo_places.Demo, "heal", lambda self: None)
    for module in (demo_edges, demo_places):
        monkeypatch.setattr(module, "COME_S", 0.5)
    result = run("demo", "--seconds", "4")
    assert result.exit_code == 1
    assert "FAILED  gru shows the newest value again" in result.stdout
    assert list(temporary.iterdir()) == []


def test_a_way_that_is_cut_carries_nothing() -> None:
    with Database.in_memory() as db, Edge(db, "region") as region:
        db.namespace("flags").put(KEY, "off")
        place = Place(region, "x")
        try:
            while place.shown is None:
                time.sleep(0.001)
            place.edge.way.is_cut = True
            db.namespace("flags").put("other", "1")
            with pytest.raises(UpstreamUnavailable):
                place.flags.get("other")
            place.edge.way.is_cut = False
            assert place.flags.get("other") == "1"
        finally:
            place.close()


def test_an_answer_that_was_under_way_is_lost() -> None:
    class Slow:
        def origin_version(self, done) -> None:
            self.done = done

    slow = Slow()
    way, results = Way(slow), []
    way.origin_version(results.append)
    way.is_cut = True
    slow.done(5)
    assert [type(result) for result in results] == [UpstreamUnavailable]
