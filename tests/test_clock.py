"""The clock of the system is read without Python, unless somebody has put another in its place.

Programs test what expires with freezegun, which replaces time.time, or with time-machine, which
replaces the C function behind it; both must work on a store, opened before or after.
"""

import ctypes
import time

import pytest

from kvengine import InvalidRequest, Store
from kvengine.clock import SystemClock
from kvengine.testing.clock import ManualClock

FUTURE = 4e9
Function = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_void_p)


def replace_name(monkeypatch, moment):
    monkeypatch.setattr(time, "time", lambda: moment)


def replace_code(monkeypatch, moment):
    """Do what time-machine does: another C function in the definition of the built-in one."""
    pointer = ctypes.POINTER(ctypes.c_void_p)
    definition = ctypes.cast(id(time.time), pointer)[2]
    fake = Function(lambda _module, _arguments: moment)

    class Code:
        """The place of the function, as an attribute."""

        kept = fake

        @property
        def function(self):
            return ctypes.cast(definition, pointer)[1]

        @function.setter
        def function(self, code):
            ctypes.cast(definition, pointer)[1] = code

    monkeypatch.setattr(Code(), "function", ctypes.cast(fake, ctypes.c_void_p).value)


REPLACE = [replace_name, replace_code]


def check_is_at(store: Store, moment: float) -> None:
    """Everything that asks for the time gets this one."""
    with pytest.raises(InvalidRequest, match="future"):
        store.put(b"new", b"", expires_at=moment - 1)
    store.put(b"new", b"", expires_at=moment + 60)
    is_there = moment < FUTURE
    assert (store.get(b"k") is not None) == is_there
    assert (store.get_many([b"k"]) != [None]) == is_there
    assert (b"k" in store) == is_there
    assert (store.get_entry(b"k") is not None) == is_there
    assert (store.get_view(b"k") is not None) == is_there
    assert (b"k" in list(store.keys())) == is_there
    assert (b"k" in [entry.key for entry in store.scan()]) == is_there


@pytest.mark.parametrize("replace", REPLACE)
def test_a_clock_that_was_put_in_the_place_of_the_real_one(replace):
    with Store.in_memory() as store:
        store.put(b"k", b"v", expires_at=FUTURE)
        real = time.time()
        for moment in (FUTURE + 5, 1e9, FUTURE - 5):
            with pytest.MonkeyPatch.context() as patch:
                replace(patch, moment)
                assert time.time() == moment
                check_is_at(store, moment)
                with Store.in_memory() as other:  # opened meanwhile
                    other.put(b"k", b"v", expires_at=max(FUTURE, moment + 1))
                    assert other.get(b"k") == b"v"
            assert real <= time.time() < FUTURE
            check_is_at(store, time.time())
        with pytest.MonkeyPatch.context() as patch:
            replace(patch, FUTURE + 5)
            assert store.delete(b"k") == 0  # it has expired
        assert store.delete(b"k") != 0


def test_the_real_clock_runs():
    with Store.in_memory() as store:
        store.put(b"k", b"v", expires_at=time.time() + 0.05)
        assert store.get(b"k") == b"v"
        time.sleep(0.06)
        assert store.get(b"k") is None
        assert store.delete(b"k") == 0


def test_a_clock_of_its_own_is_asked():
    class Hour(SystemClock):
        def time(self) -> float:
            return super().time() + 3600

    for clock in (Hour(), ManualClock(time.time() + 3600)):
        with Store.in_memory(clock=clock) as store:
            with pytest.raises(InvalidRequest, match="future"):
                store.put(b"k", b"v", expires_at=time.time() + 1800)
            store.put(b"k", b"v", expires_at=time.time() + 5400)
            assert store.get(b"k") == b"v"


def test_a_system_clock_that_was_changed_is_asked(monkeypatch):
    monkeypatch.setattr(SystemClock, "time", lambda _self: FUTURE)
    with Store.in_memory() as store:
        check_is_at(store, FUTURE)
