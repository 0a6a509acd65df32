"""``kvengine put``: store a value under a key."""

import math
from typing import BinaryIO

import click

from kvengine.cli.arguments import (
    data_option,
    expiry_options,
    hex_option,
    json_option,
    key_bytes,
    open_plain_writer,
    value_bytes,
    value_options,
)
from kvengine.cli.formatting import json_line
from kvengine.cli.output import output
from kvengine.clock import SystemClock
from kvengine.errors import InvalidRequest
from kvengine.options import DURABILITIES, VALUE_BYTES_MAX, Durability


@click.command()
@data_option
@click.argument("key")
@value_options
@hex_option
@click.option("--metadata", default="", metavar="TEXT", help="Metadata, stored with the value.")
@expiry_options(float)
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
    ttl: float | None,
    expiration: float | None,
    if_version: int | None,
    durability: Durability | None,
    as_json: bool,
) -> None:
    """Store VALUE under KEY. If VALUE or FILE is "-", read standard input.

    The store is created if it does not exist. --ttl takes precedence over --expiration. With
    --json, print the new version.
    """
    contents = value_bytes(value, source, VALUE_BYTES_MAX)
    deadline = _deadline(expiration, ttl)
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


def _deadline(expiration: float | None, ttl: float | None) -> float | None:
    if ttl is None:
        return expiration
    if not 0 < ttl < math.inf:  # NaN is outside too
        raise InvalidRequest(f"--ttl must be a number of seconds above 0, not {ttl}")
    return SystemClock().time() + ttl
