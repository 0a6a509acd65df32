"""What the far end of a connection asks of a log server: 48 bytes, then it only listens.

Invariants:

* A question that is damaged, or is none, is refused before anything is done.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from kvengine.engine.index.hash import xxh3_64
from kvengine.errors import ProtocolError
from kvengine.options import VERSION_LIMIT
from kvengine.replication.codec import UUID_BYTES

MAGIC = b"KVLOGASK"
FORMAT = 1
ASK = struct.Struct(f"<8sHHIQ{UUID_BYTES}s")
CHECKSUM = struct.Struct("<Q")
ASK_BYTES = ASK.size + CHECKSUM.size
ANY_STORE = bytes(UUID_BYTES)


class Ask(NamedTuple):
    """Which part of the log is wanted."""

    after: int  # what comes behind this version
    follow: bool  # and goes on
    uuid: bytes = ANY_STORE  # of the store that is expected; zeros: any


def encode_ask(ask: Ask) -> bytes:
    """Return a question as bytes."""
    head = ASK.pack(MAGIC, FORMAT, int(ask.follow), 0, ask.after, ask.uuid)
    return head + CHECKSUM.pack(xxh3_64(head))


def decode_ask(data: bytes) -> Ask:
    """Return the question in ASK_BYTES bytes.

    Raises:
        ProtocolError: they are no question, or a damaged one.
    """
    if len(data) != ASK_BYTES:
        raise ProtocolError("a question", len(data), f"{ASK_BYTES} bytes", f"{len(data)}")
    magic, form, flags, zero, after, uuid = ASK.unpack_from(data)
    (checksum,) = CHECKSUM.unpack_from(data, ASK.size)
    expected = xxh3_64(data[: ASK.size])
    if magic != MAGIC:
        raise ProtocolError("a question", 0, repr(MAGIC), repr(magic))
    if checksum != expected:
        raise ProtocolError("a question", ASK.size, f"{expected:016x}", f"{checksum:016x}")
    if form != FORMAT or flags > 1 or zero or after >= VERSION_LIMIT:
        raise ProtocolError(
            "a question", 8, f"format {FORMAT}", f"{form}, {flags}, {zero}, {after}"
        )
    return Ask(after, bool(flags), uuid)
