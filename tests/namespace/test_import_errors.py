"""Imports of files that are wrong: what is said of them, and what stays."""

import io
import json

import pytest

from kvengine.errors import InvalidRequest, NamespaceNotFound
from kvengine.namespace.transfer import import_ as importing
from kvengine.namespace.transfer import source
from tests.namespace.import_files import content, lines, pair, positions


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\n", "line 1: expected an object .* it is not UTF-8"),
        (b"key,value\na,1\n", "line 1: expected an object .* not JSON: Expecting value"),
        ("{}\n".encode("utf-16"), "line 1: .* not UTF-8"),
        (b'{\n "key": "a",\n "value": "b"\n}\n', "line 1: .* not JSON"),
        (b"5\n", "line 1: expected an object .*, found a JSON number"),
        (b"null\n", "found a JSON null"),
        (b"true\n", "found a JSON boolean"),
        (b'"a"\n', "found a JSON string"),
        (b'\n{"key":"a"}\n', 'line 2: the pair has no "value"'),
        (b'{"value":"a"}\n', 'line 1: the pair has no "key"'),
        (b'{"key":"a","value":"b","expiraton":1}\n', "line 1: unknown field 'expiraton' in a pair"),
        (b'{"key":5,"value":"b"}\n', "line 1: a key must be a str"),
        (b'{"key":"","value":"b"}\n', "Key name cannot be empty"),
        (b'{"key":"..","value":"b"}\n', "not allowed as a key name"),
        (b'{"key":"\\ud800","value":"b"}\n', "lone surrogate"),
        (b'{"key":"a","value":"\\ud800"}\n', "lone surrogate"),
        (b'{"key":"a","value":5}\n', "the value must be a string, not a JSON number"),
        (b'{"key":"a","value":null}\n', "the value must be a string, not a JSON null"),
        (b'{"key":"a","value":{"b":1}}\n', "the value must be a string, not a JSON object"),
        (b'{"key":"a","value":"*","base64":true}\n', "not base64"),
        (b'{"key":"a","value":"YQ","base64":true}\n', "not base64"),
        ('{"key":"a","value":"é","base64":true}\n'.encode(), "not base64"),
        (b'{"key":"a","value":"b","base64":"yes"}\n', "base64 must be true or false"),
        (b'{"key":"a","value":"b","expiration":1e10}\n', "Invalid expiration .* not float"),
        (b'{"key":"a","value":"b","expiration":"2000000000"}\n', "not str"),
        (b'{"key":"a","value":"b","expiration":true}\n', "not bool"),
        (b'{"key":"a","value":"b","expiration":1' + b"0" * 20 + b"}\n", "must end before"),
        (b'{"key":"a","value":"b","expiration_ttl":0}\n', "Invalid expiration_ttl of 0"),
        (b'{"key":"a","value":"b","metadata":NaN}\n', "not JSON: NaN is not a number"),
        (b'{"key":"a","value":"b","metadata":1e999}\n', "metadata must be JSON"),
        (b'{"key":"a","value":"b","metadata":' + b"[" * 10**5 + b"]" * 10**5 + b"}\n", "not JSON"),
        (b'{"key":"a","value":"b","metadata":' + b"1" * 5000 + b"}\n", "not JSON"),
        (b'{"key":"a","value":"b","metadata":"' + b"m" * 1024 + b'"}\n', "Metadata length of 1026"),
        (b'{"key":"' + b"k" * 513 + b'","value":"b"}\n', "exceeds key length limit of 512"),
        (b'[{"key":"a","value":"b"}', "pair 2: expected a comma, .* the end of the file"),
        (b'[{"key":"a","value":"b"', "pair 1: the file ends in the middle of this object"),
        (b'[{"key":"a","value":"b', "pair 1: the file ends in the middle of this object"),
        (b'[{"key":"a","value":"b\\', "pair 1: the file ends in the middle of this object"),
        (b"[", "pair 1: expected an object and found the end of the file"),
        (b'[\n{"key":"a","value":"b"},\n]', "line 3, pair 2: expected an object and found ']'"),
        (b'[{"key":"a","value":"b"} {', "pair 2: expected a comma"),
        (b"[[]]", "pair 1: expected an object"),
        (b'["a"]', "pair 1: expected an object"),
        (b"[{]}]", "pair 1: .*not JSON"),
        (b"[{'key':1}]", "pair 1: .*not JSON"),
        (b'[{"key":"a","value":"\xff"}]', "pair 1: .* it is not UTF-8"),
        (b'[{"key":"a","value":"b"},{"key":"c","value":"\xc3', "pair 2: the file ends"),
        (b'[{"key":"a","value":"b","metadata":NaN}]', "pair 1: .*not JSON: NaN"),
        (b'[{"key":"a","value":"b","metadata":' + b"[" * 10**5, "pair 1: .*not JSON"),
        (b"[] []", "line 1: expected nothing after the ]"),
    ],
)
@pytest.mark.parametrize("read_bytes", [3, 1 << 20])
def test_files_that_are_wrong(
    kv, text: bytes, said: str, read_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source.Source, "read_bytes", read_bytes)
    with pytest.raises(InvalidRequest, match=said) as caught:
        kv.import_file(io.BytesIO(text))
    assert str(caught.value).startswith("the stream, line ")
    assert set(content(kv)) <= {"a"}


# -- what stays when something is wrong


def test_what_comes_before_a_broken_line_is_kept(kv, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "BATCH_PAIRS", 4)
    texts = [json.dumps(pair(str(n))) for n in range(10)]
    with pytest.raises(InvalidRequest, match=r"line 8: .*; pairs imported before it: 7"):
        kv.import_file(lines(*texts[:7], '{"key":', *texts[8:]))
    assert list(content(kv)) == list("0123456")


def test_an_atomic_import_is_whole_or_absent(kv, form, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "BATCH_PAIRS", 2)
    pairs = [pair(str(n)) for n in range(10)]
    before = kv._store.version
    with pytest.raises(InvalidRequest, match="nothing was imported"):
        kv.import_file(form(*pairs, {}), atomic=True)
    assert kv._store.version == before
    assert kv.import_file(form(*pairs), atomic=True).keys == 10
    assert kv._store.version == before + 10


def test_an_atomic_import_that_is_too_large(kv) -> None:
    text = json.dumps(pair("k", "v" * (25 << 20)))
    with pytest.raises(InvalidRequest, match=r"line 6: a batch can have at most .*; nothing was"):
        kv.import_file(lines(*[text] * 6), atomic=True, on_error="skip")
    assert content(kv) == {}


def test_skipping(kv, form) -> None:
    report = kv.import_file(form(pair("a"), {"key": 5}, pair("b"), {}), on_error="skip")
    assert (report.keys, report.skipped) == (2, 2)
    errors = [refused["error"] for refused in report.refused]
    assert errors == ['the pair has no "value"', 'the pair has no "key"']
    assert list(content(kv)) == ["a", "b"]


def test_skipping_lines_that_are_no_json(kv) -> None:
    report = kv.import_file(
        lines(json.dumps(pair("a")), "", "{", json.dumps(pair("b"))), on_error="skip"
    )
    assert [refused["line"] for refused in report.refused] == [3]
    assert list(content(kv)) == ["a", "b"]


def test_a_report_names_a_thousand_lines_at_most(kv) -> None:
    report = kv.import_file(lines(*["x"] * 1500), on_error="skip")
    assert (report.skipped, len(report.refused)) == (1500, 1000)


@pytest.mark.parametrize("text", [b'{"key":"b","val', b'{"key":"b","value":"v"'])
def test_the_end_of_a_file_is_never_skipped(kv, text: bytes) -> None:
    file = io.BytesIO(json.dumps(pair("a")).encode() + b"\n" + text)
    with pytest.raises(
        InvalidRequest, match=r"line 2: .*; the file ends in this line; pairs .*: 1"
    ):
        kv.import_file(file, on_error="skip")


def test_a_broken_object_in_an_array_is_never_skipped(kv) -> None:
    file = io.BytesIO(b'[{"key":"a","value":"v"}, {"key":"b" "value":""}, {}]')
    with pytest.raises(InvalidRequest, match=r"line 1, pair 2: .*not JSON"):
        kv.import_file(file, on_error="skip")
    assert list(content(kv)) == ["a"]


def test_a_stream_that_raises_leaves_whole_batches(kv, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "BATCH_PAIRS", 4)
    monkeypatch.setattr(source.Source, "read_bytes", 1)

    class Broken(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if self.tell() > 200:
                raise ConnectionError("the other side went away")
            return super().read(size)

    file = Broken(lines(*[json.dumps(pair(str(n))) for n in range(10)]).getvalue())
    with pytest.raises(ConnectionError):
        kv.import_file(file)
    assert list(content(kv)) == list("0123")
    assert positions(kv) == 1


def test_a_namespace_that_is_deleted_meanwhile_keeps_nothing(
    kv, db, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "BATCH_PAIRS", 4)
    texts = [json.dumps(pair(str(n))) for n in range(10)]
    with pytest.raises(NamespaceNotFound):
        kv.import_file(lines(*texts), progress=lambda done, total: db.delete(kv.id))
    db._remover.wait()
    assert list(kv._store.keys(kv._prefix)) == []
    assert positions(kv) == 0
