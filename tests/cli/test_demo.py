"""The demo passes on a small tree, and notices each thing that could go wrong."""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import kvengine
from kvengine.cli.demos import demo_crash, demo_files
from kvengine.cli.demos.demo_loader import Loader
from kvengine.cli.demos.demo_reads import compare_get, compare_get_many, compare_scan, list_prefixes
from kvengine.cli.demos.demo_report import Report

FILES = 120


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A folder with files of many kinds."""
    root = tmp_path / "tree"
    for number in range(FILES):
        path = root / f"folder{number % 3}" / f"file{number:03}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(number * 37))
    (root / os.fsdecode(b"not utf-8 \xff")).write_text("bytes")
    os.mkfifo(root / "pipe")
    (root / "dangling").symlink_to("nowhere")
    with (root / "large").open("wb") as file:
        file.truncate((64 << 20) + 1)
    return root


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which temporary folders are made."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


def test_demo_of_a_small_tree(run, tree: Path, temporary: Path) -> None:
    result = run("demo", "--from", str(tree))
    assert result.exit_code == 0, result.output
    assert f"{FILES + 1} files" in result.stdout
    assert "left out: 1 unreadable, 1 above 64 MiB" in result.stdout
    assert "killed with SIGKILL" in result.stdout
    assert "FAILED" not in result.stdout
    assert re.search(r"\d+ checks held, 0 failed", result.stdout)
    assert list(temporary.iterdir()) == []


def test_demo_in_a_process_keeps_its_stores(process, tree: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    result = process("demo", "--from", str(tree), "--keep", str(kept))
    assert (result.returncode, result.stderr) == (0, b"")
    for name in ("library", "killed", "backup"):
        assert process("verify", str(kept / name)).returncode == 0
        assert process("list", "-0", "--data", str(kept / name)).stdout.count(b"\0") == FILES + 1
    again = process("demo", "--from", str(tree), "--keep", str(kept))
    assert (again.returncode, again.stdout) == (2, b"")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_demo_leaves_nothing(
    tree: Path, temporary: Path, environment: dict[str, str], number: int, code: int
) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "kvengine", "demo", "--from", str(tree)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**environment, "TMPDIR": str(temporary)},
    ) as demo:
        assert demo.stdout is not None
        for line in demo.stdout:
            if b"a reader beside the writer" in line:
                break
        demo.send_signal(number)
        _, messages = demo.communicate()
    assert demo.returncode == code
    assert b"Traceback" not in messages
    assert list(temporary.iterdir()) == []


def test_demo_of_one_file(run, tmp_path: Path, temporary: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "file").write_bytes(b"")
    result = run("demo", "--from", str(tmp_path / "one"))
    assert result.exit_code == 0, result.output


def test_demo_of_nothing(run, tmp_path: Path, temporary: Path) -> None:
    (tmp_path / "empty").mkdir()
    result = run("demo", "--from", str(tmp_path / "empty"))
    assert result.exit_code == 1
    assert re.fullmatch(r"kvengine: no files [^\n]+\n", result.stderr)
    assert run("demo", "--from", str(tmp_path / "absent")).exit_code == 2
    assert list(temporary.iterdir()) == []


def test_a_failed_check_gives_exit_code_1(
    run, tree: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo_crash, "_position", lambda _loader, _present: None)
    result = run("demo", "--from", str(tree))
    assert result.exit_code == 1
    assert "FAILED" in result.stdout
    assert ", 1 failed" in result.stdout


@pytest.fixture
def found(tree: Path) -> demo_files.Tree:
    """What the demo finds in the tree."""
    return demo_files.find_files(str(tree))


@pytest.fixture
def store(data: str, found: demo_files.Tree) -> kvengine.Store:
    """A store that holds the tree."""
    with Loader(data, found.root, found.files, batch_files=7) as loader:
        loader.finish()
        assert loader.loaded(loader.done) == list(found.files)
    return kvengine.Store(data)


def failures(store: kvengine.Store, files: list[demo_files.SourceFile]) -> list[int]:
    """Return how many checks fail in each way of reading."""
    counts = []
    for compare in (compare_get, compare_get_many, compare_scan):
        report = Report()
        compare(store, files).tell(report, "reading", len(files))
        counts.append(report.failed)
    return counts


def test_reading_notices_what_is_wrong(store: kvengine.Store, found: demo_files.Tree) -> None:
    files = list(found.files)
    with store:
        assert failures(store, files) == [0, 0, 0]
        name, entry = files[5].key, store.get_entry(files[5].key)
        assert entry is not None
        store.put(name, entry.value + b"!", metadata=entry.metadata)
        assert failures(store, files) == [1, 1, 1]
        store.put(name, entry.value, metadata=b"other")
        assert failures(store, files) == [0, 0, 1]
        store.delete(name)
        assert failures(store, files) == [1, 1, 1]
        store.put(name, entry.value, metadata=entry.metadata)
        for foreign in (b"foreign", b"zzz"):  # between the files, and after them
            store.put(foreign, b"")
            assert failures(store, files) == [0, 0, 1]
            store.delete(foreign)


def test_a_file_that_changes_is_counted_and_not_blamed(
    store: kvengine.Store, found: demo_files.Tree
) -> None:
    Path(os.fsdecode(found.files[3].path)).write_bytes(b"changed")
    with store:
        comparison = compare_scan(store, found.files)
    assert (comparison.equal, comparison.changed, comparison.wrong) == (FILES, 1, [])


def test_listing_notices_what_is_wrong(store: kvengine.Store, found: demo_files.Tree) -> None:
    keys = [file.key for file in found.files]
    with store:
        report = Report()
        list_prefixes(report, store, keys)
        assert (report.passed, report.failed) == (3, 0)  # everything and two folders
        store.delete(b"folder1/file001")
        list_prefixes(report, store, keys)
        assert report.failed >= 2


class ReverseIsWrong:
    """A store that lists backward as it lists forward."""

    def __init__(self, store: kvengine.Store) -> None:
        self._store = store

    def keys(self, prefix=b"", *, reverse=False, **options):
        return self._store.keys(prefix, **options)


def test_listing_goes_backward_too(store: kvengine.Store, found: demo_files.Tree) -> None:
    report = Report()
    with store:
        list_prefixes(report, ReverseIsWrong(store), [file.key for file in found.files])
    assert (report.passed, report.failed) == (0, 3)


def test_what_cannot_be_a_key_is_left_out(tmp_path: Path) -> None:
    deep = tmp_path.joinpath("deep", *["d" * 250] * 5)
    deep.mkdir(parents=True)
    (deep / "file").write_bytes(b"")
    (tmp_path / "deep" / "file").write_bytes(b"")
    found = demo_files.find_files(str(tmp_path / "deep"))
    assert ([file.key for file in found.files], found.names_too_long) == ([b"file"], 1)


def test_a_file_that_is_gone_is_not_expected(found: demo_files.Tree, data: str) -> None:
    gone = found.files[4]
    os.remove(gone.path)
    with Loader(data, found.root, found.files, batch_files=3) as loader:
        loader.finish()
        loaded = loader.loaded(loader.done)
    assert set(found.files) - set(loaded) == {gone}
    with kvengine.Store(data, read_only=True) as store:
        assert failures(store, loaded) == [0, 0, 0]


def test_recovery_must_leave_a_prefix(tree: Path, data: str) -> None:
    found = demo_files.find_files(str(tree))
    report = Report()
    loader = demo_crash.kill_writer(report, found, data)
    assert (report.passed, report.failed) == (1, 0)
    assert FILES // 2 <= loader.done <= loader.begun <= FILES + 1
    missing = demo_crash.recover(report, loader)
    assert report.failed == 0
    assert FILES + 1 - loader.begun <= len(missing) <= FILES + 1 - loader.done
    with kvengine.Store(data) as store:
        store.delete(loader.files[0].key)  # acknowledged, and lost
    demo_crash.recover(report, loader)
    assert report.failed == 2
    with kvengine.Store(data) as store:
        store.put(loader.files[0].key, b"wrong")
    demo_crash.recover(report, loader)
    assert report.failed == 4  # the acknowledged file, and the scan


def test_a_writer_that_fails_is_reported(run, tree: Path, temporary: Path) -> None:
    shutil.rmtree(tree / "folder0")
    result = run("demo", "--from", str(tree), "--keep", "/proc/nowhere")
    assert result.exit_code == 1
    assert re.fullmatch(r"kvengine: [^\n]+\n", result.stderr)


def test_the_writer_ends_with_its_starter(
    tree: Path, data: str, environment: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "names").write_bytes(b"folder0/file000\0folder0/file003\0absent\0")
    arguments = [data, str(tree), str(tmp_path / "names"), "1", "stay"]
    with subprocess.Popen(
        [sys.executable, "-m", "kvengine.cli.demos.demo_writer", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
    ) as writer:
        said, _ = writer.communicate()  # closes its standard input, as the death of a starter does
    assert writer.returncode == 0
    assert len(re.findall(rb'"begun"', said)) == len(re.findall(rb'"done"', said)) == 2
    assert b'"skipped": [2]' in said
    with kvengine.Store(data) as store:
        assert list(store.keys()) == [b"folder0/file000", b"folder0/file003"]
