"""Feature flags: asked on every request, changed and killed while the server runs."""

from collections.abc import Iterator

import pytest

from tests.examples.server import ADMIN, Server

FLAG = "/flags/express-checkout"
USERS = [f"user{number}" for number in range(60)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server("flags", data=tmp_path_factory.mktemp("flags")) as server:
        yield server


def change(server: Server, percent: int) -> None:
    answer = server.ask("PUT", FLAG, {"percent": percent}, ADMIN)
    assert (answer.status, answer.json) == (200, {"express-checkout": percent})


def kill(server: Server) -> None:
    answer = server.ask("POST", "/kill", {"reason": "payments fail"}, ADMIN)
    assert (answer.status, answer.json) == (200, {"killed": "payments fail"})


def revive(server: Server) -> None:
    assert server.ask("DELETE", "/kill", headers=ADMIN).status == 204


def express_users(server: Server) -> set[str]:
    return {
        user
        for user in USERS
        if server.get(f"/checkout?user={user}").json == {"checkout": "express"}
    }


def test_a_flag_is_off_until_it_is_set(server: Server) -> None:
    assert server.get("/flags").json == {"killed": None, "percent": {}}
    assert server.get("/checkout?user=ada").json == {"checkout": "classic"}


def test_a_share_of_the_users_has_the_feature_and_nobody_loses_it_when_it_grows(
    server: Server,
) -> None:
    shares = []
    for percent in (0, 30, 60, 100):
        change(server, percent)
        shares.append(express_users(server))
    assert express_users(server) == set(USERS)
    assert shares[0] < shares[1] < shares[2] < shares[3]
    assert 5 <= len(shares[1]) <= 30
    assert 20 <= len(shares[2]) <= 52


def test_the_kill_switch_turns_everything_off_until_it_is_taken_back(server: Server) -> None:
    change(server, 100)
    kill(server)
    assert server.get("/checkout?user=ada").json == {"checkout": "classic"}
    assert server.get("/flags").json == {
        "killed": "payments fail",
        "percent": {"express-checkout": 100},
    }
    revive(server)
    assert server.get("/checkout?user=ada").json == {"checkout": "express"}


@pytest.mark.parametrize(
    ("method", "path", "sent"),
    [("PUT", FLAG, {"percent": 1}), ("POST", "/kill", {"reason": "x"}), ("DELETE", "/kill", None)],
)
def test_only_the_admin_may_change_anything(
    server: Server, method: str, path: str, sent: object
) -> None:
    before = server.get("/flags").json
    for headers in ({}, {"Authorization": "Bearer guess"}, {"Authorization": "\xe9"}):
        answer = server.ask(method, path, sent, headers)
        assert answer.status == 401
        assert "admin's token" in answer.why
    assert server.get("/flags").json == before


@pytest.mark.parametrize(
    ("method", "path", "sent", "why"),
    [
        ("PUT", FLAG, {"percent": 101}, "body.percent: Input should be less than or equal to 100"),
        ("PUT", FLAG, {"percent": -1}, "body.percent: Input should be greater than or equal to 0"),
        ("PUT", FLAG, {"percent": "50"}, "body.percent: Input should be a valid integer"),
        ("PUT", FLAG, {"percent": True}, "body.percent: Input should be a valid integer"),
        ("PUT", FLAG, {}, "body.percent: Field required"),
        ("PUT", FLAG, b"{", "JSON decode error"),
        ("PUT", "/flags/UPPER", {"percent": 1}, "path.name: String should match pattern"),
        ("PUT", f"/flags/{'x' * 65}", {"percent": 1}, "path.name: String should match pattern"),
        ("POST", "/kill", {"reason": "x" * 201}, "body.reason: String should have at most 200"),
        ("POST", "/kill", b'{"reason": "\\ud800"}', "body.reason: Input should be a valid string"),
        ("GET", "/checkout", None, "query.user: Field required"),
    ],
)
def test_bad_input(server: Server, method: str, path: str, sent: object, why: str) -> None:
    before = server.get("/flags").json
    answer = server.ask(method, path, sent, ADMIN)
    assert answer.status == 422
    assert why in answer.why
    assert server.get("/flags").json == before


def test_a_restart_keeps_flags_and_kill_switch(server: Server) -> None:
    change(server, 100)
    kill(server)
    server.restart()
    assert server.get("/flags").json["killed"] == "payments fail"
    assert server.get("/checkout?user=ada").json == {"checkout": "classic"}
    revive(server)
    assert server.get("/checkout?user=ada").json == {"checkout": "express"}
