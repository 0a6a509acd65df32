"""The reader of traces: what is written is read back; what is wrong is refused with its line."""

import csv
import gzip
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvengine.cli.replaying.replay_trace import DELETE, NAME_OF, NOT_SAID, READ, WRITE, read_trace
from kvengine.errors import InvalidRequest
from kvengine.options import VALUE_BYTES_MAX

NAMED = {"get": READ, "SET": WRITE, "delete": DELETE}
keys = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
sizes = st.one_of(st.integers(0, VALUE_BYTES_MAX), st.none())
times = st.floats(0, 1e9)
requests = st.lists(st.tuples(times, st.sampled_from(sorted(NAMED)), keys, sizes), min_size=1)
MORE = ("time", "op", "key", "size")


def trace_of(text: str | bytes):
    data = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text
    return read_trace(io.BytesIO(data), "trace")


def written(rows, *, packed=False) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    data = text.getvalue().encode()
    return gzip.compress(data) if packed else data


def lines(trace):
    for number, pick in enumerate(trace.picks):
        yield trace.keys[pick], trace.ops[number], trace.sizes[number]


@given(requests, st.booleans(), st.booleans(), st.permutations(MORE))
def test_what_is_written_is_read_back(found, packed, with_names, order):
    found.sort(key=lambda request: request[0])
    rows = [[*request[:3], "" if request[3] is None else request[3]] for request in found]
    if with_names:
        places = [MORE.index(name) for name in order]
        rows = [[row[place] for place in places] for row in rows]
        rows.insert(0, list(order))
    trace = trace_of(written(rows, packed=packed))
    expected = [
        (key.encode(), NAMED[op], NOT_SAID if size is None else size) for _, op, key, size in found
    ]
    assert list(lines(trace)) == expected
    assert list(trace.times) == [time - found[0][0] for time, *_ in found]
    assert len(trace.keys) == len(set(trace.keys))


@given(st.lists(st.tuples(keys, st.integers(0, VALUE_BYTES_MAX)), min_size=1), st.booleans())
def test_traces_of_caches_have_no_times_and_are_read_only(found, with_sizes):
    rows = [list(pair if with_sizes else pair[:1]) for pair in found]
    if rows[0][0].strip().lower() in NAME_OF and not with_sizes:
        rows.insert(0, ["key"])
    trace = trace_of(written(rows))
    assert list(lines(trace)) == [
        (key.encode(), READ, size if with_sizes else NOT_SAID) for key, size in found
    ]
    assert not trace.has_times


@given(st.binary(), st.booleans())
def test_whatever_a_file_holds_it_is_read_or_refused(data, packed):
    try:
        trace = trace_of(gzip.compress(data) if packed else data)
    except InvalidRequest as error:
        assert str(error).startswith(("trace, line ", "trace has no requests"))
    else:
        assert len(trace) > 0


@given(requests, st.data())
def test_a_damaged_trace_is_refused_or_read_never_a_crash(found, data):
    found.sort(key=lambda request: request[0])
    packed = bytearray(written(found, packed=data.draw(st.booleans())))
    place = data.draw(st.integers(0, len(packed) - 1))
    packed[place] ^= 1 << data.draw(st.integers(0, 7))
    try:
        trace_of(bytes(packed[: data.draw(st.integers(place, len(packed)))]))
    except InvalidRequest as error:
        assert str(error).startswith(("trace, line ", "trace has no requests"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "trace has no requests"),
        ("\n\n", "trace has no requests"),
        ("time,op,key,size\n", "trace has no requests"),
        ("a,1\nb,x\n", "line 2: a size is 0 to 67,108,864 bytes, not 'x'"),
        ("a,1\n\nb,-1\n", "line 3: a size is"),
        ("a,1\nb,67108865\n", "line 2: a size is"),
        ("a,1\nb\n", "line 2: expected 2 columns (key, size), found 1"),
        ("1,2,3,4,5\n", "line 1: expected key; key,size; time,op,key or time,op,key,size; found 5"),
        ("1,get,a,1\n2,fetch,b,1\n", "line 2: an op is get, put or delete"),
        ("1,get,a,1\n0.5,get,b,1\n", "line 2: its time, 0.5, is before that of the line above, 1"),
        ("x,get,a,1\n", "line 1: a time is a number, not 'x'"),
        ("1,get,a,1\nnan,get,a,1\n", "line 2: a time is a number"),
        ("1,get,,1\n", "line 1: a key has 1 to 1,024 bytes, not 0"),
        ("1,get," + "k" * 1025 + ",1\n", "line 1: a key has 1 to 1,024 bytes, not 1,025"),
        ('a,1\n"b\n', "line 2: this is not CSV"),
        ("key,id\n", "line 1: two columns are named key"),
        ("when,op,key\n1,get,a,1\n", "line 2: expected 3 columns (when, op, key), found 4"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(text, said):
    with pytest.raises(InvalidRequest) as refused:
        trace_of(text)
    assert said in str(refused.value)


def test_a_cut_gzip_file_is_refused():
    packed = gzip.compress(b"".join(b"%d,1\n" % number for number in range(10_000)))
    with pytest.raises(InvalidRequest, match=r"trace, line \d+: the gzip file is damaged"):
        trace_of(packed[: len(packed) // 2])


def test_columns_without_a_meaning_are_left_out_and_others_come_in_any_order():
    trace = trace_of("client,Size,KEY,timestamp\nx,5,a,10\ny,6,b,12.5\n")
    assert list(lines(trace)) == [(b"a", READ, 5), (b"b", READ, 6)]
    assert list(trace.times) == [0.0, 2.5]


def test_times_have_a_unit_and_can_be_given_a_rate():
    trace = read_trace(io.BytesIO(b"1000,get,a\n3000,get,b\n"), "trace", unit="ms")
    assert list(trace.times) == [0.0, 2.0]
    trace.at_rate(4)
    assert list(trace.times) == [0.0, 0.25]


def test_keys_that_are_not_utf8_keep_their_bytes():
    assert trace_of(b"\xff\xfe,1\n").keys == [b"\xff\xfe"]
