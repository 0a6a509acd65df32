"""The settings of a server, as plain data."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address

from kvengine.errors import InvalidRequest
from kvengine.options import Durability

ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared, not bound


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """The settings of a server: the options of `kvengine serve`."""

    data: str  # folder of the database, or of an edge's copies; "": copies are only in memory
    limits: str = "strict"
    durability: Durability = "group"
    upstream: str | None = None  # URL of the primary; makes the server an edge
    upstream_token: str | None = None
    upstream_ca: str | None = None  # PEM file of CAs for the primary; None: the default CAs
    name: str = "edge"
    memory_bytes: int = 256 << 20  # for copies
    workers: int = 0  # worker processes; 0: this process serves
    log_format: str = "text"
    access_log: bool = False  # a line for each request; makes reads slower
    host: str = "127.0.0.1"
    port: int = 8787  # 0: any free port
    unix_socket: str | None = None  # instead of host and port
    account: str | None = None  # None: the account of the database
    first_token: str | None = None  # has full access; None: only stored tokens are valid
    is_open: bool = False  # requires no tokens; only on loopback
    rate: float | None = None  # requests per second of each token
    key_write_interval_s: float = 1.0  # minimum between two writes of a key; 0: no limit
    certificate: str | None = None  # PEM files
    private_key: str | None = None
    connections: int = 10_000  # open at once; half as many from one address
    requests_per_token: int = 1000  # in progress at once
    streams_per_token: int = 100  # watches and console tabs; the same limit for log readers
    bodies_bytes: int = 512 << 20  # in memory at once; half as many for one token
    spooled_bytes: int = 4 << 30  # in temporary files at once; half as many for one token
    head_timeout_s: float = 10.0  # for the whole head of a request
    body_timeout_s: float = 30.0  # without a byte received
    idle_timeout_s: float = 75.0  # between two requests; the default of nginx
    write_timeout_s: float = 60.0  # without a byte sent
    slowest_bytes_s: float = 500.0  # minimum rate of a body or an answer over the last two timeouts
    stop_timeout_s: float = 30.0  # for requests in progress

    def __post_init__(self) -> None:
        if self.is_open and self.unix_socket is None and not is_loopback(self.host):
            raise InvalidRequest(
                "without tokens, a server listens only on loopback (127.0.0.1, ::1, localhost or "
                f"a Unix socket), not on {self.host}"
            )
        if (self.certificate is None) != (self.private_key is None):
            raise InvalidRequest("TLS needs both a certificate and its private key")
        if self.upstream is not None and self.workers:
            raise InvalidRequest("an edge runs in one process: use workers only without upstream")

    @property
    def url(self) -> str:
        """The URL of the server for a client on this machine."""
        scheme = "https" if self.certificate else "http"
        if self.unix_socket is not None:
            return f"{scheme}+unix://{self.unix_socket}"
        host = ANY_ADDRESS.get(self.host, self.host)
        return (
            f"{scheme}://[{host}]:{self.port}" if ":" in host else f"{scheme}://{host}:{self.port}"
        )


def is_loopback(host: str) -> bool:
    """True if only this machine can reach an address."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
