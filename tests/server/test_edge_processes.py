"""A primary and three edges as processes: what PROMISES.md says holds between them."""

from functools import partial

import pytest

import kvengine
from tests.server.places import Place, closing_all, until
from tests.server.running import TOKEN


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with closing_all() as places:
        places.append(Place("primary", str(tmp_path_factory.mktemp("primary"))))
        url = places[0].url
        places += [Place("edge", url, name, "retry_max_s=0.3") for name in ("a", "b", "c")]
        with kvengine.connect(url, token=TOKEN) as db:
            yield places[0], places[1:], db.namespace("world").id


def shows(place, namespace, key, value):
    return place.get(namespace, key) == value


def test_a_new_key_is_seen_everywhere_at_once(world):
    primary, edges, namespace = world
    for number in range(20):
        key = f"new{number}"
        assert all(place.get(namespace, key) is None for place in edges)
        primary.put(namespace, key, "value")
        assert [place.get(namespace, key) for place in edges] == ["value"] * 3


def test_a_changed_value_reaches_each_and_none_goes_back(world):
    primary, edges, namespace = world
    primary.put(namespace, "changed", "0")
    seen = [[int(place.get(namespace, "changed"))] for place in edges]
    for number in range(1, 30):
        primary.put(namespace, "changed", str(number))
        for found, place in zip(seen, edges, strict=True):
            found.append(int(place.get(namespace, "changed")))
    for found, place in zip(seen, edges, strict=True):
        until(partial(shows, place, namespace, "changed", "29"), "a change is not seen")
        assert found == sorted(found)


def test_who_writes_at_an_edge_reads_it_there(world):
    _, edges, namespace = world
    for number in range(30):
        place = edges[number % 3]
        place.put(namespace, "own", str(number))
        assert place.get(namespace, "own") == str(number)
    answer = edges[0].http.delete(edges[0].path(namespace, "own"))
    assert answer.status_code == 200
    assert edges[0].get(namespace, "own") is None


def test_bulk_writes_and_connect_at_an_edge_are_read_there(world):
    primary, edges, namespace = world
    place = edges[1]
    for number in range(5):
        pairs = [{"key": "bulk", "value": str(number)}]
        path = place.path(namespace, "x").replace("/values/x", "/bulk")
        assert place.http.put(path, json=pairs).status_code == 200
        assert place.get(namespace, "bulk") == str(number)
        with kvengine.connect(place.url, token=TOKEN) as db:  # answered by the primary
            db.namespace_by_id(namespace).put("bulk", f"connected {number}")
        assert place.get(namespace, "bulk") == f"connected {number}"
    assert primary.get(namespace, "bulk") == "connected 4"


def test_the_primary_is_killed_and_comes_back(world):
    primary, edges, namespace = world
    primary.put(namespace, "kept", "old")
    assert [place.get(namespace, "kept") for place in edges] == ["old"] * 3
    primary.kill()
    assert [place.get(namespace, "kept") for place in edges] == ["old"] * 3
    answer = edges[0].http.put(edges[0].path(namespace, "kept"), content="lost")
    assert answer.status_code == 503
    assert answer.json()["success"] is False
    primary.start()
    assert primary.get(namespace, "kept") == "old"
    primary.put(namespace, "kept", "new")
    for place in edges:
        until(partial(shows, place, namespace, "kept", "new"), "changes do not come again")
    edges[2].put(namespace, "kept", "newest")
    assert edges[2].get(namespace, "kept") == "newest"
