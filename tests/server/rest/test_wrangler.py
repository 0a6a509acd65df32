"""wrangler, unchanged: every command it has for KV."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.server.node import node, package_bin
from tests.server.running import ACCOUNT, TOKEN, Running

Wrangler = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def wrangler(server: Running, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Wrangler:
    """Run a `wrangler kv` command against the server."""
    compiled = tmp_path_factory.getbasetemp() / "node"  # shared: node starts faster
    program = [str(node()), str(package_bin("wrangler"))]

    def run(*arguments: str, code: int = 0, **more: str) -> subprocess.CompletedProcess[str]:
        environment = {
            "PATH": f"{Path(program[0]).parent}:{os.environ['PATH']}",
            "HOME": str(tmp_path),
            "CLOUDFLARE_API_BASE_URL": server.base_url,
            "CLOUDFLARE_API_TOKEN": TOKEN,
            "CLOUDFLARE_ACCOUNT_ID": ACCOUNT,
            "WRANGLER_SEND_METRICS": "false",
            "WRANGLER_SEND_ERROR_REPORTS": "false",
            "WRANGLER_LOG_PATH": str(tmp_path / "logs"),
            "WRANGLER_HIDE_BANNER": "true",
            "CI": "true",
            "NO_COLOR": "1",
            "NODE_COMPILE_CACHE": str(compiled),
            **more,
        }
        found = subprocess.run(
            [*program, "kv", *arguments],
            cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert found.returncode == code, (arguments, found.stdout, found.stderr)
        return found

    return run


def test_namespaces(server: Running, wrangler: Wrangler) -> None:
    wrangler("namespace", "create", "made")
    assert [info.title for info in server.db.namespaces()] == ["made"]
    taken = wrangler("namespace", "create", "made", code=1)
    assert 'A KV namespace with the title "made" already exists' in taken.stdout + taken.stderr
    for number in range(3):
        server.db.namespace(f"n{number}")
    listed = json.loads(wrangler("namespace", "list").stdout)
    assert [one["title"] for one in listed] == ["made", "n0", "n1", "n2"]
    wrangler("namespace", "rename", "made", "--new-name", "renamed")
    wrangler("namespace", "delete", "n0", "-y")
    assert [info.title for info in server.db.namespaces()] == ["n1", "n2", "renamed"]


def test_without_an_account(server: Running, wrangler: Wrangler) -> None:
    """wrangler asks whose token it is."""
    wrangler("namespace", "create", "made", CLOUDFLARE_ACCOUNT_ID="")
    assert [info.title for info in server.db.namespaces()] == ["made"]


def test_keys(server: Running, wrangler: Wrangler, tmp_path: Path) -> None:
    kv = server.db.namespace("here")
    where = ("--namespace-id", kv.id, "--remote")
    wrangler("key", "put", "a/b+c é", "value", *where, "--ttl", "600")
    details = kv.get_metadata("a/b+c é")
    assert details is not None
    assert details.expiration is not None
    assert wrangler("key", "get", "a/b+c é", *where).stdout == "value"
    (tmp_path / "file").write_bytes(b"\x00\xff")
    wrangler("key", "put", "file", "--path", "file", *where, "--metadata", '{"m": "é"}')
    assert kv.get("file", "bytes") == b"\x00\xff"
    assert kv.get_with_metadata("file", "bytes").metadata == {"m": "é"}
    kv.put_many({f"many/{n:04}": "v" for n in range(1500)})
    listed: list[Any] = json.loads(wrangler("key", "list", *where).stdout)
    assert [one["name"] for one in listed] == [info.name for info in kv.keys("")]
    assert listed[1] == {"name": "file", "metadata": {"m": "é"}}
    wrangler("key", "delete", "file", *where)
    gone = wrangler("key", "get", "file", *where, code=1)
    assert "404" in gone.stdout + gone.stderr
    early = wrangler("key", "put", "k", "v", *where, "--ttl", "59", code=1)
    assert "10034" in early.stdout + early.stderr


def test_bulk(server: Running, wrangler: Wrangler, tmp_path: Path) -> None:
    kv = server.db.namespace("here")
    where = ("--namespace-id", kv.id, "--remote")
    pairs = [{"key": f"k{n}", "value": f"v{n}"} for n in range(1100)]
    pairs.append({"key": "binary", "value": "AP8=", "base64": True})  # type: ignore[dict-item]
    (tmp_path / "pairs.json").write_text(json.dumps(pairs))
    wrangler("bulk", "put", "pairs.json", *where)
    assert kv.count() == 1101
    assert kv.get("binary", "bytes") == b"\x00\xff"
    (tmp_path / "some.json").write_text('["k1", "nope"]')
    found = wrangler("bulk", "get", "some.json", *where).stdout
    assert json.loads(found[found.index("{") : found.rindex("}") + 1]) == {"k1": "v1", "nope": None}
    (tmp_path / "keys.json").write_text(json.dumps([pair["key"] for pair in pairs[:1050]]))
    wrangler("bulk", "delete", "keys.json", *where, "--force")
    assert kv.count() == 51


def test_a_token_that_is_none(wrangler: Wrangler) -> None:
    refused = wrangler("namespace", "list", code=1, CLOUDFLARE_API_TOKEN="wrong")
    assert "Authentication error" in refused.stdout + refused.stderr
