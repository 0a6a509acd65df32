"""A server, a connection to it, and a database in this process that is used in the same way."""

from collections.abc import Iterator

import pytest

import kvengine
from tests.server.running import TOKEN, Running, running


@pytest.fixture(scope="module", params=["relaxed", "strict"])
def server(request: pytest.FixtureRequest) -> Iterator[Running]:
    with running(limits=request.param) as found:
        yield found


@pytest.fixture(scope="module")
def remote(server: Running) -> Iterator[kvengine.RemoteDatabase]:
    with kvengine.connect(server.url, token=TOKEN) as found:
        yield found
