from typing_extensions import disjoint_base

@disjoint_base
class Entries:
    def expire(self) -> int: ...
