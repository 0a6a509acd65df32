"""Requests, answers and changes as bytes: what comes out went in, or it is refused."""

import math
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvengine import ProtocolError
from kvengine.edge import codec
from kvengine.edge.codec import Kind
from kvengine.edge.messages import Answer, ChangeBatch, ChangeEvent, KeyRequest
from kvengine.replication.network.framing import COUNT_MAX

PAGE = (Path(__file__).parents[2] / "kvengine/edge/WIRE.md").read_text()

versions = st.integers(0, (1 << 48) - 1)
keys = st.binary(min_size=1, max_size=1024)
ages = st.floats(0, 1e9)
ends = st.none() | st.floats(0, 1e12)
requests = st.builds(KeyRequest, keys, versions, versions, ages)
answers = st.builds(
    Answer,
    versions,
    versions,
    ages,
    st.none() | st.binary(max_size=99),
    st.binary(max_size=9),
    ends,
    st.just(False),
)
events = st.builds(
    ChangeEvent,
    versions,
    keys,
    st.just(True),
    st.none() | st.binary(max_size=99),
    st.binary(),
    ends,
    ages,
) | st.builds(ChangeEvent, versions, keys, st.just(False), st.none(), st.just(b""), ends, ages)
changes = st.builds(
    ChangeBatch,
    versions,
    versions,
    ages | st.just(math.inf),
    st.lists(events, max_size=4).map(tuple),
    ages,
    st.booleans(),
)


def reader(data):
    view = [data]

    def read(size):
        found, view[0] = view[0][:size], view[0][size:]
        return found

    return read


def decoded(data, kind):
    return list(codec.frames(reader(data), kind))


@given(st.lists(requests, max_size=5))
def test_wants_come_out_as_they_went_in(given_wants):
    assert decoded(codec.encode_requests(given_wants), Kind.REQUESTS) == [given_wants]


@given(st.lists(answers, max_size=5))
def test_answers_come_out_as_they_went_in(given_answers):
    assert decoded(codec.encode_answers(given_answers), Kind.ANSWERS) == [given_answers]


@given(st.lists(changes, max_size=3))
def test_news_come_out_as_they_went_in(given_changes):
    data = b"".join(codec.encode_changes(one, number) for number, one in enumerate(given_changes))
    assert decoded(data, Kind.CHANGES) == given_changes


def test_an_unchanged_answer_comes_out_as_such():
    one = Answer(5, 9, 0.5, unchanged=True)
    assert decoded(codec.encode_answers([one]), Kind.ANSWERS) == [[one]]


STREAMS = {
    Kind.REQUESTS: codec.encode_requests([KeyRequest(b"key", 7, 5, 60.0), KeyRequest(b"other")]),
    Kind.ANSWERS: codec.encode_answers(
        [Answer(3, 4, 0.25, b"value", b"m", 4e9), Answer(0, 4, 0.0), Answer(3, 4, 0.0, b"")]
    ),
    Kind.CHANGES: codec.encode_changes(
        ChangeBatch(
            3,
            9,
            0.5,
            (ChangeEvent(4, b"key", True, b"value", b"m", 4e9, 0.1), ChangeEvent(9, b"z", False)),
        )
    ),
}


@pytest.mark.parametrize("kind", STREAMS)
def test_every_flipped_byte_is_refused(kind):
    data = STREAMS[kind]
    for at in range(len(data)):
        for bit in (1, 128):
            broken = bytearray(data)
            broken[at] ^= bit
            with pytest.raises(ProtocolError):
                decoded(bytes(broken), kind)


@pytest.mark.parametrize("kind", STREAMS)
def test_every_cut_is_refused(kind):
    for size in range(1, len(STREAMS[kind])):
        with pytest.raises(ProtocolError):
            decoded(STREAMS[kind][:size], kind)


def test_frames_that_are_swapped_or_of_another_kind_are_refused():
    first = codec.encode_changes(ChangeBatch(0, 1, 0.0), 0)
    second = codec.encode_changes(ChangeBatch(1, 2, 0.0), 1)
    assert len(decoded(first + second, Kind.CHANGES)) == 2
    for data in (second + first, first + first, second):
        with pytest.raises(ProtocolError):
            decoded(data, Kind.CHANGES)
    with pytest.raises(ProtocolError):
        decoded(first, Kind.ANSWERS)


@given(st.binary(max_size=200))
def test_garbage_is_refused(data):
    if data:
        with pytest.raises(ProtocolError):
            decoded(data, Kind.CHANGES)


def test_the_page_says_what_is_sent():
    (example,) = re.findall(r"```hex request\n(.*?)```", PAGE, re.DOTALL)
    assert bytes.fromhex(example) == codec.encode_requests([KeyRequest(b"k", 7, 5, 60.0)])
    assert f"{codec.FORMAT.size_max:,}" in PAGE
    assert f"{COUNT_MAX:,}" in PAGE
