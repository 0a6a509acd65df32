"""What the far end of a connection asks of a log server: 48 bytes, then it only listens.

Invariants:

* A request that is damaged, or is none, is refused before anything is done.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from kvengine.engine.index.hash import xxh3_64
from kvengine.errors import ProtocolError
from kvengine.options import VERSION_LIMIT
from kvengine.replication.network.codec import UUID_BYTES

MAGIC = b"KVLOGASK"
FORMAT = 1
LAYOUT = struct.Struct(f"<8sHHIQ{UUID_BYTES}s")
CHECKSUM = struct.Struct("<Q")
REQUEST_BYTES = LAYOUT.size + CHECKSUM.size
ANY_STORE = bytes(UUID_BYTES)


class LogRequest(NamedTuple):
    """Which part of the log is wanted."""

    after: int  # what comes behind this version
    follow: bool  # continue with new changes
    uuid: bytes = ANY_STORE  # of the store that is expected; zeros: any


def encode_request(request: LogRequest) -> bytes:
    """Return a request as bytes."""
    head = LAYOUT.pack(MAGIC, FORMAT, int(request.follow), 0, request.after, request.uuid)
    return head + CHECKSUM.pack(xxh3_64(head))


def decode_request(data: bytes) -> LogRequest:
    """Return the request in REQUEST_BYTES bytes.

    Raises:
        ProtocolError: they are no request, or a damaged one.
    """
    if len(data) != REQUEST_BYTES:
        raise ProtocolError("a request", len(data), f"{REQUEST_BYTES} bytes", f"{len(data)}")
    magic, form, flags, zero, after, uuid = LAYOUT.unpack_from(data)
    (checksum,) = CHECKSUM.unpack_from(data, LAYOUT.size)
    expected = xxh3_64(data[: LAYOUT.size])
    if magic != MAGIC:
        raise ProtocolError("a request", 0, repr(MAGIC), repr(magic))
    if checksum != expected:
        raise ProtocolError("a request", LAYOUT.size, f"{expected:016x}", f"{checksum:016x}")
    if form != FORMAT or flags > 1 or zero or after >= VERSION_LIMIT:
        raise ProtocolError("a request", 8, f"format {FORMAT}", f"{form}, {flags}, {zero}, {after}")
    return LogRequest(after, bool(flags), uuid)
