"""A static site: what is in the folder is served, with caching and ranges, and nothing else is."""

import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.examples.server import ENVIRONMENT, Server

BIG = random.Random(3).randbytes(3_000_000)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("public")
    files = {
        "index.html": b"<h1>home</h1>",
        "about/index.html": b"<h1>about</h1>",
        "style.css": b"h1 { color: red }",
        "big.bin": BIG,
        "empty.txt": b"",
        "\u00fc name.txt": b"text",
        ".env": b"PASSWORD=secret",
        ".git/config": b"secret",
        "about/.hidden": b"secret",
    }
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    (folder / "link").symlink_to("/etc/passwd")
    (folder / "up").symlink_to("..")
    return folder


@pytest.fixture(scope="module")
def server(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server("site", folder, data=tmp_path_factory.mktemp("site")) as server:
        yield server


@pytest.mark.parametrize(
    ("path", "name", "content_type"),
    [
        ("/", "index.html", "text/html; charset=utf-8"),
        ("/index.html", "index.html", "text/html; charset=utf-8"),
        ("/about/", "about/index.html", "text/html; charset=utf-8"),
        ("/style.css", "style.css", "text/css; charset=utf-8"),
        ("/big.bin", "big.bin", "application/octet-stream"),
        ("/empty.txt", "empty.txt", "text/plain; charset=utf-8"),
        ("/%C3%BC%20name.txt", "\u00fc name.txt", "text/plain; charset=utf-8"),
    ],
)
def test_files_are_served_with_their_types(
    server: Server, folder: Path, path: str, name: str, content_type: str
) -> None:
    content = (folder / name).read_bytes()
    answer, head = server.get(path), server.ask("HEAD", path)
    assert (answer.status, head.status) == (200, 200)
    assert answer.body == content
    assert head.body == b""
    for headers in (answer.headers, head.headers):
        assert headers["Content-Type"] == content_type
        assert headers["Content-Length"] == str(len(content))
        assert headers["ETag"] == answer.headers["ETag"]


def test_pages_are_checked_each_time_and_other_files_kept(server: Server) -> None:
    assert server.get("/").headers["Cache-Control"] == "no-cache"
    assert server.get("/style.css").headers["Cache-Control"] == "public, max-age=3600"


def test_what_has_not_changed_is_not_sent_again(server: Server) -> None:
    etag = server.get("/big.bin").headers["ETag"]
    for condition in (etag, f'"other", {etag}', f"W/{etag}", "*"):
        answer = server.get("/big.bin", {"If-None-Match": condition})
        assert (answer.status, answer.body, answer.headers["ETag"]) == (304, b"", etag)
    assert server.get("/", {"If-None-Match": etag}).status == 200


@pytest.mark.parametrize(
    ("asked", "part"),
    [("0-99", slice(100)), ("1500000-", slice(1_500_000, None)), ("-7", slice(-7, None))],
)
def test_a_part_of_a_file(server: Server, asked: str, part: slice) -> None:
    answer = server.get("/big.bin", {"Range": f"bytes={asked}"})
    assert answer.status == 206
    assert answer.body == BIG[part]
    assert answer.headers["Content-Range"].endswith(f"/{len(BIG)}")


def test_a_part_behind_the_end(server: Server) -> None:
    assert server.get("/big.bin", {"Range": "bytes=3000000-"}).status == 416


def test_a_folder_without_a_slash_leads_to_its_page(server: Server) -> None:
    answer = server.get("/about")
    assert (answer.status, answer.headers["Location"]) == (301, "/about/")


@pytest.mark.parametrize(
    "path",
    [
        "/../../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/..%2f..%2fetc/passwd",
        "/about/../../secret",
        "/about/..%5c..%5csecret",
        "//etc/passwd",
        "/%00",
        "/..",
        "/.",
        "/.env",
        "/.git/config",
        "/about/.hidden",
        "/link",
        "/up/",
        "/about/none",
        "/none/",
        "/" + "x" * 600,
        "/%ff",
    ],
)
def test_nothing_else_is_served(server: Server, path: str) -> None:
    answer = server.get(path)
    while answer.status in {301, 308}:  # two slashes become one
        answer = server.get(answer.headers["Location"].removeprefix(server.url))
    assert 400 <= answer.status < 500
    assert answer.why
    assert b"secret" not in answer.body
    assert b"root:" not in answer.body


def test_a_site_is_only_read(server: Server) -> None:
    for method in ("POST", "PUT", "DELETE"):
        assert server.ask(method, "/index.html", b"x").status == 405


def test_loading_again_stores_what_changed_and_deletes_what_is_gone(
    server: Server, folder: Path
) -> None:
    assert server.said[0] == "6 files: 6 stored, 0 deleted\n"
    server.restart()
    assert server.said[0] == "6 files: 0 stored, 0 deleted\n"
    before = server.get("/").headers["ETag"]
    server.stop()
    (folder / "index.html").write_bytes(b"<h1>new</h1>")
    (folder / "empty.txt").unlink()
    server.start()
    assert server.said[0] == "5 files: 1 stored, 1 deleted\n"
    answer = server.get("/", {"If-None-Match": before})
    assert (answer.status, answer.body) == (200, b"<h1>new</h1>")
    assert server.get("/empty.txt").status == 404


def test_without_a_folder_it_serves_what_the_database_has(tmp_path: Path) -> None:
    public = tmp_path / "public"
    public.mkdir()
    (public / "index.html").write_text("kept")
    with Server("site", public, data=tmp_path / "data"):
        pass
    with Server("site", data=tmp_path / "data") as server:
        assert server.get("/").body == b"kept"


def test_without_anything_it_serves_a_first_page(tmp_path: Path) -> None:
    with Server("site", data=tmp_path) as server:
        assert b"It works" in server.get("/").body


def refused(*arguments: object) -> str:
    """Return the message with which the example refuses to start."""
    command = [sys.executable, "-m", "kvengine.examples.site", "--port", "0", *map(str, arguments)]
    result = subprocess.run(
        command, env=ENVIRONMENT, capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode != 0
    assert "Traceback" not in result.stderr
    return result.stderr


def test_a_file_that_is_too_large_is_named(tmp_path: Path) -> None:
    with (tmp_path / "huge.iso").open("wb") as file:
        file.truncate(26 << 20)
    message = refused(tmp_path)
    assert f"{tmp_path}/huge.iso: " in message
    assert "exceeds" in message


def test_a_name_that_is_no_text_is_named(tmp_path: Path) -> None:
    (Path(str(tmp_path)) / b"\xff".decode(errors="surrogateescape")).write_text("x")
    assert "a key must be text that UTF-8 can encode" in refused(tmp_path)


def test_the_database_may_not_lie_in_the_site(tmp_path: Path) -> None:
    message = refused(tmp_path, "--data", tmp_path / "data")
    assert "the site would show its database" in message
    assert not (tmp_path / "data").exists()
