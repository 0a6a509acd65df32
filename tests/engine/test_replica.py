"""Changes of another store are taken over with their versions: gaps, staging, promotion."""

import shutil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvengine import Change, CorruptData, InvalidRequest, LogCompacted, Store, StoreReadOnly
from kvengine.engine.following import replica
from kvengine.engine.log.manifest import Origin
from kvengine.engine.log.record import encode_record
from kvengine.file.memory import MemoryDirectory
from kvengine.testing.check import check_store
from tests.engine.format_reader import FolderReader

ORIGIN = Origin("ab" * 16, 0, (b"",))
SMALL = {
    "durability": "os", "segment_bytes": 4096, "key_buffer_entries": 16, "compaction": "manual",
}  # fmt: skip


def put(version, key, value=b"value", expires_at=None):
    return Change(version, "put", key, value, b"about", expires_at)


def delete(version, key):
    return Change(version, "delete", key, b"", b"", None)


def contents(store):
    return {entry.key: (entry.version, entry.value) for entry in store.scan()}


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "store", **SMALL) as opened:
        replica.begin(opened._parts, ORIGIN)
        yield opened


def test_versions_with_gaps_survive_an_open_with_and_without_the_index(store, tmp_path):
    for version in range(3, 900, 3):
        store._parts.apply((put(version, b"key %d" % (version % 50)), delete(version + 1, b"gone")))
    wanted, tail = contents(store), list(store.tail())
    assert [change.version for change in tail if change.kind == "put"] == list(range(3, 900, 3))
    killed = tmp_path / "killed"
    with store._parts.jobs:
        shutil.copytree(store.path, killed)
    with Store(killed, **SMALL) as again:
        assert contents(again) == wanted
        assert list(again.tail()) == tail
        assert again.version == store.version == 898
        check_store(again)
    with Store(killed, rebuild=True, **SMALL) as again:
        assert contents(again) == wanted
        assert again._parts.apply((put(1000, b"more"),)) == 1000


def test_a_log_of_every_origin_is_compacted(tmp_path):
    """Compaction asks of versions in a log what replay asks: no good one is refused forever."""
    path = tmp_path / "store"
    with Store(path, **SMALL) as store:
        replica.begin(store._parts, ORIGIN)
        for version in range(3, 900, 3):  # with gaps, also at the beginnings of segments
            store._parts.apply(
                (put(version, b"key %d" % (version % 50)), delete(version + 1, b"gone"))
            )
        staging = replica.Staging(store._parts, 900, keep=True)
        staging.add(
            tuple(put(version, b"key %d" % (version % 9)) for version in range(905, 990, 5))
        )
        staging.adopt(1000)
        for version in range(1001, 1400, 7):
            store._parts.apply((put(version, b"key %d" % (version % 50)),))
        replica.promote(store._parts, 2000)
        for number in range(300):
            with store.batch() as batch:
                batch.put(b"key %d" % (number % 30), b"of a batch")
                batch.put(b"other", b"of a batch")
        wanted = contents(store)
        assert store.compact() > 0
        assert contents(store) == wanted
        store.put(b"torn", b"value")
        last = path / f"{store._parts.rows[-1].id:08x}.log"
    last.write_bytes(last.read_bytes()[:-16])  # of a write that was not on disk
    (path / "CONTROL").unlink()
    with Store(path, **SMALL) as store:
        assert contents(store) == wanted
        for number in range(300):
            store.put(b"key %d" % (number % 50), b"behind the torn end")
        store._parts.end_active_segment()
        wanted = contents(store)
        assert store.compact() > 0
        assert contents(store) == wanted
        check_store(store)
    with Store(path, rebuild=True, **SMALL) as store:
        assert contents(store) == wanted


def test_a_second_reader_finds_each_gap_marked(store):
    store._parts.apply((put(1, b"a"), put(2, b"b"), put(7, b"c")))
    store._parts.apply((put(8, b"a"),))
    store._parts.apply((put(20, b"b"),))
    reader = FolderReader(store.path)
    assert {key: row[3] for key, row in reader.contents().items()} == {b"a": 8, b"b": 20, b"c": 7}
    assert [record[2] & 16 for record in reader.records()] == [0, 0, 16, 0, 16]
    assert reader.manifest["origin"] == ["ab" * 16, 0, [""], []]


@pytest.mark.parametrize(("version", "flags"), [(3, 0), (2, 16), (1, 16), (1, 0)])
def test_a_gap_must_be_marked_and_a_mark_must_be_a_gap(tmp_path, version, flags):
    with Store(tmp_path, durability="os") as store:
        store.put(b"a", b"1")
        row = store._parts.rows[-1]
        _, end, _, _, _ = store._parts.segment_table.counters(row.id)
        salt, path = store._parts.segment_table.salt(row.id), tmp_path / f"{row.id:08x}.log"
    with path.open("ab") as file:
        file.write(encode_record(version, 1, flags, 0.0, b"b", b"", b"2", salt + end))
        file.write(encode_record(9, 1, 24, 0.0, b"c", b"", b"3", salt + end + 32))
    with pytest.raises(CorruptData):
        Store(tmp_path)


def test_nothing_is_taken_over_in_part(store):
    store._parts.apply((put(5, b"a"),))
    for wrong in [
        (put(5, b"b"),),
        (put(6, b"b"), put(6, b"c")),
        (put(6, b"b"), put(7, b"")),
        (put(6, b"b"), put(1 << 48, b"c")),
        (put(6, b"b"), put(7, b"c", expires_at=float("nan"))),
        (put(6, b"b"), Change(7, "touch", b"c", b"", b"", None)),
        (put(6, b"b"), put(7, "c")),
    ]:
        with pytest.raises(InvalidRequest):
            store._parts.apply(wrong)
    assert contents(store) == {b"a": (5, b"value")}
    assert store.version == 5


def test_what_has_expired_is_taken_over_as_it_is(store):
    store._parts.apply((put(5, b"a", expires_at=1.5),))
    assert store.get(b"a") is None
    assert [change.expires_at for change in store.tail()] == [1.5]


def test_a_replica_refuses_users_also_after_an_open(store):
    store._parts.apply((put(5, b"a"),))
    for opened in (store, None):
        if opened is None:
            store.close()
            opened = Store(store.path, **SMALL)
        with pytest.raises(StoreReadOnly, match="replica"):
            opened.put(b"a", b"b")
        with pytest.raises(StoreReadOnly, match="replica"):
            opened.delete(b"a")
        with pytest.raises(StoreReadOnly, match="replica"), opened.batch() as batch:
            batch.put(b"a", b"b")
        assert opened.stats().read_only
        opened.compact()
    opened.close()


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("in_memory", [True, False])
def test_staged_changes_appear_at_once(tmp_path, keep, in_memory):
    directory = MemoryDirectory()
    store = Store._in_directory(directory, **SMALL) if in_memory else Store(tmp_path, **SMALL)
    replica.begin(store._parts, ORIGIN)
    store._parts.apply((put(5, b"old"), put(6, b"both"), put(7, b"dies")))
    reader = (
        Store._in_directory(directory.reader(), read_only=True)
        if in_memory
        else Store(tmp_path, read_only=True)
    )
    staging = replica.Staging(store._parts, 7 if keep else 0, keep=keep)
    for version in range(8, 1000, 2):
        staging.add((put(version, b"%d" % version), put(version + 1, b"both")))
    staging.add((delete(1001, b"dies"),))
    assert len(store) == len(reader) == 3
    staging.adopt(1005)
    for one in (store, reader):
        assert one.version == 1005
        assert len(one) == 497 + keep
        assert (b"old" in one) == keep
        assert one.get_entry(b"both").version == 999
        assert b"dies" not in one
    store._parts.apply((put(2000, b"more"),))
    assert reader.get_entry(b"more").version == 2000
    assert store._parts.manifest.origin.position == 1005
    check_store(store)
    if not keep:
        with pytest.raises(LogCompacted):
            list(store.tail(3))
    reader.close()
    store.close()


def test_what_was_staged_and_not_adopted_leaves_nothing(store, tmp_path):
    store._parts.apply((put(5, b"a"),))
    staging = replica.Staging(store._parts, 5, keep=True)
    for version in range(6, 500):
        staging.add((put(version, b"%d" % version),))
    killed = tmp_path / "killed"
    with store._parts.jobs:
        shutil.copytree(store.path, killed)
    with Store(killed, **SMALL) as again:
        assert contents(again) == {b"a": (5, b"value")}
    assert len(list(killed.glob("*.log"))) == 1
    staging.discard()
    assert len(list((tmp_path / "store").glob("*.log"))) == 1
    assert contents(store) == {b"a": (5, b"value")}


def test_what_was_staged_does_not_take_a_store_back(store):
    store._parts.apply((put(5, b"a"),))
    staging = replica.Staging(store._parts, 0, keep=False)
    staging.add((put(3, b"b"),))
    with pytest.raises(InvalidRequest, match="goes back"):
        staging.adopt(4)
    staging.discard()
    assert contents(store) == {b"a": (5, b"value")}


@pytest.mark.parametrize("version", [0, 5, 9])
@pytest.mark.parametrize("empty", [True, False])
def test_a_promoted_store_goes_on_behind_what_its_source_gave(tmp_path, version, empty):
    with Store(tmp_path, **SMALL) as store:
        replica.begin(store._parts, ORIGIN)
        if not empty:
            store._parts.apply((put(5, b"a"),))
        replica.promote(store._parts, version)
        newest = max(version, 0 if empty else 5)
        assert store.version == newest
        assert store.put(b"b", b"1") == newest + 1
        wanted = contents(store)
        check_store(store)
    with Store(tmp_path, **SMALL) as store:
        assert contents(store) == wanted
        assert store.put(b"b", b"2") == newest + 2


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.tuples(
            st.lists(st.tuples(st.integers(1, 3), st.integers(0, 9), st.booleans()), max_size=5),
            st.sampled_from(["apply", "apply", "keep", "replace", "compact", "open", "kill"]),
        ),
        max_size=12,
    )
)
def test_any_history_is_that_of_a_dict(tmp_path_factory, history):
    folder = tmp_path_factory.mktemp("replica")
    store = Store(folder / "0", **SMALL)
    replica.begin(store._parts, ORIGIN)
    version, model, opens = 0, {}, 0
    for steps, action in history:
        changes, before = [], version
        for step, number, lives in steps:
            version += step
            key = b"key %d" % number
            changes.append(put(version, key, b"%d" % version) if lives else delete(version, key))
        if action in ("keep", "replace"):
            staging = replica.Staging(store._parts, before, keep=action == "keep")
            staging.add(tuple(changes))
            staging.adopt(version)
            model = model if action == "keep" else {}
        else:
            store._parts.apply(tuple(changes))
        for change in changes:
            model[change.key] = (change.version, change.value)
            if change.kind == "delete":
                del model[change.key]
        if action == "compact":
            store.compact()
        elif action == "open":
            store.close()
            store = Store(store.path, **SMALL)
        elif action == "kill":
            opens += 1
            with store._parts.jobs:
                shutil.copytree(store.path, folder / str(opens))
            store.close()
            store = Store(folder / str(opens), **SMALL)
        assert contents(store) == model
        check_store(store)
    store.close()
    shutil.rmtree(folder)
