"""An edge of an edge, and the console through both, as processes."""

from functools import partial
from pathlib import Path

import httpx

import kvengine
from tests.server.places import Place, closing_all, until
from tests.server.running import TOKEN


def test_an_edge_may_ask_another(tmp_path: Path) -> None:
    with closing_all() as places:
        places.append(Place("primary", str(tmp_path)))
        primary = places[0]
        places.append(Place("edge", primary.url, "near", "retry_max_s=0.3"))
        places.append(Place("edge", places[1].url, "far", "retry_max_s=0.3"))
        with kvengine.connect(primary.url, token=TOKEN) as db:
            namespace = db.namespace("here").id
        far = places[2]
        assert far.get(namespace, "k") is None
        far.put(namespace, "k", "one")
        assert far.get(namespace, "k") == "one"
        primary.put(namespace, "k", "two")
        until(lambda: far.get(namespace, "k") == "two", "a change is not seen")
        until(partial(reached, far, ["far", "near"]), "the primary was not told")
        assert "<title>kvengine</title>" in httpx.get(far.url).text
        assert httpx.get(f"{far.url}/console/main.js").status_code == 200


def reached(place: Place, names: list[str]) -> bool:
    """Return whether a newest change has reached these edges, as a place says it."""
    with place.http.stream("GET", "/v1/live") as answer:
        text = next(answer.iter_lines())
    found = httpx.Response(200, text=text).json()
    return bool(found["changes"]) and sorted(found["changes"][0]["reached_ms"]) == names
