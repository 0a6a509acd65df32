"""The benchmarks of cache, traces, edges and log, on tiny sizes: they measure what they say."""

import gzip
import json

from click.testing import CliRunner

from benchmarks import cache, edges, hits, log
from benchmarks.cli import main


def test_cache(monkeypatch, tmp_path):
    monkeypatch.setattr(cache, "CALLS", 200)
    monkeypatch.setattr(cache, "ENTRIES", 50)
    monkeypatch.setattr(cache, "FOOTPRINTS", (100,))
    result = CliRunner().invoke(main, ["cache", "--repeats", "1", "--results", str(tmp_path)])
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "cache.json").read_text())
    assert set(found["ns"]["kvengine adaptive"]) == {"hit", "miss", "overwrite", "insert"}
    assert "kvengine adaptive" in result.output


def test_hits_are_those_of_the_trace(tmp_path):
    keys = [1, 2, 3, 1, 2, 3] * 50
    with gzip.open(tmp_path / "loop.csv.gz", "wt") as file:
        file.write("\n".join(map(str, keys)))
    with gzip.open(tmp_path / "sized.csv.gz", "wt") as file:
        file.write("\n".join(f"{key},{key * 100}" for key in keys))
    result = hits.measure(tmp_path, [], lambda text: None)
    rows = {(row["trace"], row["capacity"]): row["hits"] for row in result["rows"]}
    assert rows[("loop", 1)]["lru"] == 0
    assert rows[("loop", 1)]["limit"] > 0
    assert all(0 <= ratio <= 100 for found in rows.values() for ratio in found.values())
    assert any(line.startswith("G1") for line in result["summary"])
    assert "| sized |" in hits.report(result)


def test_the_limit_is_what_who_knows_the_future_gets():
    assert hits.limit([1, 2, 1, 3, 1, 2], [1] * 6, 2) == 3
    assert hits.limit([1, 2, 3], [1] * 3, 2) == 0


def test_the_plain_cache_is_stale_and_edges_hardly(tmp_path):
    todo = edges.events(30.0, 50.0, 5.0, seed=2, keys=20)
    plain = edges.plain(todo, 20)
    own = edges.located(todo, 20, 0, seed=2)
    assert plain["reads"] == own["reads"] == sum(not event.is_write for event in todo)
    assert plain["stale reads"] > 3 * own["stale reads"]
    assert own["stale by, longest (s)"] < 5


def test_edges(monkeypatch, tmp_path):
    monkeypatch.setattr(edges, "CALLS", 100)
    arguments = ["edges", "--seconds", "2", "--repeats", "1", "--results", str(tmp_path)]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    assert "Edge, namespace.get" in result.output


def test_log(tmp_path):
    arguments = ["log", "--changes", "2000", "--wakes", "5", "--repeats", "1"]
    result = CliRunner().invoke(main, [*arguments, "--results", str(tmp_path)])
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "log.json").read_text())
    assert found["rates"]["kvengine store.tail(0)"] > 0
    assert found["wakes"]["kvengine, process to process"]["p50"] > 0
    assert "reading the log" in log.report(found)
