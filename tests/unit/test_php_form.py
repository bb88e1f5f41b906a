"""Forms as PHP writes them."""

from typing import Any

import pytest

from taskbus.gateway.php_form import parse_form
from taskbus.model.errors import InvalidArgument


@pytest.mark.parametrize(
    ("body", "value"),
    [
        ("", {}),
        ("a=", {"a": ""}),
        ("a=1&b=x+y%26z", {"a": "1", "b": "x y&z"}),
        ("a%5Bb%5D%5Bc%5D=%C3%A9", {"a": {"b": {"c": "é"}}}),
        ("a[b]=1&a[c]=2", {"a": {"b": "1", "c": "2"}}),
        ("a[]=x&a[]=y", {"a": {"0": "x", "1": "y"}}),
        ("a[][b]=x&a[][b]=y", {"a": {"0": {"b": "x"}, "1": {"b": "y"}}}),
        ("a=1&a=2", {"a": "2"}),
        ("a=1&a[b]=2", {"a": {"b": "2"}}),
        ("a[b]=2&a=1", {"a": "1"}),
        ("a[b=1", {"a[b": "1"}),
        ("a]=1&[b]=2", {"a]": "1", "[b]": "2"}),
    ],
)
def test_forms(body: str, value: Any) -> None:
    assert parse_form(body.encode()) == value


@pytest.mark.parametrize(
    "body",
    [
        b"nonsense",
        b"&".join(b"a%d=" % n for n in range(1001)),
        b"a=%ff",
        "a=é".encode(),
        b"a=%00",
        b"a" + b"[b]" * 200 + b"=1",
        b"a" + b"[b]" * 100_000 + b"=1",
    ],
    ids=["no-pairs", "too-many", "no-utf8", "no-ascii", "nul", "deep", "deeper"],
)
def test_what_is_no_form(body: bytes) -> None:
    with pytest.raises(InvalidArgument) as caught:
        parse_form(body)
    assert str(caught.value.about["field"]).startswith("body")
