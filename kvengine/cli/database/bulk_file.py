"""Reads the file of a bulk command: a JSON array, or one JSON value per line.

Invariants:
* every error says where: the index in the array, or the line;
* a file is read and parsed to its end before anything is written.
"""

import codecs
import json
import sys
from collections.abc import Iterator
from typing import Any, BinaryIO, NoReturn

from kvengine.errors import InvalidRequest, InvalidType
from kvengine.namespace.transfer.pairs import PAIR_FIELDS

Item = tuple[str, Any]  # its place in the file, and the parsed value


def read_items(file: BinaryIO) -> list[Item]:
    """Return the items in a file.

    Raises:
        InvalidRequest: it is neither a JSON array nor lines of JSON.
    """
    is_stdin = sys.stdin is not None and file is sys.stdin.buffer
    name = "standard input" if is_stdin else file.name
    data = file.read().removeprefix(codecs.BOM_UTF8)
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InvalidRequest(f"{name}, line {line}: invalid UTF-8") from None
    if not text.strip():
        raise InvalidRequest(f"{name} is empty; expected a JSON array, or one JSON value per line")
    if text.lstrip()[0] == "[":
        items = enumerate(_parsed(name, text))
        return [(f"{name}, index {index}", item) for index, item in items]
    return list(_lines(name, text))


def _lines(name: str, text: str) -> Iterator[Item]:
    for number, line in enumerate(text.split("\n"), 1):  # splitlines() splits at U+2028 too
        if line.strip():
            where = f"{name}, line {number}"
            yield where, _parsed(where, line)


def _parsed(where: str, text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_no_number)
    except json.JSONDecodeError as error:
        line = f", line {error.lineno}" if error.lineno > 1 else ""
        raise InvalidRequest(
            f"{where}{line}, column {error.colno}: invalid JSON: {error.msg}"
        ) from None
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"{where}: invalid JSON: {error}") from None


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a number")


def pair_fields(item: Any, ignored: set[str]) -> dict[str, Any]:
    """Return the known fields of a pair; add the names of others to *ignored*, as wrangler does.

    Raises:
        InvalidType: the item is not an object, or its value is not a string.
    """
    if not isinstance(item, dict):
        raise InvalidType(f'a pair must be an object with "key" and "value", not {_kind(item)}')
    ignored.update(item.keys() - set(PAIR_FIELDS))
    if not isinstance(item.get("value", ""), str):
        raise InvalidType(f'"value" must be a string, not {_kind(item["value"])}')
    return {name: item[name] for name in PAIR_FIELDS if name in item}


def key_name(item: Any) -> str:
    """Return the key that an item names: a string, or the "name" of an object.

    Raises:
        InvalidType: the item is neither.
    """
    name = item.get("name") if isinstance(item, dict) else item
    if not isinstance(name, str):
        found = 'an object without a "name"' if isinstance(item, dict) else _kind(item)
        raise InvalidType(f'a key must be a string, or an object with a "name", not {found}')
    return name


def shown_key(item: Any) -> str:
    """Return the key of an item, for a message; "" if it has none."""
    if isinstance(item, dict):
        item = item.get("key", item.get("name", ""))
    return item if isinstance(item, str) else ""


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    kinds = {dict: "an object", list: "an array", str: "a string", type(None): "null"}
    return kinds.get(type(value), "a number")
