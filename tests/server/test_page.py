"""The page of docs: what it lists is what there is."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import pytest

from kvengine.cli.serve import serve
from kvengine.server.api.json_endpoint import ANSWERS_IN_JSON
from tests.server.places import Place, closing_all
from tests.server.running import ACCOUNT, Running

PAGE = (Path(__file__).parents[2] / "kvengine/server/README.md").read_text()


def test_options() -> None:
    there = {option for parameter in serve.params for option in parameter.opts}
    rows = re.findall(r"^\| (`--[^|]+) \|", PAGE, re.MULTILINE)
    listed = {option for row in rows for option in re.findall(r"`(--[\w-]+)`", row)}
    assert listed == there


def test_variables() -> None:
    source = Path(__file__).parents[2] / "kvengine"
    used = set()
    for path in (source / "cli/serve.py", *(source / "server").rglob("*.py")):
        used |= set(re.findall(r'environ\.get\("(\w+)"', path.read_text()))
    used -= {"LISTEN_PID", "JOURNAL_STREAM"}  # systemd sets them
    assert used == set(re.findall(r"^\| `([A-Z_]+)` \|", PAGE, re.MULTILINE))


def test_paths(server: Running) -> None:
    column = re.findall(r"^\| (`/[^|]+) \|", PAGE, re.MULTILINE)
    paths = [path for row in column for path in re.findall(r"`(/[^`]*)`", row)]
    assert {f"/v1/{name.decode()}" for name in ANSWERS_IN_JSON} <= {
        path.removesuffix("/{namespace}") for path in paths
    }
    namespace = server.namespace_id("here")
    server.db.namespace("here").put("k", "v")
    for path in paths:
        where = (
            path.replace("{account}", ACCOUNT)
            .replace("{namespace}", namespace)
            .replace("{key}", "k")
        )
        where = where.removesuffix("…")
        if where.endswith("/"):
            where = where if where == "/" else where + "none"  # one of many
        with httpx.stream("GET", server.url + where, headers=server.headers) as answer:
            found = answer.status_code
        assert found != 404 or where.endswith("/none"), where


@pytest.mark.parametrize("kind", ["primary", "edge"])
def test_metrics(tmp_path: Path, kind: str) -> None:
    listed = set(re.findall(r"`(kvengine_\w+)`", PAGE))
    other = {name for name in listed if name.startswith("kvengine_edge_")}
    if kind == "edge":
        other = {name for name in listed if name.startswith("kvengine_store_")}
    with closing_all() as places:
        places.append(Place("primary", str(tmp_path)))
        if kind == "edge":
            places.append(Place("edge", places[0].url, "a"))
        for _ in range(2):
            text = places[-1].http.get("/metrics").text
    there = set(re.findall(r"^# TYPE (\w+)", text, re.MULTILINE))
    assert there == listed - other
