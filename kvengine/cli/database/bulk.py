"""``kvengine bulk``: put, get and delete the keys listed in a file."""

import sys
from collections.abc import Callable
from typing import Any, BinaryIO

import click

import kvengine
from kvengine.cli.arguments import InputFile, json_option
from kvengine.cli.database.bulk_file import Item, key_name, pair_fields, read_items, shown_key
from kvengine.cli.failures import ExitCode
from kvengine.cli.formatting import counted, json_line, json_object
from kvengine.cli.output import message, output, progress_bar
from kvengine.cli.target import Commands, Target, confirm, target_options, yes_option
from kvengine.errors import InvalidRequest
from kvengine.namespace.interface.results import BulkReport
from kvengine.namespace.transfer.bulk import Bulk
from kvengine.namespace.transfer.pairs import located

FAILURES_SHOWN = 12  # as in wrangler
CHECKED_AT_ONCE = 1000  # between two steps of the progress bar

file_argument = click.argument("file", type=InputFile())
no_atomic_option = click.option(
    "--no-atomic", is_flag=True, help="Skip invalid items, and report each."
)


@click.group(cls=Commands)
def bulk() -> None:
    """Put, get and delete many keys of a namespace.

    FILE holds a JSON array, or one JSON value per line. "-" reads standard input.
    """


@bulk.command()
@target_options
@file_argument
@no_atomic_option
@json_option
def put(target: Target, file: BinaryIO, no_atomic: bool, as_json: bool) -> None:
    """Store the pairs in FILE, each an object with "key" and "value".

    A pair may also have "expiration", "expiration_ttl", "metadata", and "base64": true if the
    value is encoded in base64. If any pair is invalid, nothing is written. Up to 10,000 pairs
    and 100 MB are written atomically. With --json, print a report.
    """
    items = read_items(file)
    ignored: set[str] = set()
    with target.writer(create=True) as kv:
        changes = _Changes(kv, items, atomic=not no_atomic)
        changes.carry_out(lambda work, item: work.put(pair_fields(item, ignored)), "bulk put")
    if ignored:
        names = ", ".join(repr(name) for name in sorted(ignored))
        message(f"ignored unknown fields: {names}")
    changes.answer("wrote", "pair", as_json)


@bulk.command()
@target_options
@file_argument
def get(target: Target, file: BinaryIO) -> None:
    """Print the values of the keys in FILE as a JSON object. An absent key gives null.

    Each key is a string, or an object with a "name". Values are printed as UTF-8 text.
    """
    items = read_items(file)
    with target.reader() as kv:
        keys = dict.fromkeys(_checked_key(kv, where, item) for where, item in items)
        output().writelines(json_object((key, kv.get(key)) for key in keys))


def _checked_key(kv: kvengine.Namespace, where: str, item: Any) -> str:
    try:
        key = key_name(item)
        kv._name(key)
    except InvalidRequest as error:
        raise located(error, where, shown_key(item)) from None
    return key


@bulk.command()
@target_options
@file_argument
@yes_option
@no_atomic_option
@json_option
def delete(target: Target, file: BinaryIO, yes: bool, no_atomic: bool, as_json: bool) -> None:
    """Delete the keys in FILE, after confirmation. An absent key is not an error.

    Each key is a string, or an object with a "name", as "key list" prints them. With --json,
    print a report.
    """
    items = read_items(file)
    with target.reader() as kv:
        found = kv.id
    confirm(f"Delete {counted(len(items), 'key')} from {target.title or found!r}?", yes)
    with target.writer() as kv:
        changes = _Changes(kv, items, atomic=not no_atomic)
        changes.carry_out(lambda work, item: work.delete(key_name(item)), "bulk delete")
    changes.answer("deleted", "key", as_json)


class _Changes:
    """The changes of one command: those refused, and the outcome of the others."""

    def __init__(self, kv: kvengine.Namespace, items: list[Item], *, atomic: bool) -> None:
        limits = kv.limits
        self._work = Bulk(kv, part_changes=limits.bulk_pairs, part_bytes=limits.bulk_bytes)
        self._items, self._atomic = items, atomic
        self._refused: list[tuple[str, str]] = []  # key and error
        self._report = BulkReport(0)

    def carry_out(self, add: Callable[[Bulk, Any], None], label: str) -> None:
        """Check all changes, then write them; if atomic, raise at the first invalid one."""
        count = len(self._items)
        with progress_bar(label) as progress:
            for number, (where, item) in enumerate(self._items):
                if progress is not None and number % CHECKED_AT_ONCE == 0:
                    progress(number, 2 * count)
                try:
                    add(self._work, item)
                except InvalidRequest as error:
                    explained = located(error, where, shown_key(item))
                    if self._atomic:
                        raise explained from None
                    self._refused.append((shown_key(item), str(explained)))
            show = progress and (lambda done, _: progress(count + done, 2 * count))
            self._report = self._work.commit(show)

    def answer(self, verb: str, noun: str, as_json: bool) -> None:
        """Report what was done; exit with an error code if it was not everything."""
        done, lost = self._report.successful_key_count, self._report.unsuccessful_keys
        if as_json:
            failures = [{"key": key, "error": error} for key, error in self._refused]
            fields = {"successful_key_count": done, "unsuccessful_keys": [*failures, *lost]}
            output().write(json_line(fields))
        for _, explained in self._refused[: 0 if as_json else FAILURES_SHOWN]:
            message(explained)
        parts = [f"{verb} {counted(done, noun)}"]
        if self._refused:
            parts.append(f"refused {len(self._refused):,}")
        if lost:
            parts.append(f"{len(lost):,} not written: {lost[0]['error']}")
        message("; ".join(parts))
        if lost:
            sys.exit(ExitCode.UNAVAILABLE)
        if self._refused:
            sys.exit(ExitCode.USAGE)
