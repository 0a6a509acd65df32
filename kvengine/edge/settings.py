"""The settings of an edge, with their units and defaults."""

from __future__ import annotations

from dataclasses import dataclass

from kvengine.errors import InvalidRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Settings of one edge.

    Raises:
        InvalidRequest: a setting has a value outside its range.
    """

    memory_bytes: int = 64 << 20  # of copies in memory, including overhead
    disk_bytes: int = 1 << 30  # of copies on disk, if there is a folder for them
    bound_s: float = 60.0  # an outdated value is shown no longer than this, unless a read allows it
    cache_ttl_s: float = 60.0  # the maximum age of a value, unless the read says otherwise
    negative_ttl_s: float = 0.0  # the maximum age of "absent"; 0: not cached
    stale_if_error_s: float = 0.0  # the maximum age of a value if the upstream does not answer
    refresh_share: float = 0.75  # of its time to live; then a read refreshes it in the background
    poll_timeout_s: float = 2.0  # how long the upstream holds a poll that has no changes
    grace_s: float = 2.0  # a poll without an answer is repeated this long after its timeout
    timeout_s: float = 10.0  # how long a reader waits for the upstream
    retry_s: float = 0.05  # the pause after a failed poll, doubled each time ...
    retry_max_s: float = 5.0  # ... up to this
    change_buffer_bytes: int = 8 << 20  # of recent changes, kept for the edges that poll this one
    push_bytes: int = 4096  # values up to this size are sent along with their change
    watermark_groups: int = 1 << 14  # see watermarks.py

    def __post_init__(self) -> None:
        self._within("memory_bytes", 0, 1 << 50)
        self._within("disk_bytes", 0, 1 << 60)
        for name in ("bound_s", "cache_ttl_s"):
            self._within(name, 0, 1 << 40)
        for name in ("negative_ttl_s", "stale_if_error_s"):
            self._within(name, 0, 1 << 40)
        self._within("refresh_share", 0.1, 1.0)
        for name in ("poll_timeout_s", "grace_s", "timeout_s", "retry_s", "retry_max_s"):
            self._within(name, 0.001, 3600)
        self._within("change_buffer_bytes", 1 << 10, 1 << 40)
        self._within("push_bytes", 0, 1 << 20)
        self._within("watermark_groups", 1, 1 << 24)
        if self.watermark_groups & (self.watermark_groups - 1):
            raise InvalidRequest(
                f"watermark_groups must be a power of two, not {self.watermark_groups}"
            )

    def _within(self, name: str, low: float, high: float) -> None:
        value = getattr(self, name)
        is_whole = isinstance(value, int) and not isinstance(value, bool)
        in_seconds = name.endswith(("_s", "_share"))
        if not (is_whole or (in_seconds and isinstance(value, float))) or not low <= value <= high:
            kind = "" if in_seconds else ", a whole number"
            raise InvalidRequest(f"{name} must be between {low} and {high}{kind}, not {value!r}")
