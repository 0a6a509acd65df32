"""The settings of a server, as plain data."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address

from kvengine.errors import InvalidRequest
from kvengine.options import Durability

ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared, not bound


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """How a server runs; the options of `kvengine serve`."""

    data: str  # folder of the database; of an edge: of its copies, "" if they are in memory only
    limits: str = "strict"
    durability: Durability = "group"
    upstream: str | None = None  # URL of the primary; the server is an edge then
    upstream_token: str | None = None
    upstream_ca: str | None = (
        None  # PEM file with who vouches for the primary; None: the usual ones
    )
    name: str = "edge"
    memory_bytes: int = 256 << 20  # for copies
    workers: int = 0  # processes that serve; 0: this one does
    log_format: str = "text"
    access_log: bool = False  # a line for each request; reads are slower then
    host: str = "127.0.0.1"
    port: int = 8787  # 0: any that is free
    unix_socket: str | None = None  # instead of host and port
    account: str | None = None  # None: the database's
    first_token: str | None = None  # may do everything; None: only stored tokens open anything
    is_open: bool = False  # no tokens at all; only on loopback
    rate: float | None = None  # requests per second of each token
    key_write_interval_s: float = 1.0  # between two writes of a key; 0: none
    certificate: str | None = None  # PEM files
    private_key: str | None = None
    connections: int = 10_000  # open at once; from one address half as many
    requests_per_token: int = 1000  # under way at once
    streams_per_token: int = 100  # watches, console tabs; as many readers of the log
    bodies_bytes: int = 512 << 20  # in memory at once; of one token half as many
    spooled_bytes: int = 4 << 30  # in temporary files at once; of one token half as many
    head_timeout_s: float = 10.0  # for all of a request's head
    body_timeout_s: float = 30.0  # without a byte of it
    idle_timeout_s: float = 75.0  # between two requests; nginx's
    write_timeout_s: float = 60.0  # without a byte taken
    slowest_bytes_s: float = 500.0  # of a body, and of an answer, in each of the last two times
    stop_timeout_s: float = 30.0  # for requests under way

    def __post_init__(self) -> None:
        if self.is_open and self.unix_socket is None and not is_loopback(self.host):
            raise InvalidRequest(
                "without tokens, a server listens only on loopback (127.0.0.1, ::1, localhost or "
                f"a Unix socket), not on {self.host}"
            )
        if (self.certificate is None) != (self.private_key is None):
            raise InvalidRequest("TLS needs both a certificate and its private key")
        if self.upstream is not None and self.workers:
            raise InvalidRequest("an edge runs in one process: use workers only with a primary")

    @property
    def url(self) -> str:
        """Where a client on this machine finds the server."""
        scheme = "https" if self.certificate else "http"
        if self.unix_socket is not None:
            return f"{scheme}+unix://{self.unix_socket}"
        host = ANY_ADDRESS.get(self.host, self.host)
        return (
            f"{scheme}://[{host}]:{self.port}" if ":" in host else f"{scheme}://{host}:{self.port}"
        )


def is_loopback(host: str) -> bool:
    """True if only this machine reaches an address."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
