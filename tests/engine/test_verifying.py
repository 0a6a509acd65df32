"""verify() finds damage wherever it is, says where and what, and changes nothing.

What is derived from the log heals with rebuild=True; what is not is named on every way to it.
"""

import shutil
from pathlib import Path

import pytest

from kvengine import CorruptData, NotAStore, Store, verify
from kvengine.testing.check import check_store

OPTIONS = {
    "durability": "os",
    "segment_bytes": 8192,
    "key_buffer_entries": 16,
    "compaction": "manual",
}
MARK = b"find me "


@pytest.fixture
def path(tmp_path):
    """A closed store with compacted, closed and open segments, a saved index and two key runs."""
    with Store(tmp_path / "store", **OPTIONS) as store, store._parts.jobs:  # no background work
        for number in range(200):
            store.put(b"old %03d" % (number % 150), b"o" * 90)
        store.compact()
        for number in range(100):
            store.put(b"new %03d" % number, MARK + b"%03d" % number, metadata=b"meta")
        store._parts.end_active_segment()
        store.checkpoint()
        store.put(b"last", b"last value " * 5)
        store.put(b"large", b"large value " * 1000)
    assert {name.suffix for name in (tmp_path / "store").iterdir()} >= {".log", ".index", ".keys"}
    assert len(list((tmp_path / "store").glob("*.keys"))) == 2
    return tmp_path / "store"


def content(path, **options):
    with Store(path, **OPTIONS, **options) as store:
        check_store(store)
        return list(store.scan())


def newest(path, kind):
    return max(path.glob(kind))


def oldest(path, kind):
    return min(path.glob(kind))


def change(file, at, mask=0x10):
    data = bytearray(file.read_bytes())
    data[at] ^= mask
    file.write_bytes(data)


def mark_at(path, number):
    """Return the file and place of a value."""
    for file in path.glob("*.log"):
        if (at := file.read_bytes().find(MARK + b"%03d" % number)) >= 0:
            return file, at
    raise AssertionError(number)


DAMAGES = {
    "a closed segment": lambda path: mark_at(path, 5),
    "a compacted segment": lambda path: (oldest(path, "*.log"), 200),
    "the open segment": lambda path: (newest(path, "*.log"), 80),
    "a large value": lambda path: (newest(path, "*.log"), 9000),
    "the header of a segment": lambda path: (oldest(path, "*.log"), 20),
    "a shard of the saved index": lambda path: (newest(path, "*.index"), 1000),
    "the description of the saved index": lambda path: (newest(path, "*.index"), 65536 + 3),
    "the trailer of the saved index": lambda path: (newest(path, "*.index"), -5),
    "the header of a key run": lambda path: (newest(path, "*.keys"), 50),
    "a block of a key run": lambda path: (newest(path, "*.keys"), 8000),
    "another key run": lambda path: (oldest(path, "*.keys"), 5000),
    "the manifest": lambda path: (path / "MANIFEST", 60),
}
DERIVED = [name for name in DAMAGES if "index" in name or "key run" in name]


def snapshot(path):
    return {file.name: file.read_bytes() for file in path.iterdir() if file.name != "LOCK"}


def names_of(report):
    places = [(Path(problem.file).name, problem.offset) for problem in report.problems]
    assert len(set(places)) == len(places)  # each once
    return {name for name, _ in places}


def check_problem(problem, file):
    assert isinstance(problem, CorruptData)
    assert Path(problem.file).name == file.name
    assert 0 <= problem.offset <= max(file.stat().st_size, 1) if file.exists() else True
    assert problem.expected != problem.found
    for part in (problem.file, problem.offset, problem.expected, problem.found):
        assert str(part) in str(problem)


def test_a_clean_store_has_no_problems(path):
    before = snapshot(path)
    report = verify(path)
    assert (report.ok, report.problems) == (True, ())
    logs = list(path.glob("*.log"))
    assert report.files == len(logs) + 1 + 2 + 1  # an index, two key runs, the manifest
    assert report.records == 150 + 100 + 2
    assert report.bytes >= sum(file.stat().st_size - 64 for file in logs)
    assert snapshot(path) == before
    with Store(path, **OPTIONS) as store:
        assert store.verify() == report


@pytest.mark.parametrize("name", DAMAGES)
def test_every_kind_of_damage_is_found_and_named(path, name):
    file, at = DAMAGES[name](path)
    change(file, at)
    before = snapshot(path)
    report = verify(path)
    assert not report.ok
    assert names_of(report) == {file.name}
    for problem in report.problems:
        check_problem(problem, file)
    assert snapshot(path) == before


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_under_an_open_store_is_found(path, name):
    """Another program wrote to the files; the store has them mapped."""
    with Store(path, **OPTIONS) as store:
        assert store.verify().ok
        file, at = DAMAGES[name](path)
        with file.open("r+b") as raw:  # in place, so that the mapping sees it
            raw.seek(at, 2 if at < 0 else 0)
            byte = raw.read(1)[0]
            raw.seek(-1, 1)
            raw.write(bytes([byte ^ 0x10]))
        report = store.verify()
        assert names_of(report) == {file.name}
        for problem in report.problems:
            check_problem(problem, file)


@pytest.mark.parametrize("kind", ["*.log", "*.index", "*.keys", "MANIFEST"])
@pytest.mark.parametrize("how", ["missing", "empty", "cut"])
def test_files_that_are_missing_or_too_short(path, kind, how):
    file = oldest(path, kind)
    if how == "missing":
        file.unlink()
    else:
        with file.open("r+b") as raw:
            raw.truncate(0 if how == "empty" else file.stat().st_size - 16)
    report = verify(path)
    assert not report.ok
    assert names_of(report) == {file.name}
    for problem in report.problems:
        check_problem(problem, file)


def test_each_damaged_record_is_listed_once_and_costs_only_itself(path):
    whole = verify(path).records
    places = [mark_at(path, number) for number in (3, 30, 31, 77)]
    for file, at in places:
        change(file, at)
    report = verify(path)
    assert report.records == whole - 4 + 1 - 1
    found = [problem.offset for problem in report.problems]
    assert len(found) == 3  # two neighbors are one place
    for file, at in places[:2]:
        assert any(p.file == file.name and 0 < at - p.offset < 128 for p in report.problems)


def test_nothing_stops_at_the_first_problem(path):
    """One damage in each file that can be opened by itself, all in one report."""
    files = [*path.glob("*.log"), *path.glob("*.index")]
    for file in files:
        change(file, 100)
    runs = sorted(path.glob("*.keys"))
    change(runs[0], 50)  # its header
    change(runs[1], 8000)
    report = verify(path)
    assert names_of(report) == {file.name for file in (*files, *runs)}


def test_progress_ends_at_the_total(path):
    seen = []
    verify(path, lambda *figures: seen.append(figures))
    assert seen
    assert seen == sorted(seen)
    assert seen[-1][0] == seen[-1][1] > 0


def test_what_is_no_store(tmp_path):
    with pytest.raises(NotAStore):
        verify(tmp_path / "nothing")
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(NotAStore, match="not a kvengine store"):
        verify(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]


# -- rebuild


@pytest.mark.parametrize("name", DERIVED)
def test_rebuild_heals_what_is_derived(path, name):
    expected = content(path)
    change(*DAMAGES[name](path))
    assert not verify(path).ok
    assert content(path, rebuild=True) == expected
    assert verify(path).ok
    with Store(path, read_only=True) as store:
        assert {file.name for file in path.glob("*.keys")} == set(store._parts.manifest.key_runs)
    assert content(path) == expected


@pytest.mark.parametrize("kind", ["*.index", "*.keys"])
def test_rebuild_does_without_files_that_are_gone(path, kind):
    expected = content(path)
    for file in path.glob(kind):
        file.unlink()
    with pytest.raises(CorruptData, match=r"found none|found -1") as caught:
        content(path)
    assert caught.value.file.endswith(kind[1:])
    if kind == "*.index":
        assert "rebuild=True" in str(caught.value)
    assert content(path, rebuild=True) == expected
    assert content(path) == expected


@pytest.mark.parametrize("name", [name for name in DAMAGES if name not in DERIVED])
def test_rebuild_does_not_hide_what_can_not_be_made_again(path, name):
    file, at = DAMAGES[name](path)
    change(file, at)
    try:
        store = Store(path, **OPTIONS, rebuild=True)
    except CorruptData as error:
        assert error.file == file.name
        return
    with store:  # of a large value only the header is read by replay
        assert name == "a large value"
        with pytest.raises(CorruptData):
            store.get(b"large")


# -- verify="auto" and "always"


def change_value_of(path, find):
    for file in path.glob("*.log"):
        if (at := file.read_bytes().find(find)) >= 0:
            with file.open("r+b") as raw:
                raw.seek(at + len(find) - 1)
                byte = raw.read(1)[0]
                raw.seek(-1, 1)
                raw.write(bytes([byte ^ 1]))
            return
    raise AssertionError(find)


READS = {
    "get": lambda store, key: store.get(key),
    "get_many": lambda store, key: store.get_many([key]),
    "get_entry": lambda store, key: store.get_entry(key),
    "scan": lambda store, key: list(store.scan(key)),
    "item": lambda store, key: store[key],
}


@pytest.mark.parametrize("mode", ["auto", "always"])
@pytest.mark.parametrize("name", READS)
def test_small_values_are_checked_on_each_read(path, mode, name):
    with Store(path, **OPTIONS, verify=mode) as store:
        assert READS[name](store, b"new 042")
        change_value_of(path, MARK + b"042")
        with pytest.raises(CorruptData, match="record"):
            READS[name](store, b"new 042")


@pytest.mark.parametrize("name", READS)
def test_large_values_are_checked_again_only_with_always(path, name):
    for mode in ("auto", "always"):
        copy = path.with_name(mode)
        shutil.copytree(path, copy)
        with Store(copy, **OPTIONS, verify=mode) as store:
            assert READS[name](store, b"large")
            change_value_of(copy, b"large value large value")
            if mode == "always":
                with pytest.raises(CorruptData, match="value"):
                    READS[name](store, b"large")
            else:
                assert READS[name](store, b"large")


@pytest.mark.parametrize("mode", ["auto", "always"])
@pytest.mark.parametrize("name", READS)
def test_large_values_are_checked_on_the_first_read(path, mode, name):
    with Store(path, **OPTIONS) as store:
        store.checkpoint()  # else a replay finds it
    change_value_of(path, b"large value large value")
    with Store(path, **OPTIONS, verify=mode) as store, pytest.raises(CorruptData, match="value"):
        READS[name](store, b"large")


def test_a_reader_that_has_caught_up_verifies_the_files_that_there_are(tmp_path):
    """It need not take over a new manifest to follow the log; the old one names files that went."""
    options = {"segment_bytes": 4096, "key_buffer_entries": 16, "compaction": "manual"}
    with Store(tmp_path, durability="os", **options) as writer:
        for number in range(100):
            writer.put(b"%d" % number, bytes(100))
        writer.checkpoint()
        with Store(tmp_path, read_only=True) as reader:
            for number in range(100):
                writer.put(b"more %d" % number, bytes(100))
                writer._parts.maintenance.run(writer._parts.flush_keys)
                assert reader.get(b"more %d" % number) is not None
            writer._parts.maintenance.run(lambda: writer._parts.merge_keys(everything=True))
            writer.put(b"last", b"")
            assert reader.get(b"last") == b""
            assert reader.verify().problems == ()


@pytest.mark.parametrize("is_open", [False, True])
def test_damage_is_found_however_often_another_process_replaces_files(path, is_open):
    change(oldest(path, "*.log"), 4096)
    with Store(path, **OPTIONS) as other, Store(path, **OPTIONS) as store:
        passes = []

        def replace_files(done, total):
            if done == total:
                passes.append(done)
                assert len(passes) < 10, "it goes round for ever"
                other.put(b"last", b"%d" % len(passes))
                other.checkpoint()

        report = store.verify(replace_files) if is_open else verify(path, replace_files)
    assert [Path(problem.file).name for problem in report.problems] == [oldest(path, "*.log").name]
    assert len(passes) == 2


def test_what_others_replace_while_a_thread_of_the_store_starts_over_is_no_damage(path):
    with Store(path, **OPTIONS) as other, Store(path, **OPTIONS) as store:
        passes = []

        def replace_files(done, total):
            if not passes:
                other._parts.maintenance.run(other._parts.replace_manifest)
                store._parts.follower.start_over()
                other.put(b"last", b"")
                other.checkpoint()
            if not passes or done == total:
                passes.append(done)

        assert store.verify(replace_files).problems == ()
        assert len(passes) == 3
