"""Export of a namespace on a server: its pairs, read page by page, as a file on this machine.

Invariants:

* The lines are those of an export at the server (namespace/transfer/export.py).
* Each pair, its expiration too, is shown as of some moment between begin and end of the export, not
  all as of one.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Any

from kvengine.errors import InvalidRequest
from kvengine.file.exchange import ResultFile, path_of
from kvengine.namespace.interface.results import ExportReport, KeyInfo, ValueWithMetadata
from kvengine.namespace.transfer.export import SHAPES, writer_of

if TYPE_CHECKING:
    from kvengine.client.namespace import RemoteNamespace

KEYS_A_REPORT = 100
ATTEMPTS = 10  # to read a key between two writes; then it may be written if its expiration stays


def export(
    namespace: RemoteNamespace,
    file: Any,
    format: str,
    prefix: str,
    start_after: str | None,
    resume: bool,
    progress: Callable[[int, int], None] | None,
) -> ExportReport:
    """Write the pairs of a namespace to a file; Namespace.export_file has the arguments."""
    if not isinstance(format, str) or format not in SHAPES:
        raise InvalidRequest(f"format must be {' or '.join(map(repr, SHAPES))}, not {format!r}")
    if resume:
        raise InvalidRequest("an export over the network can't be resumed; use start_after")
    version = namespace._database.version
    infos = namespace._list_all(prefix, False, start_after)
    total = 0 if progress is None else namespace.count(prefix)
    if hasattr(file, "write"):
        return _write(namespace, infos, writer_of(file), format, version, progress, total)
    with closing(ResultFile(path_of(file), resume=False)) as result:
        report = _write(namespace, infos, result.write, format, version, progress, total)
        result.finish()
    return report


def _write(
    namespace: RemoteNamespace,
    infos: Iterator[KeyInfo],
    write: Callable[[bytearray], Any],
    format: str,
    version: int,
    progress: Callable[[int, int], None] | None,
    total: int,
) -> ExportReport:
    shape = SHAPES[format]
    keys = size = 0
    last = None
    for line, key in _lines(namespace, infos, version):
        data = bytearray((shape.later if keys else shape.first) + line + b"\n")
        write(data)
        keys, size, last = keys + 1, size + len(data), key
        if progress is not None and keys % KEYS_A_REPORT == 0:
            progress(keys, max(total, keys))
    end = bytearray(shape.end if keys else shape.first + shape.end)
    write(end)
    if progress is not None:
        progress(keys, keys)
    return ExportReport(keys, size + len(end), last, version)


def _lines(
    namespace: RemoteNamespace, infos: Iterator[KeyInfo], version: int
) -> Iterator[tuple[bytes, str]]:
    for info in infos:
        found, expiration = _read(namespace, info, version)
        if found.version:  # else it was deleted since
            yield _line(info.name, found, expiration), info.name


def _read(
    namespace: RemoteNamespace, info: KeyInfo, version: int
) -> tuple[ValueWithMetadata, int | None]:
    """Return a key's value and expiration, both of the same write.

    Args:
        namespace: of the key.
        info: what a list said of the key.
        version: the newest one before that list was made.
    """
    expiration, attempts = info.expiration, 0
    while True:
        found: ValueWithMetadata = namespace.get_with_metadata(info.name, "bytes")
        if found.version <= version:  # as it was listed, or absent
            return found, expiration
        details = namespace.get_metadata(info.name)
        if details is None:
            continue
        attempts += 1
        is_busy = attempts > ATTEMPTS and details.expiration == expiration
        if details.version == found.version or is_busy:
            return found, details.expiration
        expiration = details.expiration


def _line(key: str, found: ValueWithMetadata, expiration: int | None) -> bytes:
    pair: dict[str, Any] = {"key": key}
    try:
        pair["value"] = found.value.decode()
    except UnicodeDecodeError:
        pair |= {"value": base64.b64encode(found.value).decode(), "base64": True}
    if expiration is not None:
        pair["expiration"] = expiration
    if found.metadata is not None:
        pair["metadata"] = found.metadata
    return json.dumps(pair, ensure_ascii=False, separators=(",", ":")).encode()
