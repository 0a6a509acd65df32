"""Per-user content and an A/B test: a visitor keeps name and color, the admin sees counts."""

import re
from collections import Counter
from collections.abc import Iterator

import pytest

import kvengine
from kvengine.examples.personal import color_for, draw
from tests.examples.server import ADMIN, Server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server("personal", data=tmp_path_factory.mktemp("personal")) as server:
        yield server


def new_visitor(server: Server) -> dict[str, str]:
    """Return the headers of a visitor who was here once."""
    return {"Cookie": server.get("/").headers["Set-Cookie"].partition(";")[0]}


def change_shares(server: Server, **shares: int) -> None:
    answer = server.ask("PUT", "/experiment", shares, ADMIN)
    assert (answer.status, answer.json) == (200, {"shares": shares})


def test_a_visitor_gets_a_cookie_that_scripts_cannot_read(server: Server) -> None:
    cookie = server.get("/").headers["Set-Cookie"]
    assert re.match(r"visitor=[A-Za-z0-9_-]{22}; ", cookie)
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    assert new_visitor(server) != new_visitor(server)


def test_each_visitor_has_content_of_their_own(server: Server) -> None:
    ada, bob = new_visitor(server), new_visitor(server)
    assert server.ask("PUT", "/profile", {"name": "Ada"}, ada).json == {"name": "Ada"}
    assert server.ask("PUT", "/profile", {"name": "Żółw \U0001f422"}, bob).status == 200
    assert server.get("/", ada).json["greeting"] == "Hello, Ada!"
    assert server.get("/", bob).json["greeting"] == "Hello, Żółw \U0001f422!"
    assert server.get("/").json["greeting"] == "Hello, stranger!"


@pytest.mark.parametrize("cookie", ["", "x", "x" * 23, "a/b" * 7, "x" * 4000])
def test_a_cookie_of_another_form_is_replaced(server: Server, cookie: str) -> None:
    answer = server.get("/", {"Cookie": f"visitor={cookie}"})
    assert answer.status == 200
    assert re.match(r"visitor=[A-Za-z0-9_-]{22}; ", answer.headers["Set-Cookie"])


def test_a_visitor_keeps_the_color_when_the_shares_change(server: Server) -> None:
    change_shares(server, green=100)
    visitor = new_visitor(server)
    change_shares(server, blue=100)
    assert server.get("/", visitor).json["button"] == "green"
    assert server.get("/").json["button"] == "blue"
    server.restart()
    assert server.get("/", visitor).json["button"] == "green"
    assert server.get("/").json["button"] == "blue"


def test_the_experiment_counts_visitors_and_clicks(server: Server) -> None:
    change_shares(server, red=100)
    visitors = [new_visitor(server) for _ in range(3)]
    server.get("/", visitors[0])
    assert server.ask("POST", "/click", headers=visitors[0]).json == {"color": "red", "clicks": 1}
    assert server.ask("POST", "/click", headers=visitors[1]).json == {"color": "red", "clicks": 2}
    shown = server.get("/experiment", ADMIN).json
    assert shown["shares"] == {"red": 100}
    assert (shown["visitors"]["red"], shown["clicks"]["red"]) == (3, 2)


@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_only_the_admin_may_see_and_change_the_experiment(server: Server, method: str) -> None:
    answer = server.ask(method, "/experiment", {"blue": 100}, {"Authorization": "Bearer guess"})
    assert answer.status == 401
    assert "admin's token" in answer.why


@pytest.mark.parametrize(
    ("path", "sent"),
    [
        ("/profile", {}),
        ("/profile", {"name": ""}),
        ("/profile", {"name": "x" * 101}),
        ("/profile", {"name": 1}),
        ("/profile", ["Ada"]),
        ("/profile", b'{"name":'),
        ("/experiment", {}),
        ("/experiment", {"blue": 99}),
        ("/experiment", {"blue": 150, "green": -50}),
        ("/experiment", {"blue": "100"}),
        ("/experiment", {"blue": True, "green": 99}),
        ("/experiment", {"Blue ": 100}),
        ("/experiment", b'{"\\ud800": 100}'),
        ("/experiment", b"[]"),
    ],
)
def test_bad_input(server: Server, path: str, sent: object) -> None:
    visitor = new_visitor(server)
    before = server.get("/", visitor).json, server.get("/experiment", ADMIN).json
    answer = server.ask("PUT", path, sent, {**ADMIN, **visitor})
    assert answer.status == 400
    assert answer.why.startswith("send JSON: {")
    assert (server.get("/", visitor).json, server.get("/experiment", ADMIN).json) == before


def test_a_draw_is_repeatable_and_as_fair_as_the_shares() -> None:
    shares = {"blue": 75, "green": 25, "red": 0}
    visitors = [f"visitor{number}" for number in range(2000)]
    counts = Counter(draw(shares, visitor) for visitor in visitors)
    assert counts == Counter(draw(shares, visitor) for visitor in visitors)
    assert set(counts) == {"blue", "green"}
    assert 1400 < counts["blue"] < 1600


def test_when_another_request_draws_at_the_same_time_both_see_its_color() -> None:
    with kvengine.Database.in_memory() as db:
        kv = db.namespace("experiment")

        class Beside:
            """The namespace; another request draws while this one looks at the shares."""

            put = kv.put

            def get(self, key: str, type: str = "text") -> object:  # noqa: A002
                if key == "shares":
                    kv.put("color/ada", "purple", metadata={"color": "purple"})
                return kv.get(key, type)

        assert color_for(Beside(), "ada") == "purple"
        assert kv.get("color/ada") == "purple"
