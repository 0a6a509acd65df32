"""Many processes write to one store, and are killed and stopped at random moments.

What they wrote down of their calls must fit one order of all changes, in which nothing is lost.
Set KVENGINE_LONG=1 for 10,000 kills.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kvengine import Store
from kvengine.testing.check import check_store
from tests.processes.faces import STORE_GROUPS
from tests.processes.histories import OPTIONS, read_all
from tests.processes.history_check import Check, check_numbers
from tests.processes.recording import load

LONG = os.environ.get("KVENGINE_LONG") == "1"
ROOT = Path(__file__).parent.parent.parent
KILLS = 25
ROUNDS = 50 if LONG else 1
STORE, DATABASE = ["store", "store", "store reader"], ["database", "aio", "database reader"]
SETTINGS = [
    {"processes": 2, "threads": 1, "kinds": STORE},
    {"processes": 2, "threads": 3, "kinds": STORE},
    {"processes": 3, "threads": 2, "kinds": DATABASE},
    {"processes": 4, "threads": 1, "kinds": STORE},
    {"processes": 3, "threads": 1, "kinds": ["store"], "is_preloaded": True},
    {"processes": 3, "threads": 2, "kinds": ["database"], "is_preloaded": True},
    {"processes": 6, "threads": 1, "kinds": STORE},
    {"processes": 6, "threads": 2, "kinds": DATABASE},
    {"processes": 4, "threads": 2, "kinds": STORE, "kills": 6, "pause_s": 1.5},  # jobs are done
]


def run_history(folder, **settings):
    """Run a history in a process of its own, and check it; return what there was."""
    command = [sys.executable, "-m", "tests.processes.histories", str(folder), json.dumps(settings)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True, check=False
    )
    stacks = (folder / "store.stacks").read_text()
    assert done.returncode == 0, f"{settings}\n{done.stderr}\n{stacks}"
    numbers = read_all(folder, tuple(settings["kinds"]))
    calls = load(folder)
    counts = Check(calls).run()
    check_numbers(calls, numbers)
    generation = check_derived(folder / "store", settings["kinds"][0] == "store")
    return {**counts, "generation": generation}


def check_derived(path, has_groups):
    """What was kept from change to change is what the log gives from its beginning.

    Return how often jobs have replaced the manifest.
    """
    options = {**OPTIONS, "durability": "os", "compaction": "manual"}
    groups = STORE_GROUPS if has_groups else (b"d", 5)
    found = []
    for rebuild in (False, True):
        with Store(path, rebuild=rebuild, groups=groups, **options) as store:
            check_store(store)
            names = {key[: groups[1]] for key in store.keys(groups[0])}
            sizes = {name: store.group_size(name) for name in names}
            found.append((store.digest(moment=0), sizes))
            generation = store._parts.manifest.generation
    assert found[0] == found[1]
    return generation


@pytest.mark.parametrize("turn", range(ROUNDS))
@pytest.mark.parametrize("settings", SETTINGS)
def test_all_processes_see_one_order(tmp_path, settings, turn):
    counts = run_history(tmp_path, **{"kills": KILLS, "seed": turn, **settings})
    assert counts["writes"] > 100
    if "pause_s" in settings:  # time enough to take over jobs of those that were killed
        assert counts["generation"] > 20
