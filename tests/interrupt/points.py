"""One interruption of one call, and what must hold afterwards.

Invariants:

* The live object shows a state from before or after the call, and goes on working, or says why not
  with an error of kvengine; a reopen shows what the live object showed; so does one that rebuilds
  the index from the log.
* No lock, descriptor or thread is left behind.
"""

import contextlib
import gc
import os
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

from kvengine import KvError, Store, StoreReadOnly
from kvengine.testing.check import check_store
from kvengine.testing.interrupting import ERRORS, Interruption, count_points, spread
from tests.interrupt.scenarios import SMALL, Scenario, State, content, copy_of

LONG = bool(os.environ.get("KVENGINE_LONG"))
TRIED: Counter[str] = Counter()  # points that were interrupted, by kind


def points_of(call: Any, most: int, *, opcodes: bool = False) -> Any:
    """Yield (point, error) for each point of a call that is to be interrupted."""
    total = count_points(call, opcodes=opcodes)
    for at in range(1, total + 1) if LONG else spread(total, most):
        for error in ERRORS if LONG else [ERRORS[at % len(ERRORS)]]:
            yield at, error


def check_kind(raised: BaseException | None, error: type[BaseException], where: str) -> None:
    """A call that was interrupted raises what interrupted it, or an error of kvengine."""
    assert raised is None or isinstance(raised, error | KvError), f"{where}: raised {raised!r}"


def check_going_on(store: Store, where: str) -> State:
    """The store works, or is read-only with a cause; return what it holds."""
    state = content(store)
    try:
        store.put(b"~probe", b"1")
        assert store.get(b"~probe") == b"1", where
        store.delete(b"~probe")
    except StoreReadOnly as refusal:
        assert refusal.cause is not None, f"{where}: {refusal}"
    check_store(store)
    assert content(store) == state, where
    return state


def check_reopened(path: Path, expected: State, where: str, **options: Any) -> None:
    with Store(path, **SMALL, **options) as store:
        found = content(store)
        assert found == expected, (
            f"{where}: reopened with {options}: {differences(found, expected)}"
        )
        check_store(store)


def differences(found: State, expected: State) -> dict[bytes, Any]:
    keys = found.keys() | expected.keys()
    return {
        key: (found.get(key), expected.get(key))
        for key in keys
        if found.get(key) != expected.get(key)
    }


def interrupt_store(
    template: Path,
    folder: Path,
    scenario: Scenario,
    at: int,
    error: type[BaseException],
    **kind: Any,
) -> None:
    """Interrupt a call on an open store, then look at everything."""
    path = copy_of(template, folder / "store")
    store = Store(path, **SMALL)
    begun = scenario.begin(store)
    before = content(store)
    interruption = Interruption(at, error, **kind)
    raised = interruption.run(lambda: scenario.act(store, begun))
    where = f"{scenario.name}, point {at}, {error.__name__} at {interruption.place}"
    check_kind(raised, error, where)
    state = check_going_on(store, where)
    assert scenario.allows(before, state), f"{where}: {differences(state, before)}"
    if raised is None and scenario.after is not None:
        assert state == scenario.after(dict(before)), f"{where}: returned, and was not done"
    store.close()
    check_reopened(path, state, where)
    check_reopened(path, state, where, rebuild=True)


def open_files(folder: Path) -> set[str]:
    """Return the files in a folder that this process has open."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found.add(os.readlink(f"/proc/self/fd/{name}"))
    return {path for path in found if path.startswith(str(folder))}


EARLIER: set[threading.Thread] = set()  # what tests that failed before have left


def check_nothing_leaks(folder: Path, where: str) -> None:
    """Nothing of a store that is gone is open, and none of its threads runs."""
    gc.collect()
    end = time.monotonic() + 10  # a job that was under way may hold the store for a moment
    while open_files(folder) and time.monotonic() < end:
        time.sleep(0.01)
    assert open_files(folder) == set(), f"{where}: {open_files(folder)}"
    names = [thread.name for thread in threading.enumerate() if thread not in EARLIER]
    assert not [name for name in names if name.startswith("kvengine")], where
