"""The layout of namespaces in a store: the only module that knows what its keys mean.

    b"c"                            the catalog's generation; its presence marks a database
    b"c" + id                       a namespace: id is 32 hex digits
    b"d" + number + key             a value
    b"m" + number + day             the usage of a namespace on a day
    b"i" + number + digest          the progress of an import
    b"a"                            the account that a server generated for the database
    b"t" + digest                   the permissions of the server token with this SHA-256

Numbers of namespaces and days have four bytes, big-endian.

Invariants:

* The number of a namespace is never reused, so the keys of a deleted one are unreachable at once.
* All keys of a namespace are neighbors, in the order of their UTF-8 bytes.
"""

CATALOG = b"c"
DATA = b"d"
USAGE = b"m"
ACCOUNT = b"a"
TOKENS = b"t"
GROUPS = (DATA, 5)  # the engine counts the living keys and bytes of each namespace
PREFIX_BYTES = 5
NUMBER_MAX = 2**32 - 1


def catalog_key(namespace_id: str) -> bytes:
    """Return the key of a namespace's record in the catalog."""
    return CATALOG + namespace_id.encode("ascii")


def data_prefix(number: int) -> bytes:
    """Return the prefix of the keys of a namespace."""
    return DATA + number.to_bytes(4, "big")


def data_number(key: bytes) -> int:
    """Return the number of the namespace that a key belongs to."""
    return int.from_bytes(key[1:PREFIX_BYTES], "big")


def usage_key(number: int, day: int) -> bytes:
    """Return the key of the metering row of a namespace and a day since 1970."""
    return USAGE + number.to_bytes(4, "big") + day.to_bytes(4, "big")


def usage_parts(key: bytes) -> tuple[int, int]:
    """Return (number, day) of the key of a metering row."""
    return int.from_bytes(key[1:5], "big"), int.from_bytes(key[5:9], "big")


def import_prefix(number: int) -> bytes:
    """Return the prefix of the positions of imports into a namespace."""
    return b"i" + number.to_bytes(4, "big")


def import_key(number: int, digest: bytes) -> bytes:
    """Return the key under which an import keeps its position."""
    return import_prefix(number) + digest


def is_for_edges(key: bytes) -> bool:
    """True for the keys that edges hold: values, the catalog, and tokens."""
    return key.startswith((DATA, CATALOG, TOKENS))
