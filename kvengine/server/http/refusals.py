"""Answers to input that never becomes a request: not HTTP, too large, or too slow.

Invariants:

* Each body is an envelope of Cloudflare's API, which REST clients parse; the status line has the
  reason too, which workerd reads.
* The connection closes after it, because the start of the next request is not known.
"""

from __future__ import annotations

import json
import re

MALFORMED = 10012
RAW = re.compile(rb"[\x7f-\xff]")


def refusal(status: int, reason: str, message: str, *headers: str) -> bytes:
    """Return the bytes of an answer.

    Args:
        status: of HTTP.
        reason: of the status line.
        message: of the error in the body.
        headers: extra header lines.
    """
    errors = [{"code": MALFORMED, "message": message}]
    envelope = {"result": None, "success": False, "errors": errors, "messages": []}
    body = json.dumps(envelope, separators=(",", ":"))
    lines = [
        f"HTTP/1.1 {status} {reason}",
        *headers,
        "content-type: application/json",
        "connection: close",
        f"content-length: {len(body)}",
    ]
    return ("\r\n".join(lines) + f"\r\n\r\n{body}").encode("ascii")


def encoded_target(piece: bytes) -> bytes:
    """Return a piece of a request line in which bytes from 0x7f on are percent-encoded.

    llhttp refuses such bytes, but workerd sends the key "\\x7f" unencoded, and other clients send
    UTF-8.  A key is decoded from its bytes, so both spellings name the same key.
    """
    line, end, rest = piece.partition(b"\n")
    return RAW.sub(lambda found: b"%%%02X" % found[0][0], line) + end + rest


NO_HTTP = refusal(400, "Bad Request", "Invalid HTTP request received.")
TOO_SLOW = refusal(408, "Request Timeout", "The request was sent too slowly.")
TOO_LONG = refusal(414, "URI Too Long", "The path and the query are too long.")
TOO_LARGE = refusal(431, "Request Header Fields Too Large", "The request headers are too large.")
UNKNOWN_CODING = refusal(501, "Not Implemented", "The only supported transfer coding is chunked.")
TOO_MANY = refusal(503, "Service Unavailable", "Too many connections.", "retry-after: 1")
