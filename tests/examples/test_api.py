"""The API of notes: create, read, list, and no change by who has not seen the last one."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.examples.server import Answer, Server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server("api", data=tmp_path_factory.mktemp("api")) as server:
        yield server


@pytest.fixture
def note(server: Server) -> Answer:
    """The answer to the creation of a note."""
    answer = server.ask("POST", "/notes", {"title": "Milk", "text": "two bottles"})
    assert answer.status == 201
    return answer


def seen(answer: Answer) -> dict[str, str]:
    return {"If-Match": answer.headers["ETag"]}


def test_a_new_note_is_where_the_answer_says(server: Server, note: Answer) -> None:
    read = server.get(note.headers["Location"])
    assert (read.status, read.json) == (200, note.json)
    assert read.json == {"id": note.json["id"], "title": "Milk", "text": "two bottles"}
    assert read.headers["ETag"] == note.headers["ETag"]


def test_a_change_by_who_has_seen_the_last(server: Server, note: Answer) -> None:
    path = note.headers["Location"]
    changed = server.ask("PUT", path, {"title": "Eggs"}, seen(note))
    assert (changed.status, changed.json["title"], changed.json["text"]) == (200, "Eggs", "")
    assert changed.headers["ETag"] != note.headers["ETag"]
    assert server.get(path).json == changed.json
    assert server.get(path).headers["ETag"] == changed.headers["ETag"]
    again = server.ask("PUT", path, {"title": "Ham"}, seen(changed))
    assert again.status == 200


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_no_change_by_who_has_not(server: Server, note: Answer, method: str) -> None:
    path = note.headers["Location"]
    changed = server.ask("PUT", path, {"title": "Eggs"}, seen(note))
    answer = server.ask(method, path, {"title": "Ham"}, seen(note))
    assert answer.status == 412
    assert answer.why == "another client changed the note; read it again"
    assert server.get(path).json == changed.json


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_who_changes_must_say_what_was_seen(server: Server, note: Answer, method: str) -> None:
    path = note.headers["Location"]
    answer = server.ask(method, path, {"title": "Ham"})
    assert (answer.status, answer.why[:13]) == (428, "send If-Match")
    for other in ("*", "12", '"0"', '"-1"', '"x"', 'W/"12"', '"' + "9" * 19 + '"', '"\xb2"', ""):
        answer = server.ask(method, path, {"title": "Ham"}, {"If-Match": other})
        assert answer.status == 412
        assert "a number in quotes" in answer.why
    assert server.get(path).json == note.json


def test_of_many_who_saw_the_same_one_changes(server: Server, note: Answer) -> None:
    path = note.headers["Location"]
    with ThreadPoolExecutor(8) as pool:
        answers = list(
            pool.map(
                lambda number: server.ask("PUT", path, {"title": f"by {number}"}, seen(note)),
                range(16),
            )
        )
    winners = [answer for answer in answers if answer.status == 200]
    assert sorted(answer.status for answer in answers) == [200] + [412] * 15
    assert server.get(path).json == winners[0].json


def test_a_deleted_note_is_gone(server: Server, note: Answer) -> None:
    path = note.headers["Location"]
    assert server.ask("DELETE", path, headers=seen(note)).status == 204
    assert server.get(path).status == 404
    for method in ("PUT", "DELETE"):
        answer = server.ask(method, path, {"title": "Ham"}, seen(note))
        assert (answer.status, answer.why) == (404, "there is no such note")


def test_a_note_cannot_be_made_under_a_chosen_id(server: Server) -> None:
    for if_match in ('"0"', '"1"'):
        answer = server.ask("PUT", "/notes/mine", {"title": "Ham"}, {"If-Match": if_match})
        assert answer.status in {404, 412}
    assert server.get("/notes/mine").status == 404


def test_the_list_has_titles_page_by_page(server: Server) -> None:
    made = {server.ask("POST", "/notes", {"title": f"note {n}"}).json["id"]: n for n in range(5)}
    found, cursor = [], ""
    while True:
        page = server.get(f"/notes?limit=2{cursor}").json
        assert len(page["notes"]) <= 2
        found += page["notes"]
        if page["cursor"] is None:
            break
        cursor = f"&cursor={page['cursor']}"
    titles = {entry["id"]: entry["title"] for entry in found}
    assert len(titles) == len(found)
    assert {key: titles[key] for key in made} == {key: f"note {n}" for key, n in made.items()}


@pytest.mark.parametrize(
    ("method", "path", "sent", "status", "why"),
    [
        ("POST", "/notes", {}, 422, "body.title: Field required"),
        ("POST", "/notes", {"title": ""}, 422, "at least 1 character"),
        ("POST", "/notes", {"title": "x" * 151}, 422, "at most 150 characters"),
        ("POST", "/notes", {"title": 1}, 422, "body.title: Input should be a valid string"),
        ("POST", "/notes", {"title": "x", "text": "x" * 100_001}, 422, "at most 100000"),
        ("POST", "/notes", b'{"title": "\\ud800"}', 422, "body.title: Input should be"),
        ("POST", "/notes", b'{"title"', 422, "JSON decode error"),
        ("POST", "/notes", b"[]", 422, "body"),
        ("GET", "/notes?limit=0", None, 422, "query.limit"),
        ("GET", "/notes?limit=x", None, 422, "query.limit"),
        ("GET", "/notes?cursor=damaged", None, 400, "cursor: it is damaged"),
        ("GET", "/notes/none", None, 404, "there is no such note"),
        ("GET", "/notes/" + "x" * 600, None, 414, "exceeds key length limit of 512"),
        ("GET", "/notes/%2e%2e", None, 400, "is not allowed as a key name"),
    ],
)
def test_bad_input(
    server: Server, method: str, path: str, sent: object, status: int, why: str
) -> None:
    answer = server.ask(method, path, sent)
    assert answer.status == status
    assert why in answer.why


def test_the_longest_title_and_text_are_kept(server: Server) -> None:
    sent = {"title": "\x01" * 150, "text": "\U0001f422" * 100_000}  # six bytes each in metadata
    answer = server.ask("POST", "/notes", sent)
    assert answer.status == 201
    assert server.get(answer.headers["Location"]).json == {"id": answer.json["id"], **sent}


def test_a_restart_keeps_notes_and_etags(server: Server, note: Answer) -> None:
    server.restart()
    assert server.get(note.headers["Location"]).json == note.json
    changed = server.ask("PUT", note.headers["Location"], {"title": "Eggs"}, seen(note))
    assert changed.status == 200
