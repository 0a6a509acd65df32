"""The network of a world: messages that are late, lost, sent twice or overtaken.

Invariants:

* A message arrives after the latency of its way, and some part more by chance, or never.
* Nothing passes a way that is cut, in either direction.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from kvengine.testing.world.virtual_time import VirtualTime

Latency = Callable[[str, str], float]


@dataclass(slots=True)
class Weather:
    """How messages fare."""

    loss: float = 0.0  # the share of messages that never arrive
    duplication: float = 0.0  # the share that arrives twice
    jitter: float = 0.2  # up to this part of the latency is added, so messages overtake each other
    delay_s: float = 0.0  # added to each message


class Network:
    """Carries messages between the places of a world.

    Args:
        time: the time of the world.
        chance: its chance.
        latency: gives the seconds from one place to another.
        weather: how messages fare.
    """

    def __init__(
        self, time: VirtualTime, chance: random.Random, latency: Latency, weather: Weather
    ) -> None:
        self._time, self._chance, self._latency = time, chance, latency
        self.weather = weather
        self._cut: set[frozenset[str]] = set()
        self.sent = self.lost = self.bytes = 0

    def cut(self, one: str, other: str) -> None:
        """Let nothing pass between two places."""
        self._cut.add(frozenset((one, other)))

    def mend(self, one: str, other: str) -> None:
        """Let messages pass again."""
        self._cut.discard(frozenset((one, other)))

    def is_cut(self, one: str, other: str) -> bool:
        """True if nothing passes between two places."""
        return frozenset((one, other)) in self._cut

    def send(self, origin: str, target: str, arrive: Callable[[], None], size: int = 100) -> None:
        """Carry a message: call `arrive` when it has come, perhaps twice, perhaps never."""
        weather = self.weather
        self.sent += 1
        self.bytes += size
        if weather.loss and self._chance.random() < weather.loss:
            self.lost += 1
            return
        twice = weather.duplication and self._chance.random() < weather.duplication
        for _ in range(2 if twice else 1):
            way = self._latency(origin, target)
            delay = way * (1 + self._chance.random() * weather.jitter) + weather.delay_s
            self._time.later(delay, lambda: self._deliver(origin, target, arrive))

    def _deliver(self, origin: str, target: str, arrive: Callable[[], None]) -> None:
        if self._cut and self.is_cut(origin, target):
            self.lost += 1
        else:
            arrive()
