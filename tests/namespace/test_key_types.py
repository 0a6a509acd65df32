"""What is no key is refused in the same words by every call."""

import pytest

import kvengine
from kvengine import InvalidType


class Name(str):
    """A str of another class, as frameworks have them."""

    __slots__ = ()


@pytest.fixture
def kv():
    with kvengine.Database.in_memory() as db:
        yield db.namespace("test")


CALLS = {
    "put": lambda kv, key: kv.put(key, "value"),
    "get": lambda kv, key: kv.get(key),
    "get_many": lambda kv, key: kv.get_many([key]),
    "_try_get": lambda kv, key: kv._try_get(key),
    "get_with_metadata": lambda kv, key: kv.get_with_metadata(key),
    "get_metadata": lambda kv, key: kv.get_metadata(key),
    "touch": lambda kv, key: kv.touch(key, expiration_ttl=60),
    "increment": lambda kv, key: kv.increment(key),
    "contains": lambda kv, key: key in kv,
    "delete": lambda kv, key: kv.delete(key),
}


@pytest.mark.parametrize("key", [3, None, b"key"], ids=repr)
@pytest.mark.parametrize("name", CALLS)
def test_another_type_is_refused(kv, name: str, key) -> None:
    with pytest.raises(InvalidType, match="a key must be a str, not"):
        CALLS[name](kv, key)


@pytest.mark.parametrize("name", CALLS)
def test_a_subclass_of_str_is_a_key(kv, name: str) -> None:
    kv.put("1", "1")
    CALLS[name](kv, Name("1"))
