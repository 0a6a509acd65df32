"""The arguments of a call of the REST API."""

from __future__ import annotations

from dataclasses import dataclass

from kvengine.aio.edge_namespace import EdgeNamespace
from kvengine.aio.namespace import Namespace
from kvengine.errors import NamespaceNotFound
from kvengine.server.auth.access import Principal
from kvengine.server.backend import Backend
from kvengine.server.http.messages import Request


@dataclass(slots=True)
class Call:
    """A request with its parsed path."""

    backend: Backend
    request: Request
    account: str
    namespace_id: str | None
    key: str | None
    principal: Principal | None = None

    @property
    def key_name(self) -> str:
        """The key; "" if the call has none."""
        return "" if self.key is None else self.key

    async def namespace(self) -> Namespace | EdgeNamespace:
        """Return the namespace of the call, to read values.

        Raises:
            NamespaceNotFound: it does not exist.
        """
        return await self.backend.namespace(self.namespace_id or "")

    async def own_namespace(self) -> Namespace:
        """Return the namespace of the call in the database; an edge forwards such calls.

        Raises:
            NamespaceNotFound: it does not exist.
        """
        found = await self.namespace()
        if isinstance(found, EdgeNamespace):
            raise NamespaceNotFound(self.namespace_id)
        return found
