"""``kvengine bench``: a quick speed check of the store, next to a dict in the same run.

For reliable figures and a comparison with other stores, use ``python -m benchmarks``.

Invariants:
* the store and the dict do the same work on the same keys, one right after the other;
* keys are looked up with new objects, so that neither side benefits from cached hashes.
"""

import random
import tempfile
from collections.abc import Callable, Iterator
from time import perf_counter
from typing import NamedTuple

import click

from kvengine import Store
from kvengine.cli.arguments import json_option
from kvengine.cli.formatting import json_line
from kvengine.cli.output import output, write_text

KEY_BYTES = 16
VALUE_BYTES = 100
GROUP_KEYS = 100  # keys of one get_many, and puts of one batch times ten
REOPENINGS = 5


class Row(NamedTuple):
    """One line of the table; times in nanoseconds per operation."""

    work: str
    store_ns: float
    dict_ns: float | None


@click.command()
@click.option(
    "--keys", type=click.IntRange(min=1), default=100_000, show_default=True, metavar="N",
    help="Number of keys, of 16 bytes, with values of 100 bytes.",
)  # fmt: skip
@json_option
def bench(keys: int, as_json: bool) -> None:
    """Measure the speed of a temporary store, next to a dict.

    The dict has the same content. Puts use durability "os". Set TMPDIR to choose the disk.
    """
    random_bytes = random.Random(keys)
    names = [random_bytes.randbytes(KEY_BYTES) for _ in range(keys)]
    blob = random_bytes.randbytes(VALUE_BYTES + 1000)
    values = [blob[i % 1000 : i % 1000 + VALUE_BYTES] for i in range(keys)]
    if not as_json:
        write_text(f"{keys:,} keys   {'kvengine':>16} {'dict':>16}   kvengine / dict")
    with tempfile.TemporaryDirectory(prefix="kvengine-bench-") as folder:
        for row in _rows(f"{folder}/store", names, values):
            _print(row, as_json)


def _print(row: Row, as_json: bool) -> None:
    if as_json:
        output().write(json_line(row._asdict()))
        return
    beside = (
        "" if row.dict_ns is None else f"{row.dict_ns:13,.0f} ns   {row.store_ns / row.dict_ns:.2f}"
    )
    write_text(f"{row.work:<14} {row.store_ns:13,.0f} ns {beside}".rstrip())
    output().flush()


def _rows(path: str, names: list[bytes], values: list[bytes]) -> Iterator[Row]:
    count = len(names)
    plain: dict[bytes, bytes] = {}
    with Store(path, durability="os") as store:

        def put_all() -> None:
            for name, value in zip(names, values, strict=True):
                store.put(name, value)

        def set_all() -> None:
            for name, value in zip(names, values, strict=True):
                plain[name] = value  # noqa: PERF403 (one by one, as the store does it)

        yield Row("put", _time(put_all) / count, _time(set_all) / count)
        yield Row("put in batches", _time(lambda: _put_batches(store, names, values)) / count, None)
        yield from _reads(store, plain, names)
    yield Row(
        "open and get", min(_time(lambda: _reopen(path, names[0])) for _ in range(REOPENINGS)), None
    )


def _reads(store: Store, plain: dict[bytes, bytes], names: list[bytes]) -> Iterator[Row]:
    count = len(names)
    fresh = _new_keys(names)
    store_ns = _time(lambda: _each(store.get, fresh))
    fresh = _new_keys(names)
    yield Row("get", store_ns / count, _time(lambda: _each(plain.get, fresh)) / count)

    absent = [bytes(KEY_BYTES - 8) + name[8:] for name in _new_keys(names)]
    store_ns = _time(lambda: _each(store.get, absent))
    absent = [bytes(KEY_BYTES - 8) + name[8:] for name in _new_keys(names)]
    yield Row("get, absent", store_ns / count, _time(lambda: _each(plain.get, absent)) / count)

    groups = _groups(_new_keys(names))
    store_ns = _time(lambda: _each(store.get_many, groups))
    groups = _groups(_new_keys(names))
    dict_ns = _time(lambda: [[plain.get(name) for name in group] for group in groups])
    yield Row("get_many(100)", store_ns / count, dict_ns / count)

    # A dict is not ordered by key, so it must sort.
    dict_ns = _time(lambda: sorted(plain)) / count
    yield Row("keys in order", _time(lambda: list(store.keys())) / count, dict_ns)


def _put_batches(store: Store, names: list[bytes], values: list[bytes]) -> None:
    size = 10 * GROUP_KEYS
    for start in range(0, len(names), size):
        with store.batch() as batch:
            for name, value in zip(
                names[start : start + size], values[start : start + size], strict=True
            ):
                batch.put(name, value)


def _reopen(path: str, name: bytes) -> None:
    with Store(path) as store:
        store.get(name)


def _new_keys(names: list[bytes]) -> list[bytes]:
    order = list(range(len(names)))
    random.Random(len(names)).shuffle(order)
    joined = b"".join(names)
    return [joined[KEY_BYTES * i : KEY_BYTES * (i + 1)] for i in order]


def _groups(names: list[bytes]) -> list[list[bytes]]:
    return [names[start : start + GROUP_KEYS] for start in range(0, len(names), GROUP_KEYS)]


def _each(call: Callable[..., object], arguments: list[bytes] | list[list[bytes]]) -> None:
    for argument in arguments:
        call(argument)


def _time(work: Callable[[], object]) -> float:
    started = perf_counter()
    work()
    return 1e9 * (perf_counter() - started)
