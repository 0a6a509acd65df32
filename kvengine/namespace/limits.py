"""The limits of keys, values, metadata and times, and the errors for exceeding them.

Texts and numbers are those of Workers KV, from its documentation and its simulator
(developers.cloudflare.com/kv/platform/limits, workers-sdk packages/miniflare/src/workers/kv).

Invariants:

* Everything that a namespace refuses because of its size or its time is refused here.
* A key never expires before its lifetime is over.  A lifetime of a minute or more is rounded up to
  a whole second, a shorter one to 10 ms: keys are counted by their expiration, and fewer distinct
  moments need less memory.
* Expiration times that callers pass or see are whole seconds.
* A str or a bool is refused, and a fraction if lifetimes must be at least a second.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NoReturn

from kvengine.errors import InvalidRequest, InvalidType, LimitExceeded

TYPES = ("text", "json", "bytes", "stream")
ILLEGAL_KEYS = ("", ".", "..")
MEBIBYTE = 1 << 20
MINUTE_S = 60
EXPIRATION_MAX = 1 << 53  # what a double, and so JSON, holds exactly


def utf8(what: str, text: str) -> bytes:
    """Return a text as UTF-8.

    Raises:
        InvalidRequest: UTF-8 can't encode it.
    """
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise InvalidRequest(
            f"{what} must be text that UTF-8 can encode; there is a lone surrogate at index "
            f"{error.start}"
        ) from None


def list_of_keys(keys: Any) -> list[Any]:
    """Return the keys of one request.

    Raises:
        InvalidType: they are no iterable of keys.
    """
    if isinstance(keys, str):
        raise InvalidType("keys must be a list of str, not one str")
    if isinstance(keys, (bytes, bytearray)) or not hasattr(keys, "__iter__"):
        raise InvalidType(f"a key must be a str, not {type(keys).__name__}")
    return list(keys)


def without_alias(kind: Any) -> Any:
    """Return the name of a type here: Workers call bytes "arrayBuffer"."""
    return "bytes" if kind == "arrayBuffer" else kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the namespaces of a database accept.

    There are two profiles: STRICT accepts what Cloudflare accepts; RELAXED also allows what users
    often need beyond that.  Derive others with `dataclasses.replace(RELAXED, ...)`.

    Raises:
        InvalidRequest: a limit is not a number, or above the limit of the engine.
    """

    key_bytes: int = 512
    value_bytes: int = 25 * MEBIBYTE
    metadata_bytes: int = 1024  # as JSON
    ttl_min_s: int = 0  # shortest life of a key; from 1 on, lives are whole seconds
    cache_ttl_min_s: int = 0
    list_keys: int = 1000  # on one page
    get_keys: int | None = None  # in one get of many; None: any number
    get_bytes: int | None = None  # of their values together
    get_types: tuple[str, ...] = TYPES  # of many
    bulk_pairs: int = 10_000
    bulk_bytes: int = 100_000_000
    title_chars: int = 512

    def __post_init__(self) -> None:
        self._bounded("key_bytes", 1, 1000)
        self._bounded("value_bytes", 1, 64 * MEBIBYTE)
        self._bounded("metadata_bytes", 0, 1024)
        self._bounded("bulk_bytes", 1, 120 * MEBIBYTE)  # an atomic batch lies in one segment
        self._bounded("list_keys", 1, 100_000)
        for name in ("ttl_min_s", "cache_ttl_min_s"):
            self._bounded(name, 0, EXPIRATION_MAX)
        for name in ("bulk_pairs", "title_chars"):
            self._bounded(name, 1, EXPIRATION_MAX)
        for name in ("get_keys", "get_bytes"):
            if getattr(self, name) is not None:
                self._bounded(name, 1, EXPIRATION_MAX)
        kinds = self.get_types
        if not isinstance(kinds, tuple) or not kinds or any(kind not in TYPES for kind in kinds):
            raise InvalidRequest(f"limit get_types must be a tuple of {TYPES}, not {kinds!r}")

    def _bounded(self, name: str, low: int, high: int) -> None:
        value = getattr(self, name)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise InvalidRequest(f"limit {name} must be between {low} and {high}, not {value!r}")

    # -- keys

    def _refuse_key(self, key: Any) -> NoReturn:
        """Raise the error for an invalid key.

        Raises:
            InvalidType: it is not a str.
            LimitExceeded: it is too long.
            InvalidRequest: it is not a valid key.
        """
        if not isinstance(key, str):
            raise InvalidType(f"a key must be a str, not {type(key).__name__}")
        if key == "":
            raise InvalidRequest("Key name cannot be empty.")
        if key in ILLEGAL_KEYS:
            raise InvalidRequest(f'"{key}" is not allowed as a key name.')
        size = len(utf8("a key", key))
        raise LimitExceeded(
            f"UTF-8 encoded length of {size} exceeds key length limit of {self.key_bytes}.", 414
        )

    # -- sizes

    def _check_value_size(self, size: int) -> None:
        """Refuse a value of more bytes than allowed."""
        if size > self.value_bytes:
            raise LimitExceeded(f"Value length of {size} exceeds limit of {self.value_bytes}.", 413)

    def _check_metadata_size(self, size: int) -> None:
        """Refuse metadata of more bytes, as JSON, than allowed."""
        if size > self.metadata_bytes:
            raise LimitExceeded(
                f"Metadata length of {size} exceeds limit of {self.metadata_bytes}.", 413
            )

    # -- times

    def _expires_at(self, now: float, expiration: Any, expiration_ttl: Any) -> float | None:
        """Return when a key expires, in seconds since the epoch; None: never.

        If both a lifetime and a moment are given, the lifetime takes precedence.

        Raises:
            InvalidType: a time is not a number, or not whole seconds where that is required.
            InvalidRequest: a time is too early, or not a positive number.
        """
        moment = math.floor(now)
        if expiration_ttl is not None:
            ttl = self._lifetime(expiration_ttl)
            if not ttl > 0:
                raise InvalidRequest(
                    f"Invalid expiration_ttl of {ttl}. Please specify integer greater than 0."
                )
            if ttl < self.ttl_min_s:
                raise InvalidRequest(
                    f"Invalid expiration_ttl of {ttl}. "
                    f"Expiration TTL must be at least {self.ttl_min_s}."
                )
            if ttl >= MINUTE_S:
                seconds = ttl if isinstance(ttl, int) else math.ceil(ttl)
                return _within("expiration_ttl", ttl, moment + seconds + (now > moment))
            return max(math.ceil((now + ttl) * 100) / 100, now + ttl)
        if expiration is None:
            return None
        wanted = _whole("expiration", expiration)
        if wanted <= moment:
            raise InvalidRequest(
                f"Invalid expiration of {wanted}. Please specify integer greater than the current "
                "number of seconds since the UNIX epoch."
            )
        if wanted < moment + self.ttl_min_s:
            raise InvalidRequest(
                f"Invalid expiration of {wanted}. Expiration times must be at least "
                f"{self.ttl_min_s} seconds in the future."
            )
        return _within("expiration", wanted, wanted)

    def _lifetime(self, ttl: Any) -> float:
        if self.ttl_min_s >= 1 or not isinstance(ttl, float) or not math.isfinite(ttl):
            return _whole("expiration_ttl", ttl)
        return ttl

    def _check_cache_ttl(self, cache_ttl: Any) -> None:
        """Refuse a cache_ttl that is too short."""
        if _whole("cache_ttl", cache_ttl) < self.cache_ttl_min_s or cache_ttl < 0:
            raise InvalidRequest(
                f"Invalid cache_ttl of {cache_ttl}. "
                f"Cache TTL must be at least {self.cache_ttl_min_s}."
            )

    # -- how many

    def _check_get_count(self, count: int) -> None:
        """Refuse a get of no keys, or of too many."""
        if self.get_keys is None:
            return
        if count > self.get_keys:
            raise InvalidRequest(f"You can request a maximum of {self.get_keys} keys")
        if count < 1:
            raise InvalidRequest("You must request a minimum of 1 key")

    def _check_get_type(self, kind: Any) -> None:
        """Refuse a type that a get of many keys does not support."""
        if without_alias(kind) not in self.get_types:
            *most, last = (f'"{name}"' for name in sorted(self.get_types))
            names = f"{', '.join(most)} or {last}" if most else last
            raise InvalidRequest(f'"{kind}" is not a valid type. Use {names}')

    def _check_get_size(self, size: int) -> None:
        """Refuse a get of many whose values are too large together."""
        if self.get_bytes is not None and size > self.get_bytes:
            raise LimitExceeded(
                f"Total size of request exceeds the limit of {_megabytes(self.get_bytes)}", 413
            )

    def _check_bulk_count(self, count: int) -> None:
        """Refuse a bulk call of more pairs or keys than allowed."""
        if count > self.bulk_pairs:
            raise LimitExceeded(
                f"A bulk call has at most {self.bulk_pairs} pairs or keys; send several calls.", 413
            )

    def _check_bulk_size(self, size: int) -> None:
        """Refuse a bulk call of more bytes than allowed: keys, values and metadata together."""
        if size > self.bulk_bytes:
            raise LimitExceeded(
                f"A bulk call has at most {self.bulk_bytes} bytes of keys, values and metadata; "
                "send several calls.",
                413,
            )

    def _check_list_limit(self, limit: Any) -> int:
        """Return how many keys a page may have."""
        if _whole("key_count_limit", limit) < 1:
            raise InvalidRequest(
                f"Invalid key_count_limit of {limit}. Please specify an integer greater than 0."
            )
        if limit > self.list_keys:
            raise InvalidRequest(
                f"Invalid key_count_limit of {limit}. "
                f"Please specify an integer less than {self.list_keys}."
            )
        return int(limit)

    def _check_title(self, title: Any) -> str:
        """Return the title of a namespace.

        Raises:
            InvalidType: it is not a str.
            InvalidRequest: it is empty, too long, or not text.
        """
        if not isinstance(title, str):
            raise InvalidType(f"a title must be a str, not {type(title).__name__}")
        if not 1 <= len(title) <= self.title_chars:
            raise InvalidRequest(
                f"a title must have 1 to {self.title_chars} characters, not {len(title)}"
            )
        utf8("a title", title)
        return title


def _whole(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidType(
            f"Invalid {name} of {value!r}. Please specify an integer, not {type(value).__name__}."
        )
    return value


def _within(name: str, given: float, end: float) -> float:
    if end > EXPIRATION_MAX:
        raise InvalidRequest(f"Invalid {name} of {given}. It must end before {EXPIRATION_MAX}.")
    return end


def _megabytes(size: int) -> str:
    """Return a size in Workers KV's notation, or in bytes if it is not a round number."""
    return f"{size} bytes" if size % MEBIBYTE else f"{size // MEBIBYTE}MB"


RELAXED = Limits()
STRICT = Limits(
    ttl_min_s=60,
    cache_ttl_min_s=30,
    get_keys=100,
    get_bytes=25 * MEBIBYTE,
    get_types=("text", "json"),
)
PROFILES = {"relaxed": RELAXED, "strict": STRICT}


def limits_of(profile: Any) -> Limits:
    """Return the limits for a profile name or a Limits.

    Raises:
        InvalidRequest: there is no such profile.
    """
    if isinstance(profile, Limits):
        return profile
    if isinstance(profile, str) and profile in PROFILES:
        return PROFILES[profile]
    raise InvalidRequest(
        f"limits must be {' or '.join(map(repr, PROFILES))} or a Limits, not {profile!r}"
    )
