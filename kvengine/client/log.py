"""The log of a database on a server, as a source for followers and tails.

The bytes are those of replication/WIRE.md.
"""

from __future__ import annotations

from typing import Any

from kvengine.client.connection import Connection
from kvengine.errors import ProtocolError, ReplicaDiverged, UpstreamUnavailable, pass_on
from kvengine.replication.network.log_request import ANY_STORE, LogRequest
from kvengine.replication.network.remote import SILENCE_S, RemoteSource
from kvengine.replication.network.stream import Receiver, receive


class HttpLog(RemoteSource):
    """The log of a store on a server, as a Source.

    Args:
        connection: to the server.

    Thread-safety: threads may share it; an iterator is for one.
    """

    def __init__(self, connection: Connection) -> None:
        super().__init__(_no_socket)
        self._http = connection

    def namespace(self, title: str) -> tuple[str, int]:
        """Return id and number of the namespace of a title, or else of an id.

        Raises:
            NamespaceNotFound: it does not exist.
        """
        known = {
            name: one for one, name, *_bounds in self._http.call("/v1/db/namespaces", [[], {}])
        }
        wanted = known.get(title, title)
        found_id, number = self._http.call("/v1/db/namespace_by_id", [[wanted], {}])
        return str(found_id), int(number)

    def _open(self, request: LogRequest) -> tuple[Any, Receiver]:
        path = f"/v1/log?after={request.after}&follow={int(request.follow)}"
        if request.uuid != ANY_STORE:
            path += f"&uuid={request.uuid.hex()}"
        stream = self._http.stream("GET", path, None, SILENCE_S)
        try:
            far = receive(stream.read)
        except (OSError, ProtocolError) as error:
            pass_on(error)
            stream.close()
            raise UpstreamUnavailable(f"the log server does not answer: {error}") from error
        if self._uuid not in (ANY_STORE, far.uuid):
            stream.close()
            raise ReplicaDiverged(
                f"store {far.uuid.hex()} answered instead of {self._uuid.hex()}: it is another log"
            )
        self._uuid, self._version = far.uuid, max(self._version, far.version)
        return stream, far


def _no_socket() -> Any:
    raise OSError("the log comes over HTTP")
