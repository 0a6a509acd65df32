"""What tests of the server share."""

from collections.abc import Iterator

import pytest

from tests.server.running import Running, running


@pytest.fixture
def server() -> Iterator[Running]:
    """A server with strict limits, but without a limit on how often a key is written."""
    with running() as found:
        yield found
