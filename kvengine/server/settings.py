"""What a server is told when it starts.  Plain data; nothing here acts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """How a server runs; the options of `kvengine serve`."""

    host: str = "127.0.0.1"
    port: int = 8787  # 0: any that is free
    unix_socket: str | None = None  # instead of host and port
    account: str
    first_token: str | None = None  # may do everything; None: only stored tokens open anything
    is_open: bool = False  # no tokens at all; only on loopback
    rate: float | None = None  # requests a second of each token
    key_write_interval_s: float = 1.0  # between two writes of a key; 0: none
    certificate: str | None = None  # PEM files
    private_key: str | None = None
    head_timeout_s: float = 10.0  # for all of a request's head
    body_timeout_s: float = 30.0  # without a byte of it
    idle_timeout_s: float = 75.0  # between two requests; nginx's
    write_timeout_s: float = 60.0  # without a byte taken
    stop_timeout_s: float = 30.0  # for requests under way
