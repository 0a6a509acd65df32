"""A folder that was copied while its store was in use (finding E25)."""

import shutil

import pytest

from kvengine import CorruptData, Store


def copied(path, target, late):
    """Copy as cp does: file by file, while the store goes on; `late` are copied last."""
    with Store(path, segment_bytes=16384, durability="os", compaction="manual") as store:
        for number in range(200):
            store[b"key%d" % number] = bytes(500)
        store.checkpoint()
        target.mkdir(0o700)
        for file in sorted(path.iterdir(), key=lambda file: file.name in late):
            if file.name in late:
                for number in range(200):
                    store[b"key%d" % number] = bytes(501)
                store.compact()
                late = ()
            if file.exists():
                shutil.copy2(file, target)


@pytest.mark.parametrize("read_only", [False, True])
def test_damage_in_a_live_copy_says_how_copies_are_made(tmp_path, read_only):
    target = tmp_path / "copy"
    copied(tmp_path / "store", target, ("MANIFEST",))
    with pytest.raises(CorruptData, match=r"a copy that cp or rsync made.*backup") as caught:
        Store(target, read_only=read_only)
    assert caught.value.file.endswith((".log", ".index", ".keys"))


def test_other_damage_does_not_speak_of_copies(tmp_path):
    path = tmp_path / "store"
    with Store(path, segment_bytes=16384) as store:
        for number in range(200):
            store[b"key%d" % number] = bytes(500)
        store.checkpoint()
    file = min(path.glob("*.log"))
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(CorruptData) as caught:
        Store(path)
    assert "copy" not in str(caught.value)
