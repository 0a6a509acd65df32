"""``kvengine list``: print keys in byte order."""

from collections.abc import Iterator

import click

from kvengine import Store
from kvengine.cli.arguments import (
    data_option,
    json_option,
    key_bytes,
    note_database,
    null_option,
    open_reader,
)
from kvengine.cli.formatting import entry_fields, json_line, printable
from kvengine.cli.output import on_terminal, output


@click.command(name="list")
@data_option
@click.option("--prefix", default="", metavar="KEY", help="Only keys with this prefix.")
@click.option("--start-after", metavar="KEY", help="Only keys after this one.")
@click.option("--limit", type=click.IntRange(min=0), metavar="N", help="At most N keys.")
@click.option("--reverse", is_flag=True, help="Last key first.")
@click.option("--values", is_flag=True, help="Print the value too, after a tab (-0: after a NUL).")
@click.option("--hex", "as_hex", is_flag=True, help="Keys are read and printed in hexadecimal.")
@null_option
@json_option
def list_keys(
    data: str,
    prefix: str,
    start_after: str | None,
    limit: int | None,
    reverse: bool,
    values: bool,
    as_hex: bool,
    null: bool,
    as_json: bool,
) -> None:
    """Print keys in byte order, one per line.

    On a terminal, control characters are escaped; elsewhere keys are printed unchanged.
    Use -0 if keys may contain line breaks, and --json if values may contain arbitrary bytes.
    """
    start = key_bytes(prefix, as_hex, "--prefix")
    after = None if start_after is None else key_bytes(start_after, as_hex, "--start-after")
    shape = _Shape(as_hex=as_hex, as_json=as_json, values=values, null=null)
    with open_reader(data) as store:
        note_database(data, store)
        answer = output()
        for line in shape.lines(store, start, after, limit, reverse):
            answer.write(line)


class _Shape:
    """Formats a key, or a key with its value, as a line."""

    def __init__(self, *, as_hex: bool, as_json: bool, values: bool, null: bool) -> None:
        self._as_hex, self._as_json, self._values = as_hex, as_json, values
        self._escape = on_terminal()  # also between NULs: a terminal obeys what a key says
        self._end = b"\0" if null else b"\n"
        self._between = b"\0" if null else b"\t"

    def lines(
        self, store: Store, prefix: bytes, after: bytes | None, limit: int | None, reverse: bool
    ) -> Iterator[bytes]:
        if not (self._as_json or self._values):
            for key in store.keys(prefix, start_after=after, limit=limit, reverse=reverse):
                yield self._key(key) + self._end
            return
        for entry in store.scan(prefix, start_after=after, limit=limit, reverse=reverse):
            if self._as_json:
                yield json_line(entry_fields(entry, with_value=self._values))
            else:
                yield self._key(entry.key) + self._between + self._text(entry.value) + self._end

    def _key(self, key: bytes) -> bytes:
        return key.hex().encode() if self._as_hex else self._text(key)

    def _text(self, data: bytes) -> bytes:
        return printable(data).encode() if self._escape else data
