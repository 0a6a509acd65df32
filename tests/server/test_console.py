"""The console, in a real browser: what people do there, with the mouse and without it."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

import kvengine
from kvengine.server import console
from kvengine.server.auth.token_store import TokenStore
from tests.server.rest.test_values import path
from tests.server.running import ACCOUNT, TOKEN, Running, running

WAIT_MS = 60_000
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    api: Any = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    if CHROMIUM is None:
        pytest.skip("there is no chromium on the PATH: apt-get install chromium")
    with api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture
def page(browser: Any, server: Running) -> Iterator[Any]:
    """A page of the console; nothing it does may break its policy, or ask another host."""
    yield from opened(browser, server)


def opened(browser: Any, server: Running) -> Iterator[Any]:
    found = browser.new_page(viewport={"width": 1280, "height": 800})
    found.set_default_timeout(WAIT_MS)
    wrong: list[str] = []
    found.on("pageerror", lambda error: wrong.append(f"error: {error}"))
    found.on("console", lambda said: wrong.append(said.text) if "Policy" in said.text else None)
    found.on(
        "request",
        lambda asked: None if asked.url.startswith(server.url) else wrong.append(asked.url),
    )
    yield found
    found.close()
    assert wrong == []


def sign_in(page: Any, server: Running, token: str = TOKEN) -> None:
    page.goto(server.url)
    page.get_by_label("Token").fill(token)
    page.keyboard.press("Enter")
    page.get_by_role("link", name="Keys", exact=True).wait_for()


def said(page: Any, text: str) -> None:
    """Wait until the page says something."""
    page.locator("#said", has_text=text).wait_for()


def row_names(page: Any) -> list[str]:
    page.locator("#rows tr").first.wait_for()
    return [text.split("\t")[0].strip() for text in page.locator("#rows tr").all_inner_texts()]


def test_policy_and_files() -> None:
    with running() as server:
        answer = httpx.get(server.url)
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert not re.search(r"\son\w+=|style=|<script>|https?:", answer.text)
        names = console.files()
        assert {"index.html", "main.js", "style.css", "icon.svg"} <= set(names)
        for name, (kind, body) in names.items():
            found = httpx.get(f"{server.url}/console/{name}")
            assert (found.content, found.headers["content-type"]) == (body, kind.decode())
        for used in re.findall(r'(?:src|href)="(/[^"]+)"', answer.text):
            assert httpx.get(server.url + used).status_code == 200
        for absent in ("/console/", "/console/none.js", "/console/../console.py", "/index.html"):
            assert httpx.get(server.url + absent).status_code == 404
        assert httpx.post(server.url).status_code == 405
        assert httpx.head(server.url).status_code == 200


def test_a_wrong_token(page: Any, server: Running) -> None:
    page.goto(server.url)
    page.get_by_label("Token").fill("wrong")
    page.get_by_role("button", name="Sign in").click()
    said(page, "token is not valid")
    assert page.get_by_label("Token").is_visible()
    assert "wrong" not in page.url


def test_namespaces_folders_and_pages(page: Any, server: Running) -> None:
    site = server.db.namespace("site")
    server.db.namespace("flags").put("dark", "on")
    for number in range(130):
        site.put(f"blog/{number:03}", "x")
    site.put("blog/drafts/1", "x", metadata={"by": "ada"})
    site.put("<b>", "x")
    sign_in(page, server)
    page.get_by_text("1 key, 6 bytes").wait_for()
    page.get_by_text("132 keys, ").click()
    page.get_by_role("link", name="blog/", exact=True).wait_for()
    assert row_names(page) == ["blog/", "<b>"]
    page.get_by_role("link", name="blog/", exact=True).click()
    page.get_by_role("button", name="099", exact=True).wait_for()
    assert len(row_names(page)) == 100
    page.get_by_role("button", name="More keys").click()
    page.get_by_role("link", name="drafts/").wait_for()
    assert len(row_names(page)) == 131
    assert page.get_by_role("button", name="More keys").is_hidden()
    page.get_by_role("link", name="drafts/").click()
    page.get_by_text('{"by":"ada"}').wait_for()
    page.go_back()
    page.get_by_role("button", name="099", exact=True).wait_for()
    page.get_by_label("Prefix").fill("blog/12")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="9", exact=True).wait_for()
    assert row_names(page) == [str(number) for number in range(10)]


def test_values_as_text_json_and_hex(page: Any, server: Running) -> None:
    here = server.db.namespace("here")
    here.put("config", json.dumps({"on": [1, 2]}), metadata={"by": "ada"}, expiration_ttl=3600)
    here.put("picture", bytes(range(256)) * 2000)
    here.put("page", "<script>alert('no')</script>\nline")
    sign_in(page, server)
    page.get_by_role("button", name="config").click()
    preview = page.locator("#preview")
    preview.wait_for()
    assert preview.inner_text() == json.dumps({"on": [1, 2]}, indent=2)
    panel = page.locator(".value")
    assert "expires 20" in panel.inner_text()
    assert '"by": "ada"' in panel.inner_text()
    page.get_by_label("text", exact=True).check()
    assert preview.inner_text() == '{"on": [1, 2]}'
    page.get_by_label("hex", exact=True).check()
    assert preview.inner_text().startswith("00000000  7b 22 6f 6e")
    page.get_by_role("button", name="picture").click()
    page.locator(".value h2", has_text="picture").wait_for()
    assert "500 KiB, first 256 KiB" in panel.inner_text()
    assert "00000010  10 11 12" in preview.inner_text()
    assert page.get_by_role("button", name="Edit").is_disabled()
    page.get_by_role("button", name="page", exact=True).click()
    page.locator(".value h2", has_text="page").wait_for()
    assert preview.inner_text() == "<script>alert('no')</script>\nline"


def test_editing(page: Any, server: Running) -> None:
    here = server.db.namespace("here")
    large = 12345678901234567890  # more than a JavaScript number can hold
    here.put("a/flag", "one\r\ntwo", metadata={"by": "ada", "n": large}, expiration_ttl=3600)
    ends = here.list().keys[0].expiration
    sign_in(page, server)
    page.get_by_role("link", name="a/", exact=True).click()
    page.get_by_role("button", name="flag", exact=True).click()
    page.get_by_role("button", name="Edit").click()
    metadata = page.get_by_label("Metadata").input_value()
    page.get_by_label("Metadata").fill("{")
    page.get_by_role("button", name="Save").click()
    said(page, "Invalid JSON")
    page.get_by_label("Metadata").fill(metadata.replace("ada", "eve"))
    page.get_by_role("button", name="Save").click()
    said(page, "Saved a/flag")
    found = here.get_with_metadata("a/flag")
    assert (found.value, found.metadata) == ("one\r\ntwo", {"by": "eve", "n": large})
    assert here.list().keys[0].expiration == ends
    page.get_by_role("button", name="flag", exact=True).click()
    page.get_by_role("button", name="Edit").click()
    page.get_by_role("textbox", name="Value").fill("mine")
    here.put("a/flag", "theirs")
    page.get_by_role("button", name="Save").click()
    said(page, "This key has changed")
    assert here.get("a/flag") == "theirs"
    page.get_by_role("button", name="Cancel").click()
    page.get_by_role("button", name="New key").click()
    page.get_by_label("Key", exact=True).fill("a/flag")
    page.get_by_role("textbox", name="Value").fill("new")
    page.get_by_role("button", name="Save").click()
    said(page, "A key with this name already")
    page.get_by_label("Key", exact=True).fill("a/100% ü/?#")
    page.get_by_label("Expires in seconds").fill("120")
    page.get_by_role("button", name="Save").click()
    said(page, "Saved a/100% ü/?#")
    assert here.get("a/100% ü/?#") == "new"
    assert here.list(prefix="a/100").keys[0].expiration is not None
    page.get_by_text("2 keys, ").wait_for()


def test_deleting(page: Any, server: Running) -> None:
    here = server.db.namespace("here")
    for name in ("a1", "a2", "b"):
        here.put(name, "v")
    sign_in(page, server)
    page.get_by_role("button", name="b", exact=True).click()
    page.locator("#delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    assert here.get("b") == "v"
    page.locator("#delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    said(page, "Deleted b")
    assert here.get("b") is None
    page.get_by_label("Prefix").fill("a")
    page.locator("#delete-prefix").click()
    page.get_by_text("This deletes 2 keys that begin with “a”").wait_for()
    assert here.count() == 2
    page.get_by_role("button", name="Delete 2 keys").click()
    said(page, "Deleted 2 keys")
    assert here.count() == 0
    page.get_by_role("button", name="Delete namespace").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete here").click()
    said(page, "Deleted namespace here")
    assert server.db.namespaces() == []
    page.get_by_label("New namespace").fill("next")
    page.keyboard.press("Enter")
    page.get_by_text("Keys of next").wait_for()
    assert [info.title for info in server.db.namespaces()] == ["next"]


def test_read_only(page: Any, server: Running) -> None:
    here = server.db.namespace("here")
    here.put("k", "v")
    server.db.namespace("other")
    secret, _ = TokenStore(server.db, ACCOUNT).create(name="reader", namespaces=(here.id,))
    sign_in(page, server, secret)
    page.get_by_text("reader: read-only").wait_for()
    page.get_by_role("button", name="k", exact=True).click()
    page.get_by_text("This token is read-only.").wait_for()
    for name in ("Edit", "Delete", "New key", "Delete by prefix", "Create"):
        assert page.get_by_role("button", name=name, exact=True).count() == 0
    assert page.get_by_role("link", name="other").count() == 0
    page.get_by_role("link", name="Usage").click()
    page.get_by_text("Usage is shown only for tokens").wait_for()
    page.get_by_role("link", name="Live").click()
    page.get_by_text("Edges and changes are shown only").wait_for()


def test_by_keyboard_alone(page: Any, server: Running) -> None:
    here = server.db.namespace("here")
    for name in ("a", "b", "folder/c"):
        here.put(name, f"value of {name}")
    page.goto(server.url)
    page.locator("#token:focus").wait_for()
    page.keyboard.type(TOKEN)
    page.keyboard.press("Enter")
    page.locator("#rows tr").nth(2).wait_for()
    page.keyboard.press("/")
    page.locator("#prefix:focus").wait_for()
    while not page.evaluate("document.getElementById('rows').contains(document.activeElement)"):
        page.keyboard.press("Tab")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.locator("#preview", has_text="value of a").wait_for()
    page.keyboard.press("Escape")
    page.locator("#preview").wait_for(state="detached")
    focused = "document.activeElement.innerText"
    assert page.evaluate(focused) == "a"
    page.keyboard.press("ArrowUp")
    assert page.evaluate(focused) == "folder/"
    page.keyboard.press("Enter")
    page.get_by_role("button", name="c", exact=True).wait_for()
    page.keyboard.press("Escape")
    page.get_by_role("button", name="b", exact=True).wait_for()


def test_a_slow_list_of_namespaces_takes_nobody_back(page: Any, server: Running) -> None:
    server.db.namespace("flags")
    waiting: list[Any] = []

    def hold(route: Any) -> None:
        waiting.append(route)

    page.route("**/v1/namespaces", hold, times=1)
    sign_in(page, server)
    while not waiting:
        page.wait_for_timeout(10)
    page.get_by_role("link", name="Live").click()
    page.get_by_text("No edges connected").wait_for()
    waiting[0].continue_()
    page.locator("a", has_text="flags").first.wait_for(state="attached")
    page.wait_for_timeout(100)  # a redirect would come with the list, or just behind it
    assert page.url.endswith("#/live")


def test_live(page: Any, server: Running) -> None:
    here = server.db.namespace("flags")
    here.put("dark", "off")
    sign_in(page, server)
    page.get_by_role("link", name="Live").click()
    page.get_by_text("No edges connected").wait_for()
    edges = [kvengine.Edge(server.url, name, token=TOKEN) for name in ("fra", "sin")]
    try:
        page.locator("#edges th", has_text="sin").wait_for()
        here.put("large", "x" * 100_000)  # no fast read
        here.put("dark", "on")
        change = page.locator("#changes tr").first
        change.get_by_text("put flags: dark").wait_for()
        for number in (0, 1):
            change.locator("td.arrived").nth(number).wait_for()
            assert re.search(r"s$", change.locator("td.arrived").nth(number).inner_text())
        values = f"/client/v4/accounts/{ACCOUNT}/storage/kv/namespaces/{here.id}/values"
        for number in range(20):
            server.http.get(f"{values}/{'dark' if number % 4 else 'large'}")
        page.locator("#rates tr", has_text="20").first.wait_for()
        page.locator("#hits", has_text="75.0 %").wait_for()
        assert "≤" in page.locator("#rates tr").first.inner_text()
        page.locator("#live polyline[points*=',']").wait_for()
    finally:
        for edge in edges:
            edge.close()
    page.locator("#edges tr.lost", has_text="silent for").first.wait_for()


def test_usage(page: Any, server: Running) -> None:
    server.db.namespace("here").put("k", "v")
    for _ in range(3):
        server.http.get(path(server, "values/k"))
    sign_in(page, server)
    page.get_by_role("link", name="Usage").click()
    page.locator("#total", has_text="$5.00").wait_for()
    assert "reads\t3\t10,000,000\t$0.00" in page.locator("#usage").inner_text()
    page.get_by_label("Month").fill("2020-01")
    page.locator("#usage h2", has_text="2020-01").wait_for()
    assert "reads\t0\t" in page.locator("#usage").inner_text()


def test_without_tokens(browser: Any) -> None:
    with running(is_open=True) as server:
        server.db.namespace("here").put("k", "v")
        pages = opened(browser, server)
        page = next(pages)
        page.goto(server.url)
        page.get_by_role("button", name="k", exact=True).click()
        page.locator("#preview", has_text="v").wait_for()
        assert page.get_by_role("button", name="Sign out").is_hidden()
        assert list(pages) == []
