"""The server starts, answers and stops."""

from tests.server.running import Running


def test_what_no_endpoint_is_for(server: Running) -> None:
    assert server.http.get("/nowhere").status_code == 404
