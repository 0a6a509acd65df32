"""A link: an upstream that is somewhere else in the world.

Invariants:

* A request is answered once, by the upstream or by its time being over; meanwhile it is sent again
  and again, as a transport does it.
* An answer to a poll that arrives twice is delivered twice: the receiver must cope.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from kvengine.edge.messages import Answer, ChangeBatch, ChangeEvent, KeyRequest
from kvengine.errors import UpstreamUnavailable

if TYPE_CHECKING:
    from kvengine.testing.world.network import Network
    from kvengine.testing.world.nodes import SimulatedNode

RESEND_S = 1.0
MESSAGE_BYTES = 60  # of any message: addresses, kind, versions
ITEM_BYTES = 40  # of a key in it, besides key and value
Done = Callable[[Any], None]
Request = Callable[[Done], None]  # calls the function with its answer, at once or later


def size_of(message: Any) -> int:
    """Return about how many bytes a request or an answer takes on the wire."""
    items: Sequence[Any] = message.events if isinstance(message, ChangeBatch) else message
    size = MESSAGE_BYTES
    if not isinstance(items, (list, tuple)):
        return size
    for item in items:
        size += ITEM_BYTES
        if isinstance(item, (KeyRequest, ChangeEvent)):
            size += len(item.key)
        if isinstance(item, (Answer, ChangeEvent)) and item.value is not None:
            size += len(item.value) + len(item.metadata)
    return size


class Exchange:
    """A request on its way there, and its answer on the way back; either may be lost."""

    __slots__ = ("done", "incarnation", "link", "request", "size", "target_incarnation")

    def __init__(self, link: Link, request: Request, done: Done, size: int) -> None:
        self.link, self.request, self.done, self.size = link, request, done, size
        self.incarnation, self.target_incarnation = link.node.incarnation, 0

    def send(self) -> None:
        """Carry the request."""
        link = self.link
        link.network.send(link.node.name, link.target.name, self.there, self.size)

    def there(self) -> None:
        """The request has come."""
        target = self.link.target
        if target.is_up:
            self.target_incarnation = target.incarnation
            self.request(self.reply)

    def reply(self, result: Any) -> None:
        """The upstream answers, perhaps much later."""
        link = self.link
        if link.target.is_up and link.target.incarnation == self.target_incarnation:
            back = functools.partial(self.back, result)
            link.network.send(link.target.name, link.node.name, back, size_of(result))

    def back(self, result: Any) -> None:
        """The answer has come."""
        node = self.link.node
        if node.is_up and node.incarnation == self.incarnation:
            self.done(result)


class RequestExchange(Exchange):
    """A request that is sent again until it is answered, or its time is over."""

    __slots__ = ("is_open",)

    def begin(self) -> None:
        """Send it, and see to it that it ends."""
        self.is_open = True
        self.send()
        time = self.link.network.time
        if self.link.resends:
            time.deadline(RESEND_S, self)
        time.deadline(self.link.timeout_s, self)

    def expire(self, delay_s: float) -> None:
        """There is no answer yet: send it once more, or give up."""
        link = self.link
        if delay_s == link.timeout_s:
            self.back(UpstreamUnavailable(f"{link.target.name} does not answer {link.node.name}"))
        else:
            self.send()
            link.network.time.deadline(RESEND_S, self)

    def back(self, result: Any) -> None:
        """The first answer counts."""
        if self.is_open:
            self.is_open = False
            super().back(result)


class Link:
    """The way from an edge to its upstream.

    Args:
        network: carries the messages.
        node: the one that asks.
        target: the one that answers.
        timeout_s: after so many seconds without an answer the upstream counts as unreachable.
        resends: messages may be lost, so requests are sent again.
    """

    def __init__(
        self,
        network: Network,
        node: SimulatedNode,
        target: SimulatedNode,
        *,
        timeout_s: float,
        resends: bool,
    ) -> None:
        self.network, self.node, self.target = network, node, target
        self.timeout_s, self.resends = timeout_s, resends

    def fetch(self, requests: Sequence[KeyRequest], done: Done) -> None:
        """Ask for keys."""
        self.ask(lambda reply: self.target.endpoint.fetch(requests, reply), done, size_of(requests))

    def origin_version(self, done: Done) -> None:
        """Ask for the newest version of the primary."""
        self.ask(self.target.endpoint.origin_version, done)

    def ask(self, request: Request, done: Done, size: int = MESSAGE_BYTES) -> None:
        """Let the upstream do something, once at the least."""
        RequestExchange(self, request, done, size).begin()

    def poll(self, after: int, poll_timeout_s: float, done: Done) -> None:
        """Ask for changes; the answer may come twice, or not at all."""
        request: Request = lambda reply: self.target.endpoint.poll(after, poll_timeout_s, reply)  # noqa: E731
        Exchange(self, request, done, MESSAGE_BYTES).send()
