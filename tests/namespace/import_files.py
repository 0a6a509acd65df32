"""Files to import, and what an import leaves."""

import io

from kvengine.namespace.layout import import_prefix


def lines(*texts: str | bytes) -> io.BytesIO:
    """Return a file of these lines, each with its end."""
    return io.BytesIO(b"".join((t if isinstance(t, bytes) else t.encode()) + b"\n" for t in texts))


def pair(key: str, value: str = "v", **more) -> dict:
    return {"key": key, "value": value, **more}


def content(kv) -> dict[str, bytes]:
    names = [info.name for info in kv.list().keys]
    return {name: kv.get(name, "bytes") for name in names}


def positions(kv) -> int:
    return len(list(kv._store.keys(import_prefix(kv._number))))
