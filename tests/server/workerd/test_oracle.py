"""A Worker on the real workerd with kvengine behind it sees what it sees in Miniflare."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, NamedTuple

import pytest

from tests.server.running import Running, running
from tests.server.workerd.workers import Worker, oracle, workerd_of


class Pair(NamedTuple):
    """The two that should agree."""

    server: Running
    ours: Worker
    theirs: Worker

    def agree(self, *calls: tuple[Any, ...]) -> list[Any]:
        """Make calls on both sides; return what both say."""
        ours, theirs = self.ours.do(*calls), self.theirs.do(*calls)
        for call, one, other in zip(calls, ours, theirs, strict=True):
            assert _known(one) == _known(other), call
        return ours


def _known(answer: Any) -> Any:
    """Return an answer without what may differ: cursors are ours."""
    result = answer.get("result")
    if isinstance(result, dict) and "list_complete" in result:
        return {"result": {**result, "cursor": "cursor" in result}}
    return answer


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    with ExitStack() as stack:
        theirs = stack.enter_context(oracle())
        server = stack.enter_context(running())
        folder = tmp_path_factory.mktemp("worker")
        here = server.namespace_id("here")
        ours = stack.enter_context(workerd_of(server, folder, here))
        yield Pair(server, ours, theirs)
        ours.close()
        theirs.close()


KEYS = ["a", "a/b", "a+b c", "%2F", "é/🤓", "bulk/get", "#?&=", "..a", "key\\_%", "x" * 512]


@pytest.mark.parametrize("key", KEYS)
def test_keys(pair: Pair, key: str) -> None:
    pair.agree(
        ("put", key, "value", {"metadata": {"é": [1, None]}}),
        ("get", key),
        ("get", key, "arrayBuffer"),
        ("get", key, "stream"),
        ("getWithMetadata", key),
        ("get", [key, "absent"]),
        ("list", {"prefix": key}),
        ("delete", key),
        ("get", key),
        ("delete", key),
    )


def test_a_key_of_nul(pair: Pair) -> None:
    """Miniflare's list leaves it out: SQLite's substr() ends at NUL."""
    pair.agree(("put", "\0", "v"), ("get", "\0"), ("get", ["\0"]))
    [page] = pair.ours.do(("list", {"prefix": "\0"}))
    assert [one["name"] for one in page["result"]["keys"]] == ["\0"]
    pair.agree(("delete", "\0"), ("get", "\0"))


@pytest.mark.parametrize("key", ["", ".", "..", "x" * 513, "é" * 257])
def test_what_is_no_key(pair: Pair, key: str) -> None:
    pair.agree(
        ("get", key), ("put", key, "v"), ("delete", key), ("get", [key]), ("get", ["a", key])
    )


@pytest.mark.parametrize(
    "metadata", [None, 0, "", False, "text", 1.5, [1], {"a": {"b": '🤓\n"'}}, "x" * 1022]
)
def test_metadata(pair: Pair, metadata: Any) -> None:
    pair.agree(
        ("put", "m", "v", {"metadata": metadata}),
        ("getWithMetadata", "m"),
        ("getWithMetadata", ["m", "absent"]),
        ("list", {"prefix": "m"}),
        ("delete", "m"),
    )


def test_values(pair: Pair) -> None:
    pair.agree(
        ("put", "v", ""), ("get", "v"), ("get", "v", "json"), ("get", ["v"], "json"),
        ("put", "v", {"bytes": [0, 255, 128]}), ("get", "v"), ("get", "v", "arrayBuffer"),
        ("get", ["v"]),
        ("put", "v", {"stream": "streamed"}), ("get", "v"),
        ("put", "v", {"chunks": ["in ", "chunks"]}), ("get", "v"),
        ("put", "v", 5), ("get", "v", "json"), ("put", "v", {"object": 1}),
        ("put", "v", "null"), ("get", "v", "json"), ("get", ["v"], "json"),
        ("getWithMetadata", ["v"], "json"),
        ("put", "v", "\ufeffBOM"), ("get", "v"), ("get", "v", "nothing"), ("delete", "v"),
    )  # fmt: skip


@pytest.mark.parametrize(
    "options",
    [
        {"expirationTtl": 60}, {"expirationTtl": 59}, {"expirationTtl": 0}, {"expirationTtl": -1},
        {"expirationTtl": "nan"}, {"expirationTtl": 60.9}, {"expiration": 1}, {"expiration": -5},
        {"expiration": 0}, {"expiration": 1, "expirationTtl": 60}, {"expiration": 2_000_000_000},
        {"expiration": 2_200_000_000}, {"metadata": "x" * 1023},
        {"expirationTtl": 1, "metadata": "x" * 1023},
    ],
)  # fmt: skip
def test_options(pair: Pair, options: Any) -> None:
    found = pair.agree(("delete", "o"), ("put", "o", "v", options), ("get", "o"))
    assert ("error" in found[1]) == (found[2]["result"] is None)


def test_soon(pair: Pair) -> None:
    soon = {"expiration": int(time.time()) + 30}
    pair.agree(("put", "o", "v", soon), ("get", "o"))


@pytest.mark.parametrize("ttl", [0, 29, 30, 60, 86_400])
def test_cache_ttl(pair: Pair, ttl: int) -> None:
    pair.agree(
        ("put", "c", "v"),
        ("get", "c", {"cacheTtl": ttl}),
        ("get", ["c"], {"cacheTtl": ttl}),
        ("get", "absent", {"cacheTtl": ttl}),
        ("delete", "c"),
    )


def test_many(pair: Pair) -> None:
    hundred = [f"k{n}" for n in range(100)]
    pair.agree(
        ("put", "j", '{"a": 1}', {"metadata": 5}), ("put", "t", "text"),
        ("get", ["j", "t", "j", "none"]), ("get", ["j"], "json"), ("get", ["j", "t"], "json"),
        ("get", ["j"], "stream"), ("get", ["j"], "arrayBuffer"), ("get", []), ("get", hundred),
        ("get", [*hundred, "more"]), ("getWithMetadata", ["j", "none"], "json"),
        ("getWithMetadata", []), ("delete", "j"), ("delete", "t"),
    )  # fmt: skip


@pytest.mark.parametrize(
    "options",
    [
        {}, {"limit": 0}, {"limit": -1}, {"limit": 2}, {"limit": 1000}, {"limit": 1001},
        {"prefix": ""}, {"prefix": "l%"}, {"prefix": "L"}, {"prefix": "x" * 512},
        {"prefix": "x" * 513}, {"cursor": ""},
    ],
)  # fmt: skip
def test_lists(pair: Pair, options: Any) -> None:
    keys = ["l1", "l10", "l2", "l%", "l_", "L1", "l!", "l, ", "lé"]
    pair.agree(
        *(("put", key, "v", {"metadata": {"of": key}}) for key in keys),
        ("list", options),
        *(("delete", key) for key in keys),
    )


def test_pages(pair: Pair) -> None:
    keys = [f"p{n:02}" for n in range(25)]
    pair.agree(*(("put", key, "v") for key in keys))
    names: list[list[str]] = [[], []]
    for worker, found in zip((pair.ours, pair.theirs), names, strict=True):
        cursor = None
        while True:
            [page] = worker.do(("list", {"prefix": "p", "limit": 10, "cursor": cursor}))
            found += [one["name"] for one in page["result"]["keys"]]
            if page["result"]["list_complete"]:
                assert "cursor" not in page["result"]
                break
            cursor = page["result"]["cursor"]
    assert names == [keys, keys]
    pair.agree(*(("delete", key) for key in keys))


def test_large_values(pair: Pair) -> None:
    largest = 25 << 20
    found = pair.ours.do(
        ("put", "big", {"text": "x", "repeat": largest}),
        ("length", "big"),
        ("put", "big", {"text": "y", "repeat": largest + 1}),
        ("get", "after", "text"),
    )
    said = f"413 Value length of {largest + 1} exceeds limit of {largest}."
    assert found[2] == {"error": f"Error: KV PUT failed: {said}"}
    assert pair.server.db.namespace("here").get("big", "bytes") == b"x" * largest
    pair.ours.do(("delete", "big"))


@pytest.mark.parametrize("seed", range(3))
def test_anything(pair: Pair, seed: int) -> None:
    chance = random.Random(seed)
    keys = [f"r{seed}/{n}" for n in range(6)]

    def call() -> tuple[Any, ...]:
        key = chance.choice(keys)
        match chance.randrange(6):
            case 0 | 1:
                options = chance.choice([{}, {"metadata": chance.random()}, {"expirationTtl": 100}])
                return ("put", key, chance.choice(["", "text", "[1]", "null"]), options)
            case 2:
                return ("delete", key)
            case 3:
                return ("getWithMetadata", key, chance.choice(["text", "json"]))
            case 4:
                return ("get", chance.sample(keys, 3), chance.choice(["text", "json"]))
        return ("list", {"prefix": f"r{seed}/", "limit": chance.randrange(1, 8)})

    calls = [call() for _ in range(60)]
    ours, theirs = pair.ours.do(*calls), pair.theirs.do(*calls)
    for one, other in zip(ours, theirs, strict=True):
        assert _without_times(_known(one)) == _without_times(_known(other))


def _without_times(answer: Any) -> Any:
    """Leave out when keys end: the two were written at different seconds."""
    result = answer.get("result")
    if isinstance(result, dict) and "keys" in result:
        keys = [{name: one[name] for name in one if name != "expiration"} for one in result["keys"]]
        return {**result, "keys": keys}
    return answer


def test_what_a_stranger_hears(pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("stranger")
    with workerd_of(pair.server, folder, "0" * 32) as worker:
        found = worker.do(("get", "a"), ("put", "a", "v"), ("list",), ("get", ["a"]))
        worker.close()
    assert found == [
        {"error": "Error: KV GET failed: 400 namespace not found"},
        {"error": "Error: KV PUT failed: 400 namespace not found"},
        {"error": "Error: KV GET failed: 400 namespace not found"},
        {"error": "Error: KV GET_BULK failed: 400 namespace not found"},
    ]
