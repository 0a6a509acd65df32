"""An exception at every line of every public call of a store."""

import shutil

import pytest

from kvengine import Store
from kvengine.testing.interrupting import Interruption, count_points
from tests.interrupt.points import (
    LONG,
    TRIED,
    check_kind,
    check_nothing_leaks,
    check_reopened,
    interrupt_store,
    points_of,
)
from tests.interrupt.scenarios import JOBS, READS, SMALL, WRITES, content, copy_of, open_files

MOST = 100  # points of one call in the short form
every_call = pytest.mark.parametrize("scenario", [*WRITES, *JOBS, *READS], ids=lambda s: s.name)


def points_of_scenario(template, folder, scenario, opcodes):
    with Store(copy_of(template, folder / "store"), **SMALL) as store:
        begun = scenario.begin(store)
        yield from points_of(lambda: scenario.act(store, begun), MOST, opcodes=opcodes)


@every_call
@pytest.mark.parametrize(
    "opcodes",
    [
        False,
        pytest.param(
            True, marks=pytest.mark.skipif(not LONG, reason="every instruction: KVENGINE_LONG=1")
        ),
    ],
    ids=["lines", "instructions"],
)
def test_calls_of_an_open_store(template, folder, scenario, opcodes):
    for at, error in list(points_of_scenario(template, folder, scenario, opcodes)):
        interrupt_store(template, folder, scenario, at, error, opcodes=opcodes)
        TRIED["of calls of a store"] += 1
    check_nothing_leaks(folder, scenario.name)


OPENINGS = {
    "new": (False, {}),
    "clean": (True, {}),
    "rebuild": (True, {"rebuild": True}),
    "reader": (True, {"read_only": True}),
    "expiring": (True, {"groups": (b"k", 4)}),
}


@pytest.mark.parametrize("kind", OPENINGS)
def test_open(template, folder, kind):
    exists, options = OPENINGS[kind]
    path = folder / "store"

    def begin():
        if exists:
            copy_of(template, path)
        else:
            shutil.rmtree(path, ignore_errors=True)

    def call():
        Store(path, **SMALL, **options).close()

    begin()
    for at, error in points_of(call, MOST):
        begin()
        interruption = Interruption(at, error)
        raised = interruption.run(call)
        where = f"open {kind}, point {at}, {error.__name__} at {interruption.place}"
        check_kind(raised, error, where)
        raised = None
        check_nothing_leaks(folder, where)
        with Store(template, read_only=True) as model:
            expected = content(model) if exists else {}
        check_reopened(path, expected, where)
        check_reopened(path, expected, where, rebuild=True)
        TRIED["of open"] += 1


@pytest.mark.parametrize("durability", ["group", "os"])
def test_close(template, folder, durability):
    def begin():
        store = Store(copy_of(template, folder / "store"), durability=durability, **SMALL)
        open_files(store, None)
        return store

    with begin() as store:
        expected = content(store)
        pairs = list(points_of(store.close, MOST))
    for at, error in pairs:
        store = begin()
        interruption = Interruption(at, error)
        raised = interruption.run(store.close)
        where = f"close, point {at}, {error.__name__} at {interruption.place}"
        check_kind(raised, error, where)
        raised = None
        store.close()
        assert store.closed, where
        del store
        check_nothing_leaks(folder, where)
        check_reopened(folder / "store", expected, where)
        check_reopened(folder / "store", expected, where, rebuild=True)
        TRIED["of close"] += 1


def test_a_store_that_is_dropped_after_an_interrupted_close_can_be_opened(template, folder):
    def begin():
        store = Store(copy_of(template, folder / "store"), **SMALL)
        open_files(store, None)
        return store

    with begin() as store:
        expected = content(store)
        total = count_points(store.close)
    for at in range(1, total + 1, 1 if LONG else 5):
        store = begin()
        raised = Interruption(at).run(store.close)
        check_kind(raised, KeyboardInterrupt, f"point {at}")
        del store, raised
        check_nothing_leaks(folder, f"dropped after close was interrupted at point {at}")
        check_reopened(folder / "store", expected, f"point {at}")
        TRIED["of close, then dropped"] += 1
