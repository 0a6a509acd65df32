"""The arguments and results of calls to a server, as they are sent.

Invariants:

* What can be sent is sent, and judged by the server; what can't is refused here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from kvengine.client.packing import pack
from kvengine.errors import InvalidRequest
from kvengine.namespace.interface.results import KeyDetails, KeyInfo, ListResult, ValueWithMetadata
from kvengine.namespace.limits import Limits
from kvengine.namespace.transfer.pairs import PAIR_FIELDS, key_of, located
from kvengine.namespace.values import ValueStream, encode_value

DEFAULTS = {"atomic": True, "reverse": False, "initial": 0, "must_exist": False}  # else None


def given(**named: Any) -> dict[str, Any]:
    """Return the arguments that are not the defaults, which the server knows."""
    return {
        name: value
        for name, value in named.items()
        if type(value) is not type(DEFAULTS.get(name)) or value != DEFAULTS.get(name)
    }


def keys_sent(key: Any) -> Any:
    """Return one key as it is, keys as a list."""
    if isinstance(key, (str, bytes, bytearray)) or not hasattr(key, "__iter__"):
        return key
    return list(key)


def pairs_sent(limits: Limits, pairs: Iterable[Any]) -> Iterator[Any]:
    """Yield pairs with values that can be sent; what else is wrong the server says.

    Raises:
        InvalidRequest: a stream is too long, or gives no bytes; the error says which.
    """
    for index, item in enumerate(pairs):
        try:
            yield pair_sent(limits, item)
        except InvalidRequest as error:
            raise located(error, f"index {index}", key_of(item)) from None


def pair_sent(limits: Limits, item: Any) -> Any:
    if isinstance(item, Mapping):
        if "value" not in item:
            return dict(item)
        return {**item, "value": value_sent(limits, item["value"])}
    if isinstance(item, (tuple, list)) and len(item) == len(PAIR_FIELDS[:2]):
        return [item[0], value_sent(limits, item[1])]
    return item


def value_sent(limits: Limits, value: Any) -> Any:
    if hasattr(value, "read"):
        return bytes(encode_value(limits, value, None, None))
    if not isinstance(value, (str, bytes)):
        try:
            return bytes(memoryview(value).cast("B"))
        except TypeError:
            pack(value)  # raises if it can't be sent; else the server refuses it
    return value


def type_name(value: Any) -> str:
    return type(value).__name__


# -- answers


def as_it_is(answer: Any) -> Any:
    return answer


def nothing(answer: Any) -> None:
    pass


def is_there(answer: Any) -> bool:
    return answer is not None


def seconds_read(answer: Any) -> float | None:
    return None if answer is None else float(answer)


def details_read(answer: Any) -> KeyDetails | None:
    return None if answer is None else KeyDetails(*answer)


def page_read(answer: Any) -> ListResult:
    keys, complete, after, folders = answer
    return ListResult([KeyInfo(*one) for one in keys], complete, after, tuple(folders))


def values_read(key: Any, type: str) -> Callable[[Any], Any]:
    """Return what reads the answer of a get() of one key, or of many."""
    if type != "stream":
        return as_it_is
    return _streamed if isinstance(key, str) else lambda answer: _each(_streamed, answer)


def described_read(key: Any, type: str) -> Callable[[Any], Any]:
    """Return what reads the answer of a get_with_metadata() of one key, or of many."""

    def described(found: list[Any]) -> ValueWithMetadata:
        one = ValueWithMetadata(*found)
        return one._replace(value=_streamed(one.value)) if type == "stream" else one

    return described if isinstance(key, str) else lambda answer: _each(described, answer)


def _streamed(value: bytes | None) -> ValueStream | None:
    return None if value is None else ValueStream(memoryview(value))


def _each(read: Callable[[Any], Any], answer: dict[str, Any]) -> dict[str, Any]:
    return {name: None if one is None else read(one) for name, one in answer.items()}
