"""All interleavings of a few processes that share a store, with kills and power cuts at each step.

The protocol keeps its promises in every state, and each of the mistakes that one could make in it
breaks one of them: so the search does see what is wrong.  Set KVENGINE_LONG=1 for larger scenarios.
"""

import os
import re
from pathlib import Path

import pytest

from tests.processes.lock_model import Wrong
from tests.processes.lock_search import explore
from tests.processes.lock_steps import Scenario

LONG = os.environ.get("KVENGINE_LONG") == "1"
RIGHT = {
    "three processes put": Scenario(processes=3, puts=3),
    "killed at any step": Scenario(puts=3, kills=1, sizes=(2, 1)),
    "killed, and the next one too": Scenario(processes=3, puts=2, kills=2, capacity=1),
    "killed while others wait for the disk": Scenario(puts=3, kills=1, sizes=(1, 2), syncs=True),
    "power is cut after a kill": Scenario(puts=2, kills=1, cuts=1, sizes=(1, 2)),
    "power is cut twice": Scenario(puts=2, cuts=2, sizes=(2, 1), syncs=True),
    "readers without the write lock": Scenario(puts=2, kills=1, readers=1, sizes=(2, 1)),
    "a job beside puts": Scenario(puts=2, jobs=1, kills=1, capacity=1),
    "two claim the lease": Scenario(puts=2, jobs=2, steals=1, capacity=1),
    "a job, a kill and a power cut": Scenario(puts=1, jobs=2, kills=1, cuts=1, steals=1),
}
LARGE = {
    "power is cut after a kill, and more puts": Scenario(puts=3, kills=1, cuts=1, sizes=(1, 2)),
    "a job among three": Scenario(processes=3, puts=2, jobs=1, kills=1, capacity=1),
    "two jobs, killed": Scenario(puts=2, jobs=2, kills=1, steals=1, capacity=1),
    "a compaction, killed and cut": Scenario(puts=2, jobs=2, kills=1, cuts=1, capacity=1),
    "kills and cuts beside syncs": Scenario(puts=3, kills=2, cuts=1, sizes=(2, 1), syncs=True),
}
MISTAKES = {
    "a dead writer's mark is ignored": Scenario(kills=1),
    "a tail is overwritten": Scenario(kills=1, sizes=(1, 2), capacity=4),
    "a segment begins before the mark": Scenario(puts=3, kills=1, sizes=(1, 1, 2), syncs=True),
    "the mark is taken away first": Scenario(kills=1, capacity=3),
    "min_segment is not looked at": Scenario(jobs=1),
    "min_segment is not raised before a header": Scenario(processes=3, kills=1),
    "min_segment is raised without the write lock": Scenario(jobs=1),
    "segments are listed before min_segment is raised": Scenario(jobs=1, capacity=1),
    "the lease is not looked at": Scenario(jobs=2, steals=1, capacity=1),
    "the page must have the generation of the manifest": Scenario(puts=1, jobs=2, kills=1),
    "a job begins with the manifest that it knows": Scenario(puts=1, jobs=2, kills=1),
    "only the active segment is synced": Scenario(capacity=1, syncs=True),
    "the next segment does not wait for one that was taken over": Scenario(
        puts=3, kills=1, sizes=(1, 2, 2)
    ),
    "inputs are removed before the folder is synced": Scenario(processes=1, jobs=2, capacity=1),
    "files above min_segment are taken for those of the dead": Scenario(jobs=1, capacity=1),
    "a segment is named before it is on disk": Scenario(processes=1, jobs=1, capacity=1),
    "a page of another boot is believed": Scenario(cuts=1),
    "the write lock stays with the dead": Scenario(
        kills=1
    ),  # as if it were told by a pid: that is reused
    "readers load the segment before the version": Scenario(kills=1, readers=1),
}


@pytest.mark.parametrize("name", [*RIGHT, *(LARGE if LONG else ())])
def test_every_state_keeps_the_promises(name):
    assert explore({**RIGHT, **LARGE}[name]) > 300


@pytest.mark.parametrize("mistake", MISTAKES)
def test_the_search_finds(mistake):
    scenario = MISTAKES[mistake]
    with pytest.raises(Wrong):
        explore(scenario.with_mistake(mistake))
    if LONG:
        assert explore(scenario) > 30  # and without the mistake all is well


def test_every_mistake_is_tried():
    here = Path(__file__).parent
    text = "".join(
        (here / name).read_text() for name in ("lock_steps.py", "lock_jobs.py", "lock_search.py")
    )
    assert [mistake for mistake in MISTAKES if f'"{mistake}"' not in text] == []
    named = set(re.findall(r'mistake [!=]= "([^"]+)"', text))
    assert named <= set(MISTAKES)
    assert len(named) > 10
