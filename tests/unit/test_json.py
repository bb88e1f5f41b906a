"""JSON as the bus writes it."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskbus.model.errors import InvalidArgument
from taskbus.model.json import dump, dump_field, load, load_own

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(values)
def test_every_value_comes_back(value: Any) -> None:
    text = dump(value)
    assert text == json.dumps(value, separators=(",", ":"))
    assert text.isascii()
    assert load(text) == load_own(text) == value


def self_containing() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


def deep() -> list[Any]:
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "where"),
    [
        *((value, "args") for value in (math.nan, math.inf, b"x", {1, 2}, ..., {(1, 2): 3})),
        ({"a": [1j]}, "args.a[0]"),
    ],
    ids=repr,
)
def test_what_json_cannot_carry(value: Any, where: str) -> None:
    with pytest.raises((TypeError, ValueError)):
        dump(value)
    with pytest.raises(InvalidArgument) as caught:
        dump_field("args", value)
    assert caught.value.about["field"] == where


@pytest.mark.parametrize("make", [self_containing, deep])
def test_what_has_no_end(make: Any) -> None:
    with pytest.raises(InvalidArgument):
        dump_field("args", make())


def test_tuples_become_lists_and_keys_become_text() -> None:
    assert dump({"a": (1, 2), 3: None}) == '{"a":[1,2],"3":null}'
