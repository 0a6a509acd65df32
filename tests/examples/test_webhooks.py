"""The log of webhooks: only what is signed gets in, the newest comes first, old ones end."""

import hashlib
import hmac
from collections.abc import Iterator
from pathlib import Path

import pytest

import kvengine
from kvengine.testing.clock import ManualClock
from tests.examples.server import ADMIN, WEBHOOK_SECRET, Answer, Server

KEEP_DAYS = 3
DAY_S = 24 * 3600
NOTE = b'{"action": "opened"}'


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    data = tmp_path_factory.mktemp("webhooks")
    with Server("webhooks", "--keep-days", KEEP_DAYS, data=data) as server:
        yield server


def signature(body: bytes, secret: str = WEBHOOK_SECRET) -> dict[str, str]:
    digest = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return {"X-Hub-Signature-256": f"sha256={digest}"}


def deliver(server: Server, source: str, body: bytes = NOTE, event: str = "issues") -> str:
    headers = {**signature(body), "X-GitHub-Event": event}
    answer = server.ask("POST", f"/hooks/{source}", body, headers)
    assert answer.status == 202, answer.body
    return answer.json["id"]


def log(server: Server, path: str) -> Answer:
    return server.get(f"/hooks/{path}", ADMIN)


def test_the_body_is_kept_as_it_came(server: Server) -> None:
    body = bytes(range(256)) * 100
    read = log(server, f"bodies/{deliver(server, 'bodies', body)}")
    assert (read.status, read.body) == (200, body)
    assert read.headers["Content-Type"].startswith("text/plain")
    assert read.headers["X-Content-Type-Options"] == "nosniff"


def test_the_newest_comes_first_page_by_page(server: Server) -> None:
    made = [deliver(server, "shop", b"x" * n, f"event {n}") for n in range(7)]
    deliver(server, "shop-2")  # of another source, though its name begins alike
    pages, cursor = [], ""
    while True:
        page = log(server, f"shop?limit=3{cursor}").json
        pages.append(page["deliveries"])
        if page["cursor"] is None:
            break
        cursor = f"&cursor={page['cursor']}"
        deliver(server, "shop")  # what comes meanwhile does not move the pages
    assert [len(page) for page in pages] == [3, 3, 1]
    entries = [entry for page in pages for entry in page]
    assert [entry["id"] for entry in entries] == made[::-1]
    assert [(entry["event"], entry["bytes"]) for entry in entries] == [
        (f"event {n}", n) for n in reversed(range(7))
    ]


def test_what_is_not_signed_does_not_get_in(server: Server) -> None:
    right = signature(NOTE)["X-Hub-Signature-256"]
    for headers in (
        {},
        signature(NOTE + b" "),
        signature(NOTE, "another secret"),
        {"X-Hub-Signature-256": right.removeprefix("sha256=")},
        {"X-Hub-Signature-256": right[:-1]},
        {"X-Hub-Signature-256": ""},
        {"X-Hub-Signature-256": "sha256=\xe9"},
    ):
        answer = server.ask("POST", "/hooks/closed", NOTE, headers)
        assert answer.status == 401
        assert "does not fit" in answer.why
    assert log(server, "closed").json == {"deliveries": [], "cursor": None}


def test_only_the_admin_may_read(server: Server) -> None:
    delivery = deliver(server, "private")
    for headers in ({}, signature(b""), {"Authorization": f"Bearer {WEBHOOK_SECRET}"}):
        for path in ("/hooks/private", f"/hooks/private/{delivery}"):
            answer = server.get(path, headers)
            assert answer.status == 401
            assert "admin's token" in answer.why


def test_the_largest_body(server: Server) -> None:
    largest = bytes(1 << 20)
    assert log(server, f"large/{deliver(server, 'large', largest)}").body == largest
    answer = server.ask("POST", "/hooks/large", largest + b"x", signature(largest + b"x"))
    assert (answer.status, answer.why) == (413, "a delivery has at most 1048576 bytes")
    assert len(log(server, "large").json["deliveries"]) == 1


@pytest.mark.parametrize(
    ("path", "status", "why"),
    [
        ("UPPER", 422, "path.source: String should match pattern"),
        ("x" * 65, 422, "path.source: String should match pattern"),
        ("shop?limit=0", 422, "query.limit"),
        ("shop?limit=1001", 422, "query.limit"),
        ("shop?cursor=damaged", 400, "cursor: it is damaged"),
        ("shop/none", 404, "there is no such delivery"),
        ("shop/" + "x" * 600, 414, "exceeds key length limit of 512"),
    ],
)
def test_bad_input(server: Server, path: str, status: int, why: str) -> None:
    answer = log(server, path)
    assert answer.status == status
    assert why in answer.why


def test_a_cursor_of_another_source_is_refused(server: Server) -> None:
    for _ in range(2):
        deliver(server, "first")
    cursor = log(server, "first?limit=1").json["cursor"]
    answer = log(server, f"second?limit=1&cursor={cursor}")
    assert answer.status == 400
    assert "another prefix" in answer.why


def test_a_long_header_is_refused(server: Server) -> None:
    headers = {**signature(NOTE), "X-GitHub-Event": "x" * 201}
    answer = server.ask("POST", "/hooks/shop", NOTE, headers)
    assert answer.status == 422
    assert "header.x-github-event" in answer.why


def test_a_restart_keeps_the_log_and_each_ends_after_some_days(server: Server) -> None:
    delivery = deliver(server, "kept")
    server.stop()
    data, key, since = server.data, f"kept/{delivery}", int(delivery.split("-")[0]) // 1_000_000
    assert isinstance(data, Path)
    assert read_at(data, key, since + KEEP_DAYS * DAY_S - 1) == NOTE
    assert read_at(data, key, since + KEEP_DAYS * DAY_S + DAY_S) is None
    server.start()
    (entry,) = log(server, "kept").json["deliveries"]
    assert entry["id"] == delivery


def read_at(data: Path, key: str, now: int) -> bytes | None:
    """Return what a key has at a time."""
    with kvengine.open(data, clock=ManualClock(now), read_only=True) as db:
        return db.namespace("webhooks").get(key, "bytes")
