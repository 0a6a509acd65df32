"""The network of a world: messages that are late, lost, sent twice or overtaken.

Invariants:

* A message arrives after the latency of its way, and some part more by rng, or never.
* Nothing passes a way that is cut when it would arrive.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from kvengine.errors import InvalidRequest
from kvengine.testing.world.geography import Latency
from kvengine.testing.world.virtual_time import VirtualTime


@dataclass(slots=True)
class LinkFaults:
    """How messages fare.

    Raises:
        InvalidRequest: a share is not between 0 and 1, or a time is negative.
    """

    loss: float = 0.0  # the share of messages that never arrive
    duplication: float = 0.0  # the share that arrives twice
    jitter: float = 0.2  # up to this part of the latency is added, so messages overtake each other
    delay_s: float = 0.0  # added to each message

    def __post_init__(self) -> None:
        for name in ("loss", "duplication"):
            if not 0 <= getattr(self, name) <= 1:
                raise InvalidRequest(f"{name} is a share, 0 to 1, not {getattr(self, name)!r}")
        for name in ("jitter", "delay_s"):
            if not getattr(self, name) >= 0:
                raise InvalidRequest(f"{name} must not be negative, but is {getattr(self, name)!r}")


class Network:
    """Carries messages between the nodes of a world.

    Args:
        time: the time of the world.
        rng: its rng.
        latency: gives the seconds from one node to another.
        faults: how messages fare.
    """

    def __init__(
        self, time: VirtualTime, rng: random.Random, latency: Latency, faults: LinkFaults
    ) -> None:
        self.time, self._rng, self._latency = time, rng, latency
        self.faults = faults
        self._cut: set[tuple[str, str]] = set()  # ways, each in one direction
        self.sent = self.lost = self.bytes = 0
        self.bytes_from: dict[str, int] = {}  # of messages that a node has sent

    def cut(self, one: str, other: str, *, one_way: bool = False) -> None:
        """Let nothing pass between two nodes, or only from the first to the other."""
        self._cut.add((one, other))
        if not one_way:
            self._cut.add((other, one))

    def heal(self, one: str, other: str) -> None:
        """Let messages pass again, in both directions."""
        self._cut -= {(one, other), (other, one)}

    def is_cut(self, origin: str, target: str) -> bool:
        """True if nothing passes from one node to another."""
        return (origin, target) in self._cut

    def send(self, origin: str, target: str, arrive: Callable[[], None], size: int = 100) -> None:
        """Carry a message: call `arrive` when it has come, perhaps twice, perhaps never."""
        faults = self.faults
        self.sent += 1
        self.bytes += size
        self.bytes_from[origin] = self.bytes_from.get(origin, 0) + size
        if faults.loss and self._rng.random() < faults.loss:
            self.lost += 1
            return
        twice = faults.duplication and self._rng.random() < faults.duplication
        for _ in range(2 if twice else 1):
            way = self._latency(origin, target)
            delay = way * (1 + self._rng.random() * faults.jitter) + faults.delay_s
            self.time.later(delay, lambda: self._deliver(origin, target, arrive))

    def _deliver(self, origin: str, target: str, arrive: Callable[[], None]) -> None:
        if self._cut and (origin, target) in self._cut:
            self.lost += 1
        else:
            arrive()
