"""Formats keys, values and records for people and for machines.

Invariants:
* text for people never contains a control character, and two keys never look the same;
* JSON preserves every byte: a field that is not UTF-8 is named ``..._base64``.
"""

import base64
import json
import math
from collections.abc import Iterable, Iterator

from kvengine.entry import Change, Entry
from kvengine.errors import CorruptData

_ESCAPE_BYTES = range(0xDC80, 0xDD00)  # how "surrogateescape" decodes a byte that is not UTF-8


def printable(data: bytes) -> str:
    """Return *data* as text that is safe on a terminal."""
    text = data.decode("utf-8", "surrogateescape")
    return "".join("\\\\" if character == "\\" else _escaped(character) for character in text)


def printable_text(text: str) -> str:
    """Return *text* without control characters and line breaks; backslashes stay single."""
    return "".join(map(_escaped, text))


def _escaped(character: str) -> str:
    if character.isprintable():
        return character
    code = ord(character)
    if code in _ESCAPE_BYTES:
        return f"\\x{code - 0xDC00:02x}"
    if code < 0x80:
        return character.encode("unicode_escape").decode()
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def json_line(fields: dict[str, object]) -> bytes:
    """Return *fields* as one line of ASCII JSON; NaN and infinities become null."""
    sayable = {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in fields.items()
    }
    return json.dumps(sayable).encode() + b"\n"


def json_array(items: Iterable[object]) -> Iterator[bytes]:
    """Yield the pieces of a JSON array, item by item, formatted as wrangler does."""
    return _json_block("[", "]", (json.dumps(item, indent=2) for item in items))


def json_object(members: Iterable[tuple[str, object]]) -> Iterator[bytes]:
    """Yield the pieces of a JSON object, member by member, as json_array() does."""
    texts = (f"{json.dumps(name)}: {json.dumps(value, indent=2)}" for name, value in members)
    return _json_block("{", "}", texts)


def _json_block(start: str, end: str, texts: Iterable[str]) -> Iterator[bytes]:
    before = start
    for text in texts:
        indented = text.replace("\n", "\n  ")  # JSON has line breaks between its tokens only
        yield f"{before}\n  {indented}".encode()
        before = ","
    yield (f"{start}{end}\n" if before == start else f"\n{end}\n").encode()


def counted(number: int, noun: str) -> str:
    """Return *number* with its *noun*, in the plural unless the number is 1."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def bytes_field(name: str, data: bytes) -> dict[str, object]:
    """Return ``{name: text}``, or ``{name_base64: ...}`` for what is not UTF-8."""
    try:
        return {name: data.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(data).decode()}


def entry_fields(entry: Entry, *, with_value: bool = True) -> dict[str, object]:
    """Return *entry* as JSON fields."""
    return {
        **bytes_field("key", entry.key),
        **(bytes_field("value", entry.value) if with_value else {}),
        **bytes_field("metadata", entry.metadata),
        "expires_at": entry.expires_at,
        "version": entry.version,
    }


def change_fields(change: Change) -> dict[str, object]:
    """Return *change* as JSON fields."""
    return {
        "version": change.version,
        "kind": change.kind,
        **bytes_field("key", change.key),
        **bytes_field("value", change.value),
        **bytes_field("metadata", change.metadata),
        "expires_at": change.expires_at,
    }


def damage_fields(damage: CorruptData) -> dict[str, object]:
    """Return one damaged place as JSON fields."""
    return {
        "message": str(damage),
        "file": damage.file,
        "offset": damage.offset,
        "expected": _plain(damage.expected),
        "found": _plain(damage.found),
    }


def _plain(value: object) -> object:
    return value if isinstance(value, int | str | None) else str(value)


def size_text(size_bytes: float) -> str:
    """Return *size_bytes* in a suitable decimal unit."""
    for unit in ("B", "kB", "MB"):
        if size_bytes < 1000:
            return f"{size_bytes:.3g} {unit}" if unit != "B" else f"{size_bytes:.0f} B"
        size_bytes /= 1000
    return f"{size_bytes:.4g} GB"
