"""Maps the calls of a function to keys of a namespace.

Invariants:

* Calls of different functions, and calls whose arguments have different types or values, have
  different keys: `1`, `1.0`, `True` and `"1"` give four keys, `[1, 2]` and `(1, 2)` two.
* Equal arguments give the same key, however they are passed, in every process.
* A function of a module is identified by its name.  Others (a lambda, a nested function, a method
  of an object, a partial, anything in `__main__`) are identified by their code and their captured
  values: by value if they are immutable, otherwise by object identity in this process.
"""

from __future__ import annotations

import functools
import inspect
import json
import math
import secrets
import types
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any

import xxhash

from kvengine.errors import InvalidRequest, InvalidType, pass_on
from kvengine.namespace.limits import utf8

HELD_MAX = 1000  # objects that can't be referred to weakly
PROCESS = secrets.token_hex(8)  # objects of two processes are never the same

_known: OrderedDict[int, tuple[Any, str]] = OrderedDict()  # by id; see same()


# -- arguments


def encoded(value: Any) -> str:
    """Return a text that is equal only for equal values of the same types.

    Raises:
        TypeError: there is none for a value of this type.
        ValueError: nor for this one.
    """
    kind = type(value)
    if value is None or kind is bool:
        return json.dumps(value)
    for base, form in FORMS.items():
        if isinstance(value, base):
            own = "" if kind is base else f"{kind.__module__}.{kind.__qualname__}"
            return own + form(value)
    raise TypeError(f"can't make a key from a {kind.__module__}.{kind.__qualname__}")


def _number(value: float) -> str:
    if not math.isfinite(value):
        raise ValueError(f"can't make a key from {value!r}")
    return float.__repr__(value)


def _joined(values: Iterable[str]) -> str:
    return ", ".join(values)


FORMS: dict[type, Callable[[Any], str]] = {
    int: int.__repr__,
    float: _number,
    str: lambda value: json.dumps(str.__str__(value)),
    bytes: lambda value: "b" + json.dumps(bytes(value).decode("latin-1")),
    list: lambda value: f"[{_joined(map(encoded, value))}]",
    tuple: lambda value: f"({_joined(map(encoded, value))})",
    dict: lambda value: (
        "{"
        + _joined(sorted(f"{encoded(name)}: {encoded(one)}" for name, one in value.items()))
        + "}"
    ),
}


# -- functions


def _digest(text: str) -> str:
    return xxhash.xxh3_128_hexdigest(text.encode())


def same(thing: Any) -> str:
    """Return a text that identifies an object during its life, and is never used for another."""
    found = _known.get(id(thing))
    if found is not None:
        holder, text = found
        if (holder() if isinstance(holder, weakref.ref) else holder) is thing:
            return text
    text = f"object {PROCESS} {secrets.token_hex(8)}"
    try:
        holder = weakref.ref(thing)
    except TypeError:
        holder = thing
    _known[id(thing)] = holder, text
    while len(_known) > HELD_MAX:
        _known.popitem(last=False)  # at worst, results are made again
    return text


def _captured(thing: Any, seen: tuple[Any, ...]) -> str:
    """Return a text that identifies a captured value."""
    if isinstance(thing, (types.FunctionType, types.MethodType, functools.partial)):
        return identity(thing, seen)
    if isinstance(thing, (type, types.ModuleType, types.BuiltinFunctionType)):
        owner = getattr(thing, "__module__", None)
        name = f"{owner}.{getattr(thing, '__qualname__', thing.__name__)}"
        return same(thing) if "<locals>" in name else name
    if isinstance(thing, (tuple, frozenset)):
        parts = [_captured(one, seen) for one in thing]
        if isinstance(thing, frozenset):
            parts.sort()
        return f"{type(thing).__name__}({_joined(parts)})"
    if isinstance(thing, (int, float, str, bytes, type(None))):
        try:
            return encoded(thing)
        except ValueError:
            return repr(thing)
    return same(thing)


def _code(code: types.CodeType, seen: tuple[Any, ...]) -> str:
    parts = [code.co_code.hex(), repr(code.co_names), repr(code.co_varnames)]
    parts += [
        _code(one, seen) if isinstance(one, types.CodeType) else _captured(one, seen)
        for one in code.co_consts
    ]
    return _digest("\n".join(parts))


def _cell(cell: Any, seen: tuple[Any, ...]) -> str:
    try:
        thing = cell.cell_contents
    except ValueError:
        return "empty"  # it will be filled later, often by the memoized function itself
    return _captured(thing, seen)


def identity(function: Any, seen: tuple[Any, ...] = ()) -> str:
    """Return a text that identifies a function: its name, and a digest if that is not enough."""
    if any(function is one for one in seen):
        return "itself"
    seen = (*seen, function)
    if isinstance(function, functools.partial):
        parts = [_captured(one, seen) for one in (function.args, *function.keywords.values())]
        text = f"{parts} {list(function.keywords)}"
        return f"{identity(function.func, seen)}#{_digest(text)[:16]}"
    if isinstance(function, types.MethodType):
        own = _captured(function.__self__, seen)
        return f"{identity(function.__func__, seen)}#{_digest(own)[:16]}"
    name = f"{getattr(function, '__module__', None)}.{getattr(function, '__qualname__', None)}"
    if isinstance(function, types.BuiltinFunctionType) and inspect.ismodule(function.__self__):
        return name
    if isinstance(function, type) and "<locals>" not in name:
        return name
    code = getattr(function, "__code__", None)
    if code is None:
        kind = type(function)
        return f"{kind.__module__}.{kind.__qualname__}#{_digest(same(function))[:16]}"
    plain = code.co_qualname == function.__qualname__ and "<" not in code.co_qualname
    if plain and not function.__closure__ and function.__module__ != "__main__":
        return name
    text = " ".join([_code(code, seen), *(_cell(one, seen) for one in function.__closure__ or ())])
    return f"{name}#{_digest(text)[:16]}"


class CallKeys:
    """Maps the calls of a function to keys.

    Args:
        function: the function that is called.
        key: computes the key of a call; None: see above.
        key_bytes: the largest size of a key.
        name: the start of the keys, instead of the name of the function.

    Raises:
        InvalidType: `key` is not callable, or `name` is not a str.
        InvalidRequest: `name` is empty or too long.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        key: Callable[..., str] | None,
        key_bytes: int,
        name: str | None = None,
    ) -> None:
        if key is not None and not callable(key):
            raise InvalidType(f"key must be callable or None, not {type(key).__name__}")
        if name is not None and not isinstance(name, str):
            raise InvalidType(f"name must be a str or None, not {type(name).__name__}")
        if name is not None and not 1 <= (size := len(utf8("name", name))) <= key_bytes // 2:
            raise InvalidRequest(f"name must have 1 to {key_bytes // 2} bytes as UTF-8, not {size}")
        self._name = identity(function) if name is None else name
        self._signature, self._key = inspect.signature(function), key
        self._key_bytes = key_bytes

    def key_of(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
        """Return the key of a call: equal arguments, however they are passed, give the same one.

        Raises:
            InvalidType: can't make a key from an argument.
        """
        if self._key is not None:
            return self._key(*args, **kwargs)
        bound = self._signature.bind(*args, **kwargs)
        bound.apply_defaults()
        try:
            text = encoded(list(bound.arguments.values()))
        except (TypeError, ValueError, RecursionError) as error:
            pass_on(error)
            raise InvalidType(
                f"the arguments of {self._name} can't be a key ({error}); pass key= to memoize()"
            ) from None
        key = f"{self._name}:{text}"
        if len(key.encode()) > self._key_bytes:
            digest = _digest(f"{self._name}:{text}")
            start = self._name.encode()[: self._key_bytes // 8].decode(errors="ignore")
            key = f"{start}:{digest}"
        return key
