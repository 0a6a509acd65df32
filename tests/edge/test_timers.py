"""Timers call in order, go on after a failure, and call nothing after they were closed."""

import threading

from kvengine.edge.timers import Timers


def test_calls_come_in_the_order_of_their_time():
    timers, called, done = Timers("test"), [], threading.Event()
    timers.begin()
    timers.later(0.05, done.set)
    timers.later(0.02, lambda: called.append("second"))
    timers.later(0.0, lambda: called.append("first"))
    timers.later(0.02, lambda: called.append("third"))
    assert done.wait(10)
    assert called == ["first", "second", "third"]
    timers.close()


def test_a_call_that_fails_is_logged_and_the_next_one_comes(caplog):
    timers, done = Timers("test"), threading.Event()
    timers.begin()
    timers.later(0.0, lambda: 1 / 0)
    timers.later(0.0, done.set)
    assert done.wait(10)
    timers.close()
    assert "a timer callback of test failed" in caplog.text


def test_nothing_is_called_after_close():
    timers, called = Timers("test"), []
    timers.begin()
    timers.later(0.05, lambda: called.append(1))
    timers.close()
    timers.later(0.0, lambda: called.append(2))
    timers.close()
    assert called == []
    assert not [t for t in threading.enumerate() if t.name == "test"]


def test_a_call_may_close_them():
    timers, done = Timers("test"), threading.Event()
    timers.begin()

    def close():
        timers.close()
        done.set()

    timers.later(0.0, close)
    assert done.wait(10)
