"""What a namespace does, as a dict does it."""

import math
from dataclasses import dataclass
from typing import Any

from kvengine import KeyInfo


@dataclass
class Item:
    """What the model knows of a key."""

    data: bytes
    metadata: Any
    end: float | None
    version: int

    @property
    def shown_end(self):
        """The whole second that callers are shown."""
        return None if self.end is None else math.ceil(self.end)


def end_of(now, lifetime):
    """When a key ends: not before its lifetime is over, with a second or within 10 ms."""
    if lifetime is None:
        return None
    return math.ceil(now + lifetime) if lifetime >= 60 else math.ceil((now + lifetime) * 100) / 100


class Model:
    """One namespace as a dict."""

    def __init__(self, clock):
        self.clock, self.items = clock, {}

    def find(self, key):
        item = self.items.get(key)
        if item is not None and item.end is not None and item.end <= self.clock.time():
            return None
        return item

    def version(self, key):
        item = self.find(key)
        return item.version if item else 0

    def living(self):
        found = ((key, self.find(key)) for key in self.items)
        return {key: item for key, item in sorted(found, key=lambda pair: pair[0].encode()) if item}

    def page(self, prefix, reverse=False, start_after=None):
        infos = [
            KeyInfo(key, item.shown_end, item.metadata)
            for key, item in self.living().items()
            if key.startswith(prefix)
        ]
        if reverse:
            infos.reverse()
        return [
            info
            for info in infos
            if start_after is None
            or (
                info.name.encode() < start_after.encode()
                if reverse
                else info.name.encode() > start_after.encode()
            )
        ]
