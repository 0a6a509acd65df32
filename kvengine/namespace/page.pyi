from kvengine.namespace.results import KeyInfo

def key_infos(
    heads: list[tuple[bytes, bytes, float | None, int, int]], skip: int
) -> list[KeyInfo]: ...
