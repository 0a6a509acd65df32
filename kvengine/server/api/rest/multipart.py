"""Read a form with the parts "value" and "metadata", in either order.

python-multipart parses the form.  Metadata may also have one part for each field, such as
`metadata[author]`, which Cloudflare's TypeScript and Python SDKs send for an object
(cloudflare-typescript#2664); form_metadata.py assembles it.

Invariants:

* Only the length of a part that is too long is kept, so memory is bounded.
* Lines before the first boundary, and blanks after a boundary, are valid (RFC 2046).
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from kvengine.errors import InvalidRequest
from kvengine.server.http.body.incoming import Incoming
from kvengine.server.http.messages import Request

PREAMBLE_BYTES_MAX = 1 << 16
PARTS_MAX = 1026  # a value, and as many fields as fit into 1,024 bytes of metadata
BOUNDARY_BYTES_MAX = 200
HEADER_BYTES_MAX = 8192
TYPE_BYTES_MAX = 1024  # of the content-type


class Form:
    """A value and its metadata."""

    def __init__(self, value_max: int, metadata_max: int, request: Request) -> None:
        self.value = Incoming(value_max, request.take, request.content_length)
        self.metadata = bytearray()
        self.fields: list[tuple[str, bytearray]] = []  # parts of metadata: name and value
        self.has_metadata = False  # the form has a part "metadata", perhaps empty
        self._metadata_max, self.metadata_size = metadata_max, 0

    def add_metadata(self, data: bytes) -> None:
        """Add a piece of the metadata, or of its newest field."""
        self.metadata_size += len(data)
        if self.metadata_size <= self._metadata_max:
            (self.fields[-1][1] if self.fields else self.metadata).extend(data)

    def begin_field(self, name: str) -> None:
        """Start a field of the metadata; its value follows in pieces."""
        self.metadata_size += len(name)
        self.fields.append((name, bytearray()))


class _Reader:
    """The callbacks of the parser."""

    def __init__(self, form: Form) -> None:
        self.form, self.seen, self.ended = form, set[str](), False
        self._header, self._value, self._disposition = bytearray(), bytearray(), b""
        self._name = ""

    def on_part_begin(self) -> None:
        self._disposition, self._name = b"", ""

    def on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]
        self._bounded()

    def on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]
        self._bounded()

    def _bounded(self) -> None:
        if len(self._header) + len(self._value) > HEADER_BYTES_MAX:
            raise InvalidRequest(f"a part's headers can have at most {HEADER_BYTES_MAX} bytes")

    def on_header_end(self) -> None:
        if bytes(self._header).lower() == b"content-disposition":
            self._disposition = bytes(self._value)
        self._header, self._value = bytearray(), bytearray()

    def on_headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        self._name = options.get(b"name", b"").decode("utf-8", "replace")
        if len(self.seen) >= PARTS_MAX:
            raise InvalidRequest(f"the form has more than {PARTS_MAX} parts")
        is_list_item = self._name.endswith("[]")
        if self._name in self.seen and not is_list_item:
            raise InvalidRequest(f'the form has two parts "{self._name}"')
        if self._name.startswith("metadata["):
            self.form.begin_field(self._name)
        elif self._name == "metadata":
            self.form.has_metadata = True
        elif self._name != "value":
            raise InvalidRequest('the form may only have the parts "value" and "metadata"')
        if self.form.has_metadata and self.form.fields:
            raise InvalidRequest('the form has both "metadata" and metadata fields: send only one')
        self.seen.add(f"{self._name}{len(self.seen)}" if is_list_item else self._name)

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._name == "value":
            self.form.value.add(data[start:end])
        else:
            self.form.add_metadata(data[start:end])

    def on_end(self) -> None:
        self.ended = True


def boundary_of(content_type: bytes) -> bytes:
    """Return the boundary in the content type of a form.

    Raises:
        InvalidRequest: the boundary is missing or too long.
    """
    # The time of the parser is quadratic in this length.
    known = content_type if len(content_type) <= TYPE_BYTES_MAX else b""
    _, options = parse_options_header(known)
    boundary = options.get(b"boundary", b"")
    if not 1 <= len(boundary) <= BOUNDARY_BYTES_MAX:
        raise InvalidRequest(
            "multipart/form-data needs a boundary of 1 to 200 bytes, in a content-type of at most "
            f"{TYPE_BYTES_MAX} bytes"
        )
    return boundary


async def read_form(chunks: AsyncIterator[bytes], boundary: bytes, form: Form) -> None:
    """Read a form.

    Raises:
        InvalidRequest: the form is malformed, lacks a value, or has a part twice.
    """
    reader = _Reader(form)
    names = (name for name in dir(reader) if name.startswith("on_"))
    callbacks: Any = {name: getattr(reader, name) for name in names}
    parser = MultipartParser(boundary, callbacks)
    try:
        async for chunk in _from_first_boundary(chunks, boundary):
            parser.write(chunk)
        parser.finalize()
    except FormParserError as error:
        raise InvalidRequest(f"the form is malformed: {error}") from None
    if not reader.ended:
        raise InvalidRequest("the form ends before its last boundary")
    if "value" not in reader.seen:
        raise InvalidRequest('the form has no part "value"')


async def _from_first_boundary(
    chunks: AsyncIterator[bytes], boundary: bytes
) -> AsyncIterator[bytes]:
    """Skip the bytes before the first boundary, and the blanks after it.

    python-multipart accepts blanks only after later boundaries, and no bytes before the first.
    """
    first = re.compile(rb"(?:\A|\r\n)--" + re.escape(boundary) + rb"[ \t]*\r\n")
    head: bytes | None = b""
    async for chunk in chunks:
        if head is None:
            yield chunk
            continue
        head += chunk
        found = first.search(head)
        if found is not None:
            yield b"--" + boundary + b"\r\n" + head[found.end() :]
            head = None
        elif len(head) > PREAMBLE_BYTES_MAX:
            raise InvalidRequest(
                f"the form has no boundary in its first {PREAMBLE_BYTES_MAX} bytes; "
                f"the content-type names {boundary!r}"
            )
    if head:
        yield head
