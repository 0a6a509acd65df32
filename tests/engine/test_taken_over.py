"""One who writes is killed in the middle: the next one goes on in a new segment.

What the dead one had appended and not made visible is never seen, not even after a power cut that
follows; and a segment of which it had only written the header hides nothing.
"""

import pytest

from kvengine import Store
from kvengine.engine.log import segment_file
from kvengine.testing.check import check_store
from kvengine.testing.crashing import CrashedFolder, KeptDirectory
from kvengine.testing.faulty import FaultyDirectory, Killed
from kvengine.testing.history import content_of

OPTIONS = {"durability": "os", "segment_bytes": 4096, "compaction": "manual"}
FULL = bytes(5000)  # fills a segment


def die_after_writing(file):
    """Let the next write to a file be the last that its process does: it is whole on disk."""
    before = file.hook

    def hook(operation, path, offset, data):
        file.hook = before
        if operation == "write":
            file.write(data, offset)
            raise Killed
        file.hook = hook

    file.hook = hook


def die_in_a_batch(store):
    """Append a batch of two changes that never become visible."""
    die_after_writing(store._parts.segment_table.segment_file(store._parts.rows[-1].id))
    with pytest.raises(Killed), store.batch() as batch:
        batch.put(b"dead", b"1")
        batch.put(b"dead too", b"2")


def reopened(path, **options):
    with Store(path, **OPTIONS, **options) as store:
        check_store(store)
        return content_of(store)


def test_a_tail_that_was_not_visible_is_never_seen(tmp_path):
    with Store(tmp_path / "s", **OPTIONS) as store:
        store.put(b"a", b"1")
        die_in_a_batch(store)
        segment = store._parts.rows[-1].id
        assert b"dead" not in store
        with Store(tmp_path / "s", **OPTIONS) as other:
            assert other.put(b"b", b"2") == 2
            assert other._parts.rows[-1].id > segment
            assert store.put(b"c", b"3") == 3
            expected = {b"a": (b"1", 1), b"b": (b"2", 2), b"c": (b"3", 3)}
            assert content_of(store) == content_of(other) == expected
            assert [change.version for change in other.tail(0)] == [1, 2, 3]
    assert reopened(tmp_path / "s") == reopened(tmp_path / "s", rebuild=True) == expected


def test_a_header_without_its_words_on_the_page_hides_nothing(tmp_path):
    """The other process has made its segment ahead before, so that it has the lower id."""
    with Store(tmp_path / "s", **OPTIONS) as store, Store(tmp_path / "s", **OPTIONS) as other:
        store.put(b"a", FULL)
        other.get(b"a")
        other._parts._make_segment()
        ahead = other._parts.next_segment.id
        store._parts._make_segment()
        dead = store._parts.next_segment.id
        assert ahead < dead
        die_after_writing(store._parts.next_segment.file)
        with pytest.raises(Killed):
            store.put(b"b", b"never")
        assert other.put(b"b", b"2") == 2
        assert other._parts.rows[-1].id > dead
        assert other.put(b"c", FULL) == 3
        assert other.put(b"d", b"4") == 4  # in a segment more
    expected = {b"a": (FULL, 1), b"b": (b"2", 2), b"c": (FULL, 3), b"d": (b"4", 4)}
    assert reopened(tmp_path / "s") == reopened(tmp_path / "s", rebuild=True) == expected


def opened(directory):
    store = Store._in_directory(directory, **OPTIONS)
    store._parts.maintenance.wake = lambda: None  # type: ignore[method-assign]
    return store


@pytest.mark.parametrize("all_die", [False, True], ids=["others are there", "all are killed"])
def test_the_segment_after_a_dead_tail_is_on_disk_before_the_next_one_begins(all_die):
    """Else a power cut could leave that tail and the next segment, and not what was in between."""
    directory = FaultyDirectory(KeptDirectory())
    store, killed = opened(directory), []
    store.put(b"a", b"1")
    die_in_a_batch(store)
    states = {0: {}, 1: content_of(store)}
    for version, value in ((2, b"2"), (3, FULL), (4, b"4"), (5, b"5")):
        assert store.put(b"b", value) == version
        states[version] = content_of(store)
        if all_die and version == 2:
            killed.append(store)  # it is not dropped, which would close it
            store = opened(directory)
    taken_over, following = (segment_file.file_name(row.id) for row in store._parts.rows[1:])
    steps = directory.recording.steps
    begun = next(
        number
        for number, step in enumerate(steps)
        if (step.operation, step.name, step.offset) == ("write", following, 0)
    )
    assert any(CrashedFolder(directory.recording, begun).files("ordered")[taken_over])
    dead = {b"dead": (b"1", 2), b"dead too": (b"2", 3), **states[1]}
    for count in range(begun - 5, len(steps) + 1):
        crashed = CrashedFolder(directory.recording, count)
        for seed in range(20):
            with Store._in_directory(crashed.folder("torn", seed), **OPTIONS) as again:
                found = content_of(again)
                assert found in (dead, states[again.version]), f"step {count}, seed {seed}"
    for one in (store, *killed):
        one.close()


def test_who_starts_over_syncs_segments_that_it_never_followed_through():
    """What lies in a segment that others filled meanwhile is durable, too, when a sync says so."""
    directory = FaultyDirectory(KeptDirectory())
    store = Store._in_directory(directory, **OPTIONS)
    other = Store._in_directory(directory, **OPTIONS)
    for one in (store, other):
        one._parts.maintenance.wake = lambda: None  # type: ignore[method-assign]
    store.put(b"a", b"1")
    for number in range(3):  # each in a segment of its own
        other.put(b"b %d" % number, FULL)
    store._parts.follower.start_over()
    assert len(store._parts.rows) > 2
    store.put(b"c", b"5", durability="sync")
    expected = content_of(store)
    assert store._parts.control_page.durable_version == store.version == 5
    left = CrashedFolder(directory.recording, len(directory.recording.steps)).folder("ordered")
    with Store._in_directory(left, **OPTIONS) as again:
        assert content_of(again) == expected
    other.close()
    store.close()
