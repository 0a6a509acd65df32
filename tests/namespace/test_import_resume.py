"""An import that did not come to its end goes on where it was, in the file that it was."""

import io
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import kvengine
from kvengine.errors import InvalidRequest
from kvengine.namespace.interface.results import ImportReport
from kvengine.namespace.layout import import_prefix
from kvengine.namespace.transfer import import_ as importing
from kvengine.namespace.transfer import source

ROOT = Path(__file__).parent.parent.parent
COUNT = 20
PAIRS = [{"key": f"{n:02}", "value": "vé" * n, "metadata": {"n": n}} for n in range(COUNT)]


def ndjson(pairs: list) -> bytes:
    return b"\n".join(json.dumps(pair).encode() + b"\r\n" for pair in pairs)  # every other is blank


def wrangler(pairs: list) -> bytes:
    return json.dumps(pairs, indent=1, ensure_ascii=False).encode()


@pytest.fixture(params=[ndjson, wrangler])
def form(request):
    return request.param


@pytest.fixture
def kv(monkeypatch: pytest.MonkeyPatch) -> Iterator[kvengine.Namespace]:
    monkeypatch.setattr(importing, "BATCH_PAIRS", 3)
    with kvengine.Database.in_memory() as db:
        yield db.namespace("n")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "pairs"


def keys(kv) -> list[str]:
    return [info.name for info in kv.list().keys]


def positions(kv) -> int:
    return len(list(kv._store.keys(import_prefix(kv._number))))


def names(start: int, end: int) -> list[str]:
    return [f"{n:02}" for n in range(start, end)]


def stop_after(batches: int):
    """Return a progress function that interrupts an import."""

    def progress(_done: int, _total: int) -> None:
        nonlocal batches
        batches -= 1
        if not batches:
            raise KeyboardInterrupt

    return progress


@pytest.mark.parametrize("read_bytes", [1, 64, 1 << 20])
@pytest.mark.parametrize("batches", range(1, 7))
def test_after_an_interrupt(
    kv, form, path: Path, batches: int, read_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source.Source, "read_bytes", read_bytes)
    path.write_bytes(form(PAIRS))
    with pytest.raises(KeyboardInterrupt):
        kv.import_file(path, progress=stop_after(batches))
    assert keys(kv) == names(0, 3 * batches)
    kv.delete("00")
    report = kv.import_file(path, resume=True)
    assert report.keys == COUNT - 3 * batches
    assert report.resumed_at > 0
    assert keys(kv) == names(1, COUNT)
    assert positions(kv) == 0


def test_without_resume_it_begins_again(kv, form, path: Path) -> None:
    path.write_bytes(form(PAIRS))
    with pytest.raises(KeyboardInterrupt):
        kv.import_file(path, progress=stop_after(1))
    report = kv.import_file(path)
    assert (report.keys, report.resumed_at, positions(kv)) == (COUNT, 0, 0)


def test_resuming_what_is_complete_or_was_never_begun_begins(kv, form, path: Path) -> None:
    path.write_bytes(form(PAIRS))
    assert kv.import_file(path, resume=True).keys == COUNT
    assert kv.import_file(path, resume=True).keys == COUNT


def test_a_broken_pair_can_be_corrected(kv, form, path: Path) -> None:
    wrong = [*PAIRS[:7], {"key": "07"}, *PAIRS[8:]]
    path.write_bytes(form(wrong))
    with pytest.raises(InvalidRequest, match="pairs imported before it: 7"):
        kv.import_file(path)
    assert keys(kv) == names(0, 7)
    with pytest.raises(InvalidRequest, match="pairs imported before it: 0") as caught:
        kv.import_file(path, resume=True)
    line = form(wrong)[: form(wrong).index(b'"07"')].count(b"\n") + (form is ndjson)
    assert f"line {line}" in str(caught.value)
    path.write_bytes(form(PAIRS))
    assert kv.import_file(path, resume=True).keys == COUNT - 7
    assert keys(kv) == names(0, COUNT)


def test_a_file_that_was_cut_can_be_completed(kv, form, path: Path) -> None:
    whole = form(PAIRS)
    for size in range(1, len(whole), 7):
        path.write_bytes(whole[:size])
        try:
            kv.import_file(path)
        except InvalidRequest:
            assert keys(kv) == names(0, len(keys(kv)))
        path.write_bytes(whole)
        kv.import_file(path, resume=True)
        assert keys(kv) == names(0, COUNT)
        for name in keys(kv):
            kv.delete(name)


def test_a_file_whose_beginning_has_changed_is_refused(kv, form, path: Path) -> None:
    text = form(PAIRS)
    path.write_bytes(text)
    with pytest.raises(KeyboardInterrupt):
        kv.import_file(path, progress=stop_after(2))
    for other in (text.replace(b'"00"', b'"xx"'), text[:50], b"", b" " + text):
        path.write_bytes(other)
        with pytest.raises(InvalidRequest, match=r"has changed: its first \d+ bytes"):
            kv.import_file(path, resume=True)
    path.write_bytes(text)
    with pytest.raises(InvalidRequest, match="was imported as"):
        kv.import_file(path, resume=True, format="wrangler" if form is ndjson else "ndjson")
    assert kv.import_file(path, resume=True).keys == COUNT - 6


def test_files_and_namespaces_have_positions_of_their_own(kv, path: Path, tmp_path: Path) -> None:
    path.write_bytes(ndjson(PAIRS))
    other = tmp_path / "other"
    other.write_bytes(ndjson(PAIRS))
    for file, batches in ((path, 1), (other, 2)):
        with pytest.raises(KeyboardInterrupt):
            kv.import_file(file, progress=stop_after(batches))
    assert positions(kv) == 2
    assert kv.import_file(path, resume=True).keys == COUNT - 3
    os.symlink(other, tmp_path / "link")
    assert kv.import_file(tmp_path / "link", resume=True).keys == COUNT - 6  # the same file
    assert positions(kv) == 0


def test_a_stream_is_read_again_up_to_the_place(kv, form) -> None:
    class Pipe(io.BytesIO):
        name = "<stdin>"

    with pytest.raises(KeyboardInterrupt):
        kv.import_file(Pipe(form(PAIRS)), progress=stop_after(2))
    report = kv.import_file(Pipe(form(PAIRS)), resume=True)
    assert report.keys == COUNT - 6


def test_skipped_pairs_do_not_confuse_it(kv, form, path: Path) -> None:
    path.write_bytes(form([{}, *PAIRS[:5], {}, *PAIRS[5:], {}]))
    with pytest.raises(KeyboardInterrupt):
        kv.import_file(path, on_error="skip", progress=stop_after(2))
    report = kv.import_file(path, on_error="skip", resume=True)
    assert (report.keys, report.skipped) == (COUNT - 6, 1)
    assert keys(kv) == names(0, COUNT)


# -- killed

IMPORTER = """
import sys, kvengine
from kvengine.namespace.transfer import import_
import_.BATCH_PAIRS = 7
with kvengine.open(sys.argv[1], durability="os") as db:
    print("open", flush=True)
    db.namespace("n").import_file(
        sys.argv[2], resume=True, progress=lambda done, total: print(done, flush=True))
"""


def import_and_kill(folder: Path, path: Path, batches: int) -> bool:
    """Import in another process until some batches are written; False if it came to its end."""
    command = [sys.executable, "-c", IMPORTER, str(folder), str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"open\n"
        seen = [child.stdout.readline() for _ in range(batches)]
        child.send_signal(signal.SIGKILL)
        child.stdout.read()
        child.wait()
    return bool(seen[-1])


def test_killed_again_and_again_it_ends_with_what_the_file_says(
    form, tmp_path: Path, path: Path
) -> None:
    choice = random.Random(form.__name__)
    pairs = [{"key": f"{n:05}", "value": "v" * choice.randrange(100)} for n in range(20_000)]
    path.write_bytes(form(pairs))
    kills = 0
    while kills < 4 and import_and_kill(tmp_path / "db", path, choice.randrange(1, 60)):
        kills += 1
    with kvengine.open(tmp_path / "db") as db:
        kv = db.namespace("n")
        report: ImportReport = kv.import_file(path, resume=True)
        assert report.resumed_at > 0
        assert report.keys < len(pairs)
        found = {info.name: kv.get(info.name) for info in kv.keys("")}
        assert found == {pair["key"]: pair["value"] for pair in pairs}
        # Each pair was written once: what is resumed begins exactly where the last batch ended.
        written = [c.key for c in db.store.tail() if c.key.startswith(kv._prefix)]
        assert len(written) == len(pairs)
        assert positions(kv) == 0
