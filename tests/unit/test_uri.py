"""URIs and patterns."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskbus.model.errors import InvalidArgument
from taskbus.model.uri import check_pattern, check_uri, covers, in_namespace, is_pattern

components = st.lists(st.text("ab0_", min_size=1, max_size=3), min_size=2, max_size=5)


@pytest.mark.parametrize("uri", ["a.b", "com.example_1.0", "_._", "a." + "b" * 253])
def test_good_uris(uri: str) -> None:
    assert check_uri(uri) == uri


@pytest.mark.parametrize(
    "uri",
    [None, 1, b"a.b", "", "a", "a.", ".a", "a..b", "A.b", "a-b.c", "a.b\n", "a.b c", "a.é", "a.*",
     "a." + "b" * 254],
)  # fmt: skip
def test_bad_uris(uri: object) -> None:
    with pytest.raises(InvalidArgument) as caught:
        check_uri(uri, "topic")
    assert caught.value.about["field"] == "topic"


@pytest.mark.parametrize("pattern", ["com.x", "com.x.*", "wampum.x", "taskbus2.x.*"])
def test_good_patterns(pattern: str) -> None:
    assert check_pattern(pattern) == pattern


@pytest.mark.parametrize(
    "pattern",
    ["wamp.x", "taskbus.job.run", "crossbar.x.*", "com.*", "*", ".*", "com.x.*.*", "com.*.x"],
)
def test_bad_patterns(pattern: str) -> None:
    with pytest.raises(InvalidArgument):
        check_pattern(pattern)


@given(components, components)
def test_a_pattern_covers_what_is_below_it(base: list[str], other: list[str]) -> None:
    pattern = ".".join(base) + ".*"
    below = len(other) > len(base) and other[: len(base)] == base
    assert is_pattern(pattern)
    assert covers(pattern, ".".join(other)) == below
    assert in_namespace(".".join(other), ".".join(base)) == below
    assert covers(pattern, ".".join([*base, "x"]))
    assert not covers(pattern, ".".join(base))


@given(components, components)
def test_a_uri_covers_itself_only(one: list[str], other: list[str]) -> None:
    assert covers(".".join(one), ".".join(other)) == (one == other)
