"""A place to test parts of an edge: time stands still until a test moves it."""

import pytest

from kvengine.testing.world.virtual_time import VirtualTime, WorldClock


@pytest.fixture
def time():
    return VirtualTime()


@pytest.fixture
def clock(time):
    return WorldClock(time)
