"""The arguments and results of calls to a server, as they are sent.

Invariants:

* What can be sent is sent, and judged by the server; what can't is refused here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kvengine.client.packing import pack
from kvengine.namespace.results import ValueWithMetadata
from kvengine.namespace.transfer.pairs import PAIR_FIELDS
from kvengine.namespace.values import ValueStream

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


def streamed(value: bytes | None) -> ValueStream | None:
    return None if value is None else ValueStream(memoryview(value))


def described(found: list[Any], type: str) -> ValueWithMetadata:
    one = ValueWithMetadata(*found)
    return one._replace(value=streamed(one.value)) if type == "stream" else one


def pair_sent(item: Any) -> Any:
    """Return a pair with a value that can be sent; what else is wrong the server says."""
    if isinstance(item, Mapping):
        return {**item, "value": value_sent(item["value"])} if "value" in item else dict(item)
    if isinstance(item, (tuple, list)) and len(item) == len(PAIR_FIELDS[:2]):
        return [item[0], value_sent(item[1])]
    return item


def value_sent(value: Any) -> Any:
    if isinstance(value, (str, bytes)):
        return value
    if hasattr(value, "read"):
        return value.read()
    try:
        return bytes(memoryview(value))
    except TypeError:
        pack(value)  # raises if it can't be sent; else the server refuses it
        return value


def type_name(value: Any) -> str:
    return type(value).__name__
