from typing_extensions import disjoint_base

from kvengine.namespace.limits import Limits

@disjoint_base
class Naming:
    prefix: bytes
    limits: Limits

    def name(self, key: str) -> bytes: ...
