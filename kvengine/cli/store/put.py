"""``kvengine put``: store a value under a key."""

import math
from typing import BinaryIO

import click

from kvengine.cli.arguments import (
    InputFile,
    data_option,
    hex_option,
    json_option,
    key_bytes,
    open_plain_writer,
    read_value,
    standard_input,
)
from kvengine.cli.formatting import json_line
from kvengine.cli.output import output
from kvengine.clock import SystemClock
from kvengine.errors import InvalidRequest
from kvengine.options import DURABILITIES, Durability


@click.command()
@data_option
@click.argument("key")
@click.argument("value", required=False)
@click.option("--file", "source", type=InputFile(), help="Read the value from this file.")
@hex_option
@click.option("--metadata", default="", metavar="TEXT", help="Metadata, stored with the value.")
@click.option(
    "--expires-at",
    type=float,
    metavar="SECONDS",
    help="Expiration time, in seconds since the epoch.",
)
@click.option("--ttl", type=float, metavar="SECONDS", help="Seconds until the key expires.")
@click.option(
    "--if-version",
    type=click.IntRange(min=0),
    metavar="N",
    help="Write only if the key has this version; 0: only if it is absent.",
)
@click.option(
    "--durability",
    type=click.Choice(DURABILITIES),
    help="Durability of the write when the command returns.  [default: group]",
)
@json_option
def put(
    data: str,
    key: str,
    value: str | None,
    source: BinaryIO | None,
    as_hex: bool,
    metadata: str,
    expires_at: float | None,
    ttl: float | None,
    if_version: int | None,
    durability: Durability | None,
    as_json: bool,
) -> None:
    """Store VALUE under KEY. If VALUE is "-", read standard input.

    The store is created if it does not exist. With --json, print the new version.
    """
    contents = _contents(value, source)
    deadline = _deadline(expires_at, ttl)
    name = key_bytes(key, as_hex)
    with open_plain_writer(data, create=True) as store:
        version = store.put(
            name,
            contents,
            metadata=key_bytes(metadata, False, "--metadata"),
            expires_at=deadline,
            if_version=if_version,
            durability=durability,
        )
    if as_json:
        output().write(json_line({"version": version}))


def _contents(value: str | None, source: BinaryIO | None) -> bytes:
    if source is not None and value is None:
        return read_value(source)
    if value is None or source is not None:
        raise click.UsageError('give exactly one of VALUE, "-" and --file')
    return read_value(standard_input()) if value == "-" else key_bytes(value, False, "VALUE")


def _deadline(expires_at: float | None, ttl: float | None) -> float | None:
    if ttl is None:
        return expires_at
    if expires_at is not None:
        raise click.UsageError("give only one of --expires-at and --ttl")
    if not 0 < ttl < math.inf:  # NaN is outside too
        raise InvalidRequest(f"--ttl must be a number of seconds above 0, not {ttl}")
    return SystemClock().time() + ttl
