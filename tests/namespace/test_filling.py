"""Of all who miss a value at once one makes it; what it returns is what a later read gives."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvengine import Database, InvalidRequest, InvalidType
from kvengine.testing.clock import ManualClock

JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text()),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(), inner)),
    max_leaves=5,
)


@pytest.fixture
def kv():
    with Database.in_memory(clock=ManualClock(1000.0)) as db:
        yield db.namespace("a")


def test_a_value_is_made_once_and_kept_with_its_options(kv):
    calls = []

    def make():
        calls.append(1)
        return "made"

    for _ in range(3):
        options = {"expiration_ttl": 60, "metadata": {"by": "test"}}
        assert kv.get_or_set("k", make, **options) == "made"
    assert len(calls) == 1
    assert kv.get_metadata("k").expiration == 1060
    assert kv.get_metadata("k").metadata == {"by": "test"}
    kv._store._parts.options.clock.advance(60)
    kv.get_or_set("k", make)
    assert len(calls) == 2


@given(value=JSON)
def test_made_and_read_back_are_equal(value):
    with Database.in_memory() as db:
        kv = db.namespace("a")
        made = kv.get_or_set("k", lambda: value, type="json")
        assert made == kv.get_or_set("k", lambda: 1 / 0, type="json") == kv.get("k", "json")


def test_none_is_a_value_of_json(kv):
    assert kv.get_or_set("k", lambda: None, type="json") is None
    assert kv.get_or_set("k", lambda: 1 / 0, type="json") is None
    with pytest.raises(InvalidType):
        kv.get_or_set("text", lambda: None)


def test_tuples_come_back_as_lists_at_once(kv):
    assert kv.get_or_set("k", lambda: (1, 2), type="json") == [1, 2]


def test_of_many_threads_one_makes_the_value(kv):
    calls, go = [], threading.Event()

    def make():
        calls.append(1)
        go.wait(30)
        return "made"

    found = []
    threads = [
        threading.Thread(target=lambda: found.append(kv.get_or_set("k", make))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    while not calls:
        pass
    go.set()
    for thread in threads:
        thread.join(30)
    assert (found, len(calls)) == (["made"] * 8, 1)


def test_an_exception_reaches_all_who_wait_and_stores_nothing(kv):
    started, go = threading.Event(), threading.Event()

    def make():
        started.set()
        go.wait(30)
        raise ZeroDivisionError

    found = []

    def ask():
        try:
            kv.get_or_set("k", make)
        except ZeroDivisionError as error:
            found.append(error)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    started.wait(30)
    go.set()
    for thread in threads:
        thread.join(30)
    assert len(found) == 4
    assert kv.get("k") is None
    assert kv.get_or_set("k", lambda: "later") == "later"


def test_a_maker_that_needs_itself_is_an_error(kv):
    with pytest.raises(InvalidRequest, match="recursive get_or_set"):
        kv.get_or_set("k", lambda: kv.get_or_set("k", lambda: "x"))


def test_streams_are_no_type_of_a_value_that_is_made(kv):
    with pytest.raises(InvalidRequest, match="must be one of"):
        kv.get_or_set("k", lambda: "x", type="stream")


# -- memoize


def test_equal_arguments_give_one_call_however_they_are_passed(kv):
    calls = []

    @kv.memoize()
    def area(width, height=2, *, unit="m"):
        """Multiply."""
        calls.append(width)
        return {"area": width * height, "unit": unit}

    assert area(3) == area(width=3) == area(3, 2, unit="m") == {"area": 6, "unit": "m"}
    assert calls == [3]
    assert area(4)["area"] == 8
    assert (area.__name__, area.__doc__) == ("area", "Multiply.")
    area.forget(3)
    area(3)
    assert calls == [3, 4, 3]


def test_long_arguments_become_a_digest(kv):
    @kv.memoize(type="text")
    def echo(text):
        return text

    long = "x" * 5000
    assert echo(long) == echo(long) == long
    assert echo(long + "y") == long + "y"
    assert all(len(info.name) <= 512 for info in kv.list().keys)


def test_a_key_of_ones_own(kv):
    @kv.memoize(key=lambda user: f"user:{user['id']}")
    def name(user):
        return user["name"]

    assert name({"id": 1, "name": "Ada"}) == "Ada"
    assert name({"id": 1, "name": "Eve"}) == "Ada"
    assert kv.get("user:1", "json") == "Ada"


def test_what_can_not_be_a_key_is_refused(kv):
    @kv.memoize()
    def size(thing):
        return len(thing)

    with pytest.raises(InvalidType, match="pass key= to memoize"):
        size({1, 2})
    with pytest.raises(InvalidType, match="callable"):
        kv.memoize(key="k")(len)


def test_async_functions_are_for_the_async_namespace(kv):
    with pytest.raises(InvalidType, match=r"kvengine\.aio"):

        @kv.memoize()
        async def later():
            return 1


def test_a_value_in_place_of_a_function_is_refused(kv):
    kv.put("there", "x")
    for key in ("there", "absent"):
        with pytest.raises(InvalidType, match=r"make must be a function that returns .*, not int"):
            kv.get_or_set(key, 5)
