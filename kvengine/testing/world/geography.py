"""Where the nodes of a world are, and how long a message takes from one to another."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from typing import Any

from kvengine.errors import InvalidRequest

LIGHT_S = 0.15  # one way around half the world, in glass
NEAR_S = 0.001
Latency = Callable[[str, str], float]


class Globe:
    """Places at spots of a globe, which their names and a seed decide.

    Args:
        seed: gives other spots.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._spots: dict[str, tuple[float, float]] = {}
        self._ways: dict[tuple[str, str], float] = {}

    def __call__(self, origin: str, target: str) -> float:
        """Return the time light in glass takes between two nodes, and a little more."""
        found = self._ways.get((origin, target))
        if found is None:
            angle = _angle(self._spot(origin), self._spot(target))
            found = self._ways[origin, target] = NEAR_S + LIGHT_S * angle / math.pi
        return found

    def _spot(self, name: str) -> tuple[float, float]:
        spot = self._spots.get(name)
        if spot is None:
            rng = random.Random(f"{self._seed} {name}")
            spot = (math.asin(rng.uniform(-0.6, 0.9)), rng.uniform(-math.pi, math.pi))
            self._spots[name] = spot
        return spot


def latency_of(given: Any, seed: int) -> Latency:
    """Return what gives the seconds from one node to another.

    Args:
        given: a function of two names; a matrix, which is a dict from pairs of names to seconds,
            where a pair that is missing is as long as the way back; or None, for a globe.
        seed: of the globe.

    Raises:
        InvalidRequest: it is none of these, or a time in the matrix is negative.
    """
    if given is None:
        return Globe(seed)
    if isinstance(given, Mapping):
        return _matrix(given)
    if not callable(given):
        raise InvalidRequest(f"latency is a function or a dict, not {type(given).__name__}")
    found: Latency = given
    return found


def _matrix(seconds: Mapping[tuple[str, str], float]) -> Latency:
    for pair, time in seconds.items():
        if not time >= 0:
            raise InvalidRequest(f"the latency of {pair} must not be negative, but is {time!r}")

    def latency(origin: str, target: str) -> float:
        found = seconds.get((origin, target), seconds.get((target, origin)))
        if found is None:
            raise InvalidRequest(f"the latency from {origin!r} to {target!r} is not given")
        return found

    return latency


def _angle(one: tuple[float, float], other: tuple[float, float]) -> float:
    (a, x), (b, y) = one, other
    cosine = math.sin(a) * math.sin(b) + math.cos(a) * math.cos(b) * math.cos(x - y)
    return math.acos(max(-1.0, min(1.0, cosine)))
