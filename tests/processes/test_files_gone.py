"""Files of a store are removed while two stores have it open."""

import pytest

from kvengine import KvError, Store

SMALL = {"segment_bytes": 4096, "durability": "os", "compaction": "manual"}


@pytest.mark.parametrize("call", ["get", "put", "compact", "scan"])
def test_who_must_start_over_says_that_the_manifest_is_gone(tmp_path, call):
    with Store(tmp_path, **SMALL) as store, Store(tmp_path, **SMALL) as other:
        for number in range(100):
            store.put(b"%d" % (number % 10), bytes(500))
        store.compact()  # so what `other` knows is replaced
        (tmp_path / "MANIFEST").unlink()
        calls = {
            "get": lambda: other.get(b"1"),
            "put": lambda: other.put(b"1", b""),
            "compact": other.compact,
            "scan": lambda: list(other.scan()),
        }
        with pytest.raises(KvError, match="MANIFEST was removed"):
            calls[call]()
