"""Access tokens: issued, checked on each request, revoked at once, ended by time, stored hashed."""

from collections.abc import Iterator
from time import monotonic, sleep

import pytest

import kvengine
from tests.examples.server import ADMIN, Answer, Server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server("tokens", data=tmp_path_factory.mktemp("tokens")) as server:
        yield server


def issue(server: Server, user: str, **asked) -> str:
    answer = server.ask("POST", f"/users/{user}/tokens", {"lifetime": 3600, **asked}, ADMIN)
    assert answer.status == 201, answer.body
    return answer.json["token"]


def me(server: Server, token: str) -> Answer:
    return server.get("/me", {"Authorization": f"Bearer {token}"})


def test_a_token_says_whose_it_is_and_what_for(server: Server) -> None:
    answer = me(server, issue(server, "ada", scopes=["read", "write"]))
    assert (answer.status, answer.json) == (200, {"user": "ada", "scopes": ["read", "write"]})


def test_a_revoked_token_is_refused_at_once(server: Server) -> None:
    token, other = issue(server, "bob"), issue(server, "bob")
    path = f"/users/bob/tokens/{token.split('.')[1]}"
    assert server.ask("DELETE", path, headers=ADMIN).status == 204
    assert me(server, token).status == 401
    assert me(server, other).status == 200
    assert server.ask("DELETE", path, headers=ADMIN).status == 404


def test_all_tokens_of_a_user_are_listed_and_revoked(server: Server) -> None:
    tokens = [issue(server, "eve") for _ in range(3)]
    of_another = issue(server, "eve-2")
    listed = server.get("/users/eve/tokens", ADMIN).json
    assert sorted(entry["number"] for entry in listed) == sorted(t.split(".")[1] for t in tokens)
    assert all(isinstance(entry["expiration"], int) for entry in listed)
    revoked = server.ask("DELETE", "/users/eve/tokens", headers=ADMIN)
    assert revoked.json == {"revoked": 3}
    assert [me(server, token).status for token in tokens] == [401] * 3
    assert me(server, of_another).status == 200


def test_a_token_ends_by_itself(server: Server) -> None:
    token = issue(server, "kim", lifetime=1)
    deadline = monotonic() + 60
    while me(server, token).status == 200:
        assert monotonic() < deadline
        sleep(0.05)
    assert server.get("/users/kim/tokens", ADMIN).json == []


def test_what_is_no_token_is_refused(server: Server) -> None:
    token = issue(server, "joe")
    user, number, secret = token.split(".")
    wrong = secret[:-1] + ("A" if secret[-1] != "A" else "B")
    for guess in (
        "",
        "x",
        f"{user}.{number}.{wrong}",
        f"{user}.{number}.",
        f"bob.{number}.{secret}",
        f"{user}.{'0' * 16}.{secret}",
        token + "x",
        token * 100,
        "\xff",
    ):
        answer = me(server, guess)
        assert (answer.status, answer.json) == (401, {"error": "no valid token"})
        assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert server.get("/me").status == 401
    assert me(server, token).status == 200


@pytest.mark.parametrize(
    "headers", [{}, {"Authorization": "Bearer "}, {"Authorization": "Bearer \xe9"}]
)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_only_the_admin_may_issue_list_and_revoke(
    server: Server, method: str, headers: dict[str, str]
) -> None:
    answer = server.ask(method, "/users/ada/tokens", {"lifetime": 60}, headers)
    assert answer.status == 401
    assert "admin's token" in answer.why


def test_a_users_token_is_no_admins_token(server: Server) -> None:
    user = {"Authorization": f"Bearer {issue(server, 'mallory')}"}
    assert server.get("/users/ada/tokens", user).status == 401


@pytest.mark.parametrize(
    ("user", "sent", "status", "why"),
    [
        ("ada", {}, 400, "lifetime"),
        ("ada", {"lifetime": None}, 400, "lifetime"),  # else it would never end
        ("ada", {"lifetime": 0}, 400, "lifetime"),
        ("ada", {"lifetime": -1}, 400, "lifetime"),
        ("ada", {"lifetime": 1.5}, 400, "lifetime"),
        ("ada", {"lifetime": "60"}, 400, "lifetime"),
        ("ada", {"lifetime": True}, 400, "lifetime"),
        ("ada", {"lifetime": 30 * 24 * 3600 + 1}, 400, "lifetime"),
        ("ada", [60], 400, "lifetime"),
        ("ada", b"{", 400, "lifetime"),
        ("ADA", {"lifetime": 60}, 400, "a user must match"),
        ("a.b", {"lifetime": 60}, 400, "a user must match"),
        ("a" * 65, {"lifetime": 60}, 400, "a user must match"),
        ("ada", {"lifetime": 60, "scopes": "x" * 2000}, 413, "Metadata length"),
        ("ada", b" " * 70_000, 413, "exceeds the capacity limit"),
    ],
)
def test_bad_input(server: Server, user: str, sent: object, status: int, why: str) -> None:
    answer = server.ask("POST", f"/users/{user}/tokens", sent, ADMIN)
    assert answer.status == status
    assert why in answer.why


def test_the_database_has_no_secret_and_a_restart_keeps_the_tokens(server: Server) -> None:
    token, revoked = issue(server, "zoe"), issue(server, "zoe")
    server.ask("DELETE", f"/users/zoe/tokens/{revoked.split('.')[1]}", headers=ADMIN)
    server.stop()
    assert server.data is not None
    with kvengine.open(server.data) as db:
        kv = db.namespace("tokens")
        assert all(info.expiration for info in kv.keys(""))
    stored = b"".join(path.read_bytes() for path in server.data.iterdir())
    assert b"zoe" in stored
    assert token.split(".")[2].encode() not in stored
    server.start()
    assert me(server, token).status == 200
    assert me(server, revoked).status == 401
