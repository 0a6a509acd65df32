"""``kvengine get``: write the value of a key to standard output."""

import click

from kvengine.cli.arguments import (
    data_option,
    hex_option,
    json_option,
    key_bytes,
    note_database,
    open_reader,
)
from kvengine.cli.formatting import entry_fields, json_line
from kvengine.cli.output import output
from kvengine.errors import KeyNotFound


@click.command()
@data_option
@click.argument("key")
@hex_option
@json_option
def get(data: str, key: str, as_hex: bool, as_json: bool) -> None:
    """Write the value of KEY to standard output, byte for byte.

    If the key is absent, the exit code is 3. With --json, print everything stored under the key;
    a field that is not UTF-8 is encoded in base64, and "_base64" is added to its name.
    """
    name = key_bytes(key, as_hex)
    with open_reader(data) as store:
        entry = store.get_entry(name)
        if entry is None:
            note_database(data, store)
    if entry is None:
        raise KeyNotFound(name)
    output().write(json_line(entry_fields(entry)) if as_json else entry.value)
