"""The last process that leaves a store knows where its log ends, whoever wrote last."""

import kvengine


def test_who_leaves_last_keeps_what_others_wrote_last(tmp_path):
    path = tmp_path / "store"
    for number in range(20):
        last = kvengine.Store(path, durability="os")
        last.put(b"own", b"value")
        with kvengine.Store(path, durability="os") as other:
            version = other.put(b"%d" % number, b"value")
        last.close()  # without having looked
        with kvengine.Store(path, read_only=True) as reader:
            assert reader.version == version
            assert reader.get(b"%d" % number) == b"value"
    assert kvengine.verify(path).ok
