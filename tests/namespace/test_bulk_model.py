"""Bulk calls, compared with a dict after each."""

import hypothesis.strategies as st
import pytest
from hypothesis import given

import kvengine
from kvengine import InvalidRequest

keys = st.text("ab/é\0", max_size=3)  # "" is among them, and is no key
values = st.one_of(st.text(max_size=4), st.binary(max_size=4))
pairs = st.lists(st.tuples(keys, values), max_size=8)
steps = st.one_of(
    st.tuples(st.just("put"), pairs, st.booleans()),
    st.tuples(st.just("delete"), st.lists(keys, max_size=8), st.booleans()),
    st.tuples(st.just("prefix"), keys, st.booleans()),
)


def encoded(value: str | bytes) -> bytes:
    return value.encode() if isinstance(value, str) else value


def apply(kv: kvengine.Namespace, model: dict[str, bytes], name: str, given, flag: bool) -> None:
    """Do one step with both, and compare what the call returns."""
    if name == "prefix":
        matching = [key for key in model if key.startswith(given)]
        assert kv.delete_prefix(given, dry_run=flag) == len(matching)
        for key in matching if not flag else ():
            del model[key]
        return
    call = kv.put_many if name == "put" else kv.delete_many
    changes = given if name == "put" else [(key, None) for key in given]
    good = [(key, value) for key, value in changes if key]
    if flag and len(good) < len(changes):  # atomic
        with pytest.raises(InvalidRequest, match=r"^index \d: Key name cannot be empty"):
            call(given)
        return
    report = call(given, atomic=flag)
    assert report.successful_key_count == len(good)
    assert [failure["key"] for failure in report.unsuccessful_keys] == [""] * (
        len(changes) - len(good)
    )
    for key, value in good:
        if value is None:
            model.pop(key, None)
        else:
            model[key] = encoded(value)


@given(st.lists(steps, max_size=12), st.integers(1, 4))
def test_bulk_calls_do_what_a_dict_does(taken, part_changes: int) -> None:
    model: dict[str, bytes] = {}
    with pytest.MonkeyPatch.context() as patch, kvengine.Database.in_memory() as db:
        patch.setattr("kvengine.namespace.transfer.bulk.PART_CHANGES", part_changes)
        other, kv = db.namespace("other"), db.namespace("test")
        other.put("a", "untouched")
        for step in taken:
            apply(kv, model, *step)
            assert kv.get_many(list(model), "bytes") == model
            assert [info.name for info in kv.list().keys] == sorted(model, key=str.encode)
        assert other.get("a") == "untouched"
