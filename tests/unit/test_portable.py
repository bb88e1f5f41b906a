"""Values that every door can carry."""

import json
from typing import Any

import autobahn.twisted  # noqa: F401 - the serializers bind to the framework chosen before them
import pytest
from autobahn.wamp.serializer import JsonObjectSerializer, MsgPackObjectSerializer
from hypothesis import given
from hypothesis import strategies as st

from taskbus.model.portable import DEEPEST, flaw, is_portable, portable_text

# Python's own texts hold lone surrogates, its integers have no end, its keys are of any kind.
texts = (
    st.text(st.characters(exclude_categories=()), max_size=5) | st.just("\0") | st.just("\ud800")
)
keys = texts | st.integers() | st.booleans() | st.none()
leaves = st.none() | st.booleans() | st.integers() | st.integers(2**63, 2**65) | st.floats() | texts
values = st.recursive(
    leaves | st.binary(max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=10,
)


def nested(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels - 1):
        value = [value]
    return value


@given(values)
def test_what_is_portable_comes_back_from_every_serializer(value: Any) -> None:
    if not is_portable(value):
        return
    assert json.loads(json.dumps(value)) == value
    serializers: list[Any] = [JsonObjectSerializer(), MsgPackObjectSerializer()]
    for serializer in serializers:
        assert serializer.unserialize(serializer.serialize([value])) == [[value]]


@given(values)
def test_what_is_not_has_a_place_and_a_remedy_that_can_be_told(value: Any) -> None:
    found = flaw("args", value)
    if found is not None:
        assert found.place.startswith("args")
        assert found.problem
        assert found.remedy
        assert is_portable(found.place)


@given(texts)
def test_a_text_can_always_be_told(text: str) -> None:
    assert is_portable(portable_text(text))
    if is_portable(text):
        assert portable_text(text) == text


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ([1, [2**64]], "args[1][0]"),
        ([{"a": {"b c": -(2**63) - 1}}], "args[0].a['b c']"),
        ([{"ü": [float("nan")]}], "args[0].ü[0]"),
        ([{"\ud800": 1}], "args[0]"),
        ([{1: 2}], "args[0]"),
        ([{"x" * 99: 1j}], "args[0]." + "x" * 40),
        ([nested(DEEPEST)], None),
        ([nested(DEEPEST + 1)], "args" + "[0]" * 10 + "..."),
        ([(1, 2), True, None, 0.5, "\x7f", "a\0"], None),
    ],
)
def test_places(value: Any, place: str | None) -> None:
    found = flaw("args", value)
    assert (found and found.place) == place


def test_what_has_no_end() -> None:
    value: list[Any] = []
    value.append(value)
    assert not is_portable(value)
