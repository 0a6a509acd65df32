from typing_extensions import disjoint_base

from kvengine.namespace.limits import Limits

@disjoint_base
class Naming:
    _prefix: bytes
    limits: Limits

    def _name(self, key: str) -> bytes: ...
