"""Imports: what a file may hold, how it may be written, and how large it may be."""

import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import kvengine
from kvengine.errors import InvalidRequest, InvalidType, StorageError
from kvengine.namespace.transfer import import_ as importing
from kvengine.namespace.transfer import source
from kvengine.testing.clock import START, ManualClock
from tests.namespace.import_files import content, lines, pair, positions

FULL = {
    "key": "all",
    "value": base64.b64encode(b"\xff\0").decode(),
    "base64": True,
    "expiration": int(START) + 100,
    "metadata": {"a": [1, None, "é", 1.5]},
}
# Everything that may be cut in the middle: escapes, characters, numbers, words.
ARRAY = (
    '[{"key":"\\u00e9\\ud83d\\ude00é😀","value":"","expiration":null,"base64":false,'
    '"metadata":{"a":[-1.5e+3,true],"b":null,"c":12}} ,{"key":"é","value":"\\\\"}]'
).encode()


def test_every_field(kv, form) -> None:
    report = kv.import_file(form(FULL, pair("ttl", expiration_ttl=60, expiration=1), pair("plain")))
    assert (report.keys, report.bytes, report.expired, report.skipped) == (3, 4, 0, 0)
    assert kv.get("all", "bytes") == b"\xff\0"
    details = kv.get_metadata("all")
    assert (details.expiration, details.metadata) == (START + 100, FULL["metadata"])
    assert kv.get_metadata("ttl").expiration == START + 60
    details = kv.get_metadata("plain")
    assert (details.expiration, details.metadata) == (None, None)
    assert positions(kv) == 0


def test_fields_that_are_null_are_absent(kv, form) -> None:
    nothing = {"base64": None, "expiration": None, "expiration_ttl": None, "metadata": None}
    kv.import_file(form(pair("k", **nothing)))
    assert kv.get_metadata("k")[1:3] == (None, None)


def test_of_a_key_that_comes_twice_the_last_value_stays(kv, form) -> None:
    kv.put("k", "before", metadata=1)
    kv.import_file(form(pair("k", "first"), pair("k", "last")))
    assert kv.get_with_metadata("k")[:2] == ("last", None)


def test_what_has_ended_is_left_out(kv, form) -> None:
    ended = [pair(str(n), expiration=int(START) + n) for n in (-100, 0)] + [pair("z", expiration=0)]
    report = kv.import_file(form(*ended, pair("k", expiration=int(START) + 1)))
    assert (report.keys, report.expired) == (1, 3)
    assert list(content(kv)) == ["k"]


def test_each_pair_counts_as_a_write(kv, form) -> None:
    kv.import_file(form(pair("a", "12"), pair("b", "345"), pair("ended", expiration=1)))
    assert (kv._meter.writes, kv._meter.bytes_in, kv._meter.reads) == (2, 5, 0)


def test_the_limits_are_those_of_the_database(form) -> None:
    with (
        kvengine.Database.in_memory(limits="strict", clock=ManualClock()) as db,
        pytest.raises(InvalidRequest, match="Expiration TTL must be at least 60"),
    ):
        db.namespace("n").import_file(form(pair("k", expiration_ttl=59)))


# -- shapes of files


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        (b"", []),
        (b"\n\n", []),
        (b"[]", []),
        (b" [ ]\n", []),
        (b'{"key":"a","value":""}', ["a"]),  # no line break at the end
        (b'{"key":"a","value":""}\r\n\r\n{"value":"","key":"b"}\r\n', ["a", "b"]),
        (b'\n  \n\t{"key":"a","value":""}  \n\n', ["a"]),
        (b'\xef\xbb\xbf{"key":"a","value":""}\n', ["a"]),
        (b'\xef\xbb\xbf[{"key":"a","value":""}]', ["a"]),
        (b'\r\n[\r\n {"key":"a","value":""} ,\r\n {"key":"b","value":""}\r\n]\r\n', ["a", "b"]),
        (b'[{"key":"]}","value":"\\"[{","metadata":[{"a":[]},{"b":"}"}]}]', ["]}"]),
        (
            ARRAY,
            ["\xe9", "\xe9\U0001f600\xe9\U0001f600"],
        ),
        (b'[{"key":"\\\\","value":"\\\\\\""}]', ["\\"]),
    ],
)
@pytest.mark.parametrize("read_bytes", [1, 2, 5, 1 << 20])
def test_files_as_people_make_them(
    kv, text: bytes, keys: list[str], read_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source.Source, "read_bytes", read_bytes)
    assert kv.import_file(io.BytesIO(text)).keys == len(keys)
    assert list(content(kv)) == keys


def test_a_form_that_is_named_is_not_guessed(kv) -> None:
    with pytest.raises(InvalidRequest, match=r"expected the .* of a JSON array"):
        kv.import_file(lines(json.dumps(pair("a"))), format="wrangler")
    with pytest.raises(InvalidRequest, match="found a JSON array"):
        kv.import_file(lines(json.dumps([pair("a")])), format="ndjson")
    bom = io.BytesIO(b'\xef\xbb\xbf[{"key":"a","value":""}]')
    assert kv.import_file(bom, format="wrangler").keys == 1


@pytest.mark.parametrize(
    ("file", "options"),
    [
        (None, {}),
        (["a"], {}),
        (io.StringIO("{}"), {}),
        (io.BytesIO(), {"format": "csv"}),
        (io.BytesIO(), {"on_error": "ignore"}),
        (io.BytesIO(), {"atomic": True, "resume": True}),
    ],
)
def test_bad_arguments(kv, file, options: dict) -> None:
    with pytest.raises(InvalidRequest):
        kv.import_file(file, **options)


def test_a_file_that_is_not_there(kv, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot read"):
        kv.import_file(tmp_path / "absent")


def test_a_text_file_is_refused_in_words(kv, tmp_path: Path) -> None:
    (tmp_path / "pairs").write_text("{}\n")
    with (tmp_path / "pairs").open() as file, pytest.raises(InvalidType, match="mode 'rb'"):
        kv.import_file(file)


# -- large ones


def test_a_value_may_be_as_large_as_its_limit_and_all_escaped(form) -> None:
    value = "\0" * (2 << 20)
    with kvengine.Database.in_memory(limits=kvengine.Limits(value_bytes=len(value))) as db:
        kv = db.namespace("n")
        assert kv.import_file(form(pair("large", value), pair("next"))).keys == 2
        assert kv.get("large", "bytes") == value.encode()
        with pytest.raises(InvalidRequest, match="Value length of 2097153 exceeds"):
            kv.import_file(form(pair("larger", value + "\0")))


@pytest.fixture
def small_kv() -> Iterator[kvengine.Namespace]:
    """A namespace whose pairs have about 4 kB at most."""
    limits = kvengine.Limits(value_bytes=10, key_bytes=10, metadata_bytes=0)
    with kvengine.Database.in_memory(limits=limits) as db:
        yield db.namespace("n")


@pytest.mark.parametrize("read_bytes", [100, 1 << 20])
@pytest.mark.parametrize("size", [5000, 50_000])
def test_a_line_longer_than_any_pair(
    small_kv, monkeypatch: pytest.MonkeyPatch, read_bytes: int, size: int
) -> None:
    monkeypatch.setattr(source.Source, "read_bytes", read_bytes)
    before, after = json.dumps(pair("a")), json.dumps(pair("c"))
    with pytest.raises(InvalidRequest, match="line 2: a pair has at most 4216 bytes"):
        small_kv.import_file(lines(before, "x" * size, after))
    assert list(content(small_kv)) == ["a"]
    report = small_kv.import_file(lines(before, "x" * size, after), on_error="skip")
    assert (report.keys, report.skipped, report.refused[0]["line"]) == (2, 1, 2)
    endless = io.BytesIO(b"x" * size)
    assert small_kv.import_file(endless, on_error="skip").skipped == 1
    with pytest.raises(InvalidRequest, match="pair 1: an object has more than 4216 bytes"):
        small_kv.import_file(io.BytesIO(b'[{"key":"' + b"x" * size), on_error="skip")


def test_progress(kv, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "BATCH_PAIRS", 2)
    text = lines(*[json.dumps(pair(str(n))) for n in range(5)]).getvalue()
    (tmp_path / "pairs").write_bytes(text)
    seen: list[tuple[int, int]] = []
    kv.import_file(tmp_path / "pairs", progress=lambda done, total: seen.append((done, total)))
    size = len(text)
    assert seen == [(size * 2 // 5, size), (size * 4 // 5, size), (size, size)]
