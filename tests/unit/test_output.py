"""What a job writes, as its journal keeps it."""

import base64
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from taskbus.worker.output import LARGEST_CHUNK, MOST_OUTPUT, STREAMS, Output


def text(stream: str, words: str) -> dict[str, Any]:
    return {"stream": stream, "text": words}


def written(told: list[dict[str, Any]], stream: str) -> bytes:
    return b"".join(
        base64.b64decode(one["base64"]) if "base64" in one else one["text"].encode()
        for one in told
        if one["stream"] == stream
    )


def news(output: Output) -> list[dict[str, Any]]:
    return output.take(final=False) if output.has_news else []


def test_characters_may_come_in_pieces() -> None:
    output = Output()
    output.add("stdout", b"a\xc3")
    assert output.take(final=False) == [text("stdout", "a")]
    output.add("stderr", b"\xa9")
    assert output.take(final=False) == [{"stream": "stderr", "base64": "qQ=="}]
    output.add("stdout", b"\xa9")
    assert output.take(final=False) == [text("stdout", "é")]
    output.add("stdout", b"\xe2\x82")
    assert output.take(final=True) == [{"stream": "stdout", "base64": "4oI="}]
    assert output.take(final=True) == []


def test_the_order_is_that_of_reading() -> None:
    output = Output()
    for stream, words in (("stderr", b"1"), ("stdout", b"2"), ("stdout", b"3"), ("stderr", b"4")):
        output.add(stream, words)
    assert output.take(final=True) == [
        text("stderr", "1"),
        text("stdout", "23"),
        text("stderr", "4"),
    ]


def test_an_event_is_not_larger_than_a_chunk() -> None:
    output = Output()
    for _ in range(3):
        output.add("stdout", b"x" * (LARGEST_CHUNK // 2 + 1))
    sizes = [len(one["text"]) for one in output.take(final=True)]
    assert sizes == [LARGEST_CHUNK // 2 + 1] * 3


def test_where_it_is_cut_is_told_at_once_and_the_rest_at_the_end() -> None:
    output = Output()
    for _ in range(MOST_OUTPUT // LARGEST_CHUNK):
        output.add("stdout", b"x" * LARGEST_CHUNK)
    output.take(final=False)
    for _ in range(2):
        output.add("stderr", b"12345")
    assert output.has_news
    assert output.take(final=False) == [text("stderr", "") | {"dropped": 10}]
    output.add("stderr", b"678")
    output.add("stdout", b"9")
    assert output.take(final=False) == [text("stdout", "") | {"dropped": 1}]
    output.add("stdout", b"0")
    assert not news(output)
    assert output.take(final=True) == [
        text("stdout", "") | {"dropped": 1},
        text("stderr", "") | {"dropped": 3},
    ]


def test_half_a_character_at_the_cut_comes_before_it() -> None:
    output = Output()
    for _ in range(MOST_OUTPUT // LARGEST_CHUNK - 1):
        output.add("stdout", b"x" * LARGEST_CHUNK)
    output.add("stdout", b"x" * (LARGEST_CHUNK - 1) + "é".encode())
    assert output.take(final=False)[-2:] == [
        {"stream": "stdout", "base64": "ww=="},
        text("stdout", "") | {"dropped": 1},
    ]


Steps = st.lists(
    st.tuples(
        st.sampled_from(STREAMS),
        st.one_of(st.binary(max_size=8), st.text(max_size=4).map(str.encode)),
        st.booleans(),
    )
)


@given(Steps)
def test_every_byte_is_kept_in_its_order(steps: list[tuple[str, bytes, bool]]) -> None:
    output, told = Output(), []
    for stream, data, is_taken in steps:
        output.add(stream, data)
        if is_taken:
            told += output.take(final=False)
    told += output.take(final=True)
    for stream in STREAMS:
        expected = b"".join(data for name, data, _ in steps if name == stream)
        assert written(told, stream) == expected
