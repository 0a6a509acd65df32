"""``kvengine replay``: the report of a trace, its plots, and what is refused."""

import gzip
import io
import json
import re
import sys
from pathlib import Path

import pytest

from kvengine.cli.replaying.replay_run import Replay
from kvengine.cli.replaying.replay_trace import read_trace
from tests.cli.test_terminal import on_terminal

LINES = [
    "time,op,key,size",
    *(f"{n / 10},{'put' if n % 10 == 0 else 'get'},k{n % 7},{n}" for n in range(400)),
    "40,delete,k1,",
    "40,get,k1,",
]


@pytest.fixture
def trace(tmp_path: Path) -> str:
    """A trace of 402 requests in 40 seconds."""
    path = tmp_path / "trace.csv"
    path.write_text("\n".join(LINES) + "\n")
    return str(path)


def test_the_report(run, trace: str) -> None:
    result = run("replay", trace, "--edges", "4", "--regions", "2")
    assert (result.exit_code, result.stderr.count("Traceback")) == (0, 0)
    assert "402 requests, 7 keys, 89.8 % reads" in result.stdout
    assert re.search(r"^reads +361 \(0 not answered\)$", result.stdout, re.MULTILINE)
    assert re.search(r"^writes +41 \(0 not acknowledged\)$", result.stdout, re.MULTILINE)
    for what in ("hits at edges", "hits at regions", "load of the primary", "stale reads"):
        assert re.search(rf"^{what} +\d", result.stdout, re.MULTILINE)
    assert re.search(
        r"^a change was at an edge after +p50 .* p99 .* max ", result.stdout, re.MULTILINE
    )
    assert re.search(r"^promises broken +0 in 361 reads$", result.stdout, re.MULTILINE)


def test_the_same_seed_gives_the_same_report(run, trace: str) -> None:
    def report(*options: str) -> dict:
        found = json.loads(run("replay", trace, "--json", "--edges", "9", *options).stdout)
        assert found["trace"] == {
            "name": trace, "requests": 402, "keys": 7, "reads": 361, "writes": 40,
        }  # fmt: skip
        return found

    assert report("--seed", "5") == report("--seed", "5")
    assert report("--seed", "5")["latency"] != report("--seed", "6")["latency"]
    assert report()["edges"] == 9


def test_the_figures_add_up(run, trace: str) -> None:
    found = json.loads(run("replay", trace, "--json", "--regions", "0").stdout)
    series = found["series"]
    assert len(series["ends"]) == len(series["hits"]) == 60
    step = series["ends"][1] - series["ends"][0]
    assert sum(rate * step for rate in series["reads_per_s"]) == pytest.approx(361, rel=0.01)
    assert 0 < found["hit_ratio"]["edges"] < 1
    assert found["regions"] == found["hit_ratio"]["regions"] == 0
    assert found["propagation"]["max"] > 0


def test_more_memory_gives_more_hits(run, tmp_path: Path) -> None:
    path = tmp_path / "loop.csv.gz"
    path.write_bytes(gzip.compress(b"".join(b"%d,1000\n" % (n % 100) for n in range(3000))))
    ratios = []
    for memory in ("20kB", "1MB"):
        options = ("--edges", "1", "--regions", "0", "--memory", memory, "--json")
        result = run("replay", str(path), *options)
        ratios.append(json.loads(result.stdout)["hit_ratio"]["edges"])
    assert ratios[0] < 0.5
    assert ratios[1] > 0.9


def test_a_rate_takes_the_place_of_times(run, trace: str) -> None:
    for rate, seconds in (("10", 40.1), ("1000", 0.401)):
        found = json.loads(run("replay", trace, "--json", "--rate", rate).stdout)
        assert found["series"]["ends"][-1] == pytest.approx(2 + seconds, abs=0.2)


def test_values_are_there_before_they_are_read_but_not_before_they_are_written() -> None:
    data = b"0,get,read,5\n0,put,written,6\n1,get,read,7\n2,get,written,\n"
    work = Replay(
        read_trace(io.BytesIO(data), "trace"),
        edges=1, regions=0, seed=0, memory_bytes=1 << 20, value_bytes=9,
    )  # fmt: skip
    store = work.world.primary.store
    assert (len(store.get(b"read")), store.get(b"written")) == (5, None)
    assert work.run().violations == []
    assert (len(store.get(b"read")), len(store.get(b"written"))) == (5, 6)


def test_a_trace_from_standard_input(run, trace: str) -> None:
    read = run("replay", "-", "--json", stdin=Path(trace).read_bytes())
    assert json.loads(read.stdout)["trace"]["requests"] == 402


def test_a_plot_in_text(run, trace: str) -> None:
    pytest.importorskip("plotext")
    shown = run("replay", trace).stdout
    assert "hits, %" in shown
    assert "reads per second" in shown
    assert "\x1b" not in shown


@pytest.mark.parametrize(("name", "begin"), [("a.png", b"\x89PNG"), ("b.svg", b"<?xml")])
def test_a_picture(run, trace: str, tmp_path: Path, name: str, begin: bytes) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / name
    result = run("replay", trace, "--plot", str(path))
    assert result.exit_code == 0, result.output
    assert path.read_bytes().startswith(begin)
    assert f"drawn: {path}" in result.stderr
    assert list(tmp_path.glob("*.part")) == []


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch):
    """Let a library not be there."""

    def hide(name: str) -> None:
        monkeypatch.setitem(sys.modules, name, None)

    return hide


def test_without_plotext_the_report_comes_with_a_hint(run, trace: str, without) -> None:
    without("plotext")
    result = run("replay", trace)
    assert result.exit_code == 0
    assert 'pip install "kvengine[plot]"' in result.stderr
    assert "promises broken" in result.stdout


def test_without_matplotlib_nothing_is_begun(run, trace: str, tmp_path: Path, without) -> None:
    without("matplotlib")
    result = run("replay", trace, "--plot", str(tmp_path / "a.png"))
    assert (result.exit_code, result.stdout) == (1, "")
    assert 'pip install "kvengine[plot]"' in result.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--plot", "a.pdf"), "ends in neither .png nor .svg"),
        (("--plot", "/nowhere/a.png"), "is in no folder that exists"),
        (("--memory", "much"), "'much' is not a size; expected for example 500kB or 8MB"),
        (("--edges", "0"), "0 is not in the range"),
        (("--rate", "0"), "0"),
    ],
)
def test_bad_options_are_refused(run, trace: str, options, said: str) -> None:
    result = run("replay", trace, *options)
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr


def test_bad_traces_are_refused(process, trace: str, tmp_path: Path) -> None:
    with open(trace, "a") as file:
        file.write("41,get\n")
    result = process("replay", trace)
    assert (result.returncode, result.stdout) == (2, b"")
    expected = f"kvengine: {trace}, line 404: expected 4 columns (time, op, key, size), found 2\n"
    assert result.stderr.decode() == expected
    assert process("replay", str(tmp_path / "absent")).returncode == 5
    assert process("replay", str(tmp_path)).returncode == 5


def test_a_broken_promise_gives_exit_code_1(run, trace: str, monkeypatch) -> None:
    from kvengine.edge.node import EdgeNode

    monkeypatch.setattr(EdgeNode, "_apply", lambda *_args: None)
    result = run("replay", trace, "--rate", "3")
    assert result.exit_code == 1
    assert "promises broken" in result.stdout


def test_a_replay_shows_bars(process, trace: str) -> None:
    shown = on_terminal(process, "replay", trace, stream="stderr")
    assert b"read" in shown
    assert b"replay" in shown
    assert b"100%" in shown


def test_only_the_first_requests(run, trace: str) -> None:
    found = json.loads(run("replay", trace, "--json", "--limit", "10", "--edges", "2").stdout)
    assert found["trace"]["requests"] == 10
    assert run("replay", trace, "--limit", "0").exit_code == 2


def test_a_time_that_would_take_for_ever_is_refused(run, tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    for last in ("1e300", "1700000000000"):
        path.write_text(f"0,get,a\n1,get,b\n{last},get,c\n")
        result = run("replay", str(path), "--edges", "2")
        assert result.exit_code != 0
        assert "request 3 of the trace" in result.stderr
        assert "--time-unit" in result.stderr
        assert run("replay", str(path), "--rate", "10", "--edges", "2").exit_code == 0
