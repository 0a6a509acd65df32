"""All interleavings of processes that write and join, with kills: see sharing_model.py."""

import pytest

from tests.processes.sharing_model import Wrong, explore

MISTAKES = (
    "no barrier",
    "who joins does not wait",
    "nobody looks whether the other one died",
    "who is inside does not look again",
)


@pytest.mark.parametrize(
    ("processes", "writes", "kills"), [(2, 3, 0), (2, 2, 1), (3, 1, 1), (3, 2, 0), (3, 1, 2)]
)
def test_never_do_two_write_at_a_time_and_nobody_waits_for_ever(processes, writes, kills):
    assert explore(processes, writes, kills) > 100


@pytest.mark.parametrize("mistake", MISTAKES)
def test_the_search_finds(mistake):
    with pytest.raises(Wrong):
        explore(2, 2, 1, mistake)
