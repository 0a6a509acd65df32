"""KVENGINE_FOREIGN=1: every test runs with foreign code inside, and finds nothing of it.

The collector runs at almost every object that is made, each time calls back into every open store
(and into whatever a test suite adds with also()), and threads are switched as often as possible.
What comes in takes the writer's lock and looks keys up, but leaves everything as it is: so a test
that is right without it is right with it.  It shows code that runs between a lookup and the use of
what was found, or under a lock that it wants itself: the suite of the engine hangs or fails then.

    KVENGINE_FOREIGN=1 pytest tests/engine/test_store_model.py tests/cache/test_cache.py
"""

import gc
import sys
from collections.abc import Callable, Iterator

import pytest

from kvengine import KvError
from kvengine.engine.store import Store
from kvengine.file import system

ABSENT = b"\xff\xfe no store of a test has this key"
NO_VERSION = (1 << 48) - 1  # no key has it, so a put that asks for it changes nothing
EVERY = 40  # collections for one visit

_others: list[Callable[[], None]] = []
_mistakes: list[str] = []
_state = {"busy": False, "turns": 0}


def also(visit: Callable[[], None]) -> None:
    """Call this, too, wherever foreign code may come in; it must leave everything as it is."""
    _others.append(visit)


def _visit_stores() -> None:
    for reference, _ in list(system._at_exit.values()):  # whoever is open
        store = reference()
        if type(store) is not Store:
            continue
        try:
            store.get(ABSENT)
            store.delete(ABSENT)
            store.put(ABSENT, b"", if_version=NO_VERSION)
        except (KvError, OSError):  # closed, read-only, busy, failing on purpose
            continue


def _come_in(phase: str, _info: dict[str, int]) -> None:
    if phase != "start" or _state["busy"]:
        return
    _state["turns"] += 1
    if _state["turns"] % EVERY:
        return
    _state["busy"] = True
    try:
        _visit_stores()
        for visit in _others:
            visit()
    except Exception as error:  # noqa: BLE001  # the collector would only print it
        _mistakes.append(repr(error))
    finally:
        _state["busy"] = False


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Let foreign code in while a test runs; fail it for what that code met."""
    thresholds, interval = gc.get_threshold(), sys.getswitchinterval()
    gc.callbacks.append(_come_in)
    gc.set_threshold(2, 50, 1000)
    sys.setswitchinterval(1e-5)
    try:
        result = yield
    finally:
        sys.setswitchinterval(interval)
        gc.set_threshold(*thresholds)
        gc.callbacks.remove(_come_in)
    mistakes, _mistakes[:] = list(_mistakes), []
    assert not mistakes, f"foreign code inside {item.name}: {mistakes[:3]}"
    return result
