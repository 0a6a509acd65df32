"""put_many and delete_many: what a pair may be, what is refused and in which words."""

import io

import pytest

import kvengine
from kvengine import InvalidRequest, InvalidType, LimitExceeded
from kvengine.testing.clock import START, ManualClock

NOW = int(START)


@pytest.fixture
def db():
    with kvengine.Database.in_memory(clock=ManualClock()) as opened:
        yield opened


@pytest.fixture
def kv(db):
    return db.namespace("test")


def contents(kv) -> dict:
    return kv.get_many([info.name for info in kv.list().keys])


# -- what a pair may be


FORMS = {
    "mapping": lambda: {"a": "1", "b": b"2"},
    "tuples": lambda: [("a", "1"), ["b", bytearray(b"2")]],
    "dicts": lambda: (
        {"key": key, "value": memoryview(b"12"[at:][:1])} for at, key in enumerate("ab")
    ),
    "mixed": lambda: iter([("a", "1"), {"key": "b", "value": "Mg==", "base64": True}]),
    "stream": lambda: [("a", "1"), ("b", io.BytesIO(b"2"))],
    "null": lambda: [{"key": "a", "value": "1", "base64": None, "metadata": None}, ("b", "2")],
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("atomic", [True, False])
def test_pairs_come_in_several_forms(kv, form: str, atomic: bool) -> None:
    report = kv.put_many(FORMS[form](), atomic=atomic)
    assert contents(kv) == {"a": "1", "b": "2"}
    assert (report.successful_key_count, report.unsuccessful_keys, report.ok) == (2, [], True)


def test_a_dict_has_the_options_of_put(kv) -> None:
    kv.put_many(
        [
            {"key": "a", "value": "", "expiration": NOW + 9, "metadata": {"é": [1, None]}},
            {"key": "b", "value": "", "expiration": NOW + 9, "expiration_ttl": 5, "metadata": 0},
        ]
    )
    assert [tuple(info) for info in kv.list().keys] == [
        ("a", NOW + 9, {"é": [1, None]}),
        ("b", NOW + 5, 0),
    ]


def test_no_pairs_are_no_error(kv) -> None:
    assert kv.put_many([]) == kv.put_many({}) == kv.delete_many(()) == kvengine.BulkReport(0)


# -- what is refused


class TextStream:
    """A file that was opened in text mode."""

    def read(self, size: int) -> str:
        return "text"


BAD_PAIRS = [
    ("", "value", "Key name cannot be empty"),
    ("..", "value", "not allowed as a key name"),
    ("\udc80", "value", "lone surrogate at index 0"),
    ("k" * 513, "value", "UTF-8 encoded length of 513 exceeds key length limit of 512"),
    (5, "value", "a key must be a str, not int"),
    ("key", 5, "not int"),
    ("key", "\ud800", "lone surrogate"),
    ("key", bytes(25 * 2**20 + 1), "Value length of 26214401 exceeds limit of 26214400"),
    ("key", TextStream(), "binary mode"),
]
BAD_ITEMS = [
    *(((key, value), message) for key, value, message in BAD_PAIRS),
    (("key",), "not a tuple of 1"),
    (["key", "value", {}], "not a list of 3"),
    ("ky", "not str"),
    (None, "not NoneType"),
    ({"key": "key"}, 'no "value"'),
    ({"value": "value"}, 'no "key"'),
    ({"key": "key", "value": "value", "expirationTtl": 60}, "unknown field 'expirationTtl'"),
    ({"key": "key", "value": "YQ", "base64": True}, "not base64: Incorrect padding"),
    ({"key": "key", "value": "é", "base64": True}, "not base64"),
    ({"key": "key", "value": "Y Q==", "base64": True}, "not base64"),
    ({"key": "key", "value": b"YQ==", "base64": True}, "in base64 must be a str, not bytes"),
    ({"key": "key", "value": "YQ==", "base64": 1}, "base64 must be true or false, not int"),
    ({"key": "key", "value": "", "expiration": NOW}, f"Invalid expiration of {NOW}"),
    ({"key": "key", "value": "", "expiration": "60"}, "specify an integer, not str"),
    ({"key": "key", "value": "", "expiration_ttl": 0}, "Invalid expiration_ttl of 0"),
    ({"key": "key", "value": "", "expiration_ttl": "60"}, "specify an integer, not str"),
    ({"key": "key", "value": "", "metadata": object()}, "metadata must be JSON"),
    ({"key": "key", "value": "", "metadata": float("nan")}, "metadata must be JSON"),
    ({"key": "key", "value": "", "metadata": "m" * 1023}, "Metadata length of 1025 exceeds"),
]


@pytest.mark.parametrize(("item", "message"), BAD_ITEMS, ids=[text for _, text in BAD_ITEMS])
def test_a_bad_pair_is_named_and_nothing_is_written(kv, item, message: str) -> None:
    kv.put("before", "1")
    with pytest.raises(InvalidRequest, match=message) as caught:
        kv.put_many([("before", "2"), item, ("after", "2"), ("", "")])
    assert str(caught.value).startswith("index 1")
    assert contents(kv) == {"before": "1"}


@pytest.mark.parametrize(("item", "message"), BAD_ITEMS, ids=[text for _, text in BAD_ITEMS])
def test_a_bad_pair_is_in_the_report_and_the_others_are_written(kv, item, message: str) -> None:
    report = kv.put_many([("before", "2"), item, ("after", "2")], atomic=False)
    assert report.successful_key_count == 2
    assert not report.ok
    (failure,) = report.unsuccessful_keys
    assert message in failure["error"]
    assert isinstance(failure["key"], str)
    assert contents(kv) == {"before": "2", "after": "2"}


def test_an_error_keeps_its_kind_and_status(kv) -> None:
    with pytest.raises(LimitExceeded) as caught:
        kv.put_many([("k" * 5000, "")])
    assert caught.value.status == 414
    assert len(str(caught.value)) < 250
    with pytest.raises(InvalidType):
        kv.put_many([("key", 5)])


def test_the_report_has_each_key_in_full(kv) -> None:
    long = "k" * 600
    report = kv.put_many([("", ""), (long, ""), ((), "")], atomic=False)
    assert [failure["key"] for failure in report.unsuccessful_keys] == ["", long, "()"]


@pytest.mark.parametrize("pairs", ["ab", b"ab", 5, None])
def test_pairs_must_be_many(kv, pairs) -> None:
    for call in (kv.put_many, kv.delete_many):
        with pytest.raises(InvalidType, match="give an iterable of"):
            call(pairs)


@pytest.mark.parametrize("atomic", [True, False])
def test_a_stream_or_an_iterator_that_raises_leaves_nothing_behind(kv, atomic: bool) -> None:
    class Broken(io.RawIOBase):
        def readinto(self, buffer):
            raise OSError("the line is dead")

    def broken():
        yield ("a", "1")
        raise OSError("the line is dead")

    for pairs in ([("a", "1"), ("b", Broken())], broken()):
        with pytest.raises(OSError, match="the line is dead"):
            kv.put_many(pairs, atomic=atomic)
        assert contents(kv) == {}


@pytest.mark.parametrize("pairs", [[], [("a", "1")]])
def test_the_durability_is_checked(kv, pairs) -> None:
    with pytest.raises(InvalidRequest, match="durability"):
        kv.put_many(pairs, durability="sometimes")
    with pytest.raises(InvalidRequest, match="durability"):
        kv.delete_many([], durability="sometimes", atomic=False)
    assert contents(kv) == {}
