"""Export of a namespace on a server: its pairs, read page by page, as a file on this machine.

Invariants:

* The lines are those of an export at the server (namespace/transfer/export.py).
* Each pair is shown as of some moment between begin and end of the export, not all as of one.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Any

from kvengine.errors import InvalidRequest
from kvengine.file.exchange import ResultFile, path_of
from kvengine.namespace.results import ExportReport, KeyInfo
from kvengine.namespace.transfer.export import SHAPES, writer_of

if TYPE_CHECKING:
    from kvengine.client.namespace import RemoteNamespace

KEYS_A_REPORT = 100


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
    for line, key in _lines(namespace, infos):
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


def _lines(namespace: RemoteNamespace, infos: Iterator[KeyInfo]) -> Iterator[tuple[bytes, str]]:
    for info in infos:
        found = namespace.get_with_metadata(info.name, "bytes")
        if found.version:  # else it was deleted since
            yield _line(info, found.value, found.metadata), info.name


def _line(info: KeyInfo, value: bytes, metadata: Any) -> bytes:
    pair: dict[str, Any] = {"key": info.name}
    try:
        pair["value"] = value.decode()
    except UnicodeDecodeError:
        pair |= {"value": base64.b64encode(value).decode(), "base64": True}
    if info.expiration is not None:
        pair["expiration"] = info.expiration
    if metadata is not None:
        pair["metadata"] = metadata
    return json.dumps(pair, ensure_ascii=False, separators=(",", ":")).encode()
