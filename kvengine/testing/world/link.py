"""A link: an upstream that is somewhere else in the world.

Invariants:

* A question is answered once, by the upstream or by its time being over; meanwhile it is sent again
  and again, as a transport does it.
* An answer to a poll that arrives twice is handed on twice: who listens must bear it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from kvengine.errors import UpstreamUnavailable
from kvengine.tier.messages import Want

if TYPE_CHECKING:
    from kvengine.testing.world.places import Place
    from kvengine.testing.world.world import World

RESEND_S = 1.0
Done = Callable[[Any], None]


class Link:
    """The way from a location to its upstream.

    Args:
        world: both are in it.
        place: who asks.
        target: who answers.
        timeout_s: after so many seconds without an answer the upstream counts as unreachable.
    """

    def __init__(self, world: World, place: Place, target: Place, timeout_s: float) -> None:
        self._world, self._place, self._target = world, place, target
        self._timeout_s = timeout_s

    def fetch(self, wants: Sequence[Want], done: Done) -> None:
        """Ask for keys."""
        self._ask(lambda reply: self._target.door.fetch(wants, reply), done)

    def origin_version(self, done: Done) -> None:
        """Ask for the newest version of the center."""
        self._ask(lambda reply: self._target.door.origin_version(reply), done)

    def call(self, request: Callable[[Done], None], done: Done) -> None:
        """Let the upstream do something, once at the least."""
        self._ask(request, done)

    def poll(self, after: int, hold_s: float, done: Done) -> None:
        """Ask for news; the answer may come twice, or not at all."""
        self._send(lambda reply: self._target.door.poll(after, hold_s, reply), done)

    def _ask(self, request: Callable[[Done], None], done: Done) -> None:
        open_ = [True]
        life = self._place.life

        def answer(result: Any) -> None:
            if open_[0] and self._place.life == life:
                open_[0] = False
                done(result)

        def send_again() -> None:
            if open_[0] and self._place.life == life:
                self._send(request, answer)
                self._world.time.later(RESEND_S, send_again)

        self._send(request, answer)
        if self._world.is_lossy:
            self._world.time.later(RESEND_S, send_again)
        error = UpstreamUnavailable(f"{self._target.name} does not answer {self._place.name}")
        self._world.time.later(self._timeout_s, lambda: answer(error))

    def _send(self, request: Callable[[Done], None], done: Done) -> None:
        """Carry a request there and its answer back, if both places live on meanwhile."""
        network, place, target = self._world.network, self._place, self._target
        life = place.life

        def back(result: Any) -> None:
            if place.life == life and place.is_up:
                done(result)

        def there() -> None:
            if target.is_up:
                target_life = target.life

                def reply(result: Any) -> None:
                    if target.life == target_life and target.is_up:
                        network.send(target.name, place.name, lambda: back(result))

                request(reply)

        network.send(place.name, target.name, there)
