"""What the API map has for a caller."""

from types import SimpleNamespace
from typing import Any

import pytest

from taskbus.core.permit import UNLIMITED, Permit
from taskbus.edge.api import Api
from taskbus.model.access import parse_scope
from taskbus.model.apimap import parse_api_map
from taskbus.model.errors import InvalidArgument

MAP = parse_api_map(
    """
[api."com.a.now"]
python = "a:b"
timeout = 5

[api."com.a.later"]
php = "Later"
mode = "background"
queue = "slow"

[api."com.b.*"]
http = "http://127.0.0.1/"
""",
    "api.toml",
)
NOBODY = SimpleNamespace(caller_authrole="operator")


def listed(*scopes: str, **asked: Any) -> list[dict[str, Any]]:
    permit = Permit([parse_scope(one) for one in scopes]) if scopes else UNLIMITED
    return Api(MAP, lambda _: permit).list(NOBODY, **asked)


def test_everything_is_there_for_whom_the_router_lets_ask() -> None:
    both = ["call", "submit"]
    assert listed() == [
        {"uri": "com.a.now", "kind": "python", "mode": "foreground", "timeout": 5.0,
         "queue": "default", "may": both},
        {"uri": "com.a.later", "kind": "php", "mode": "background", "timeout": 300.0,
         "queue": "slow", "may": both},
        {"uri": "com.b.*", "kind": "http", "mode": "foreground", "timeout": 300.0,
         "queue": "default", "may": both},
    ]  # fmt: skip


def may(*scopes: str) -> dict[str, str]:
    return {one["uri"]: " ".join(one["may"]) for one in listed(*scopes)}


def test_a_key_sees_what_its_scopes_allow() -> None:
    assert may("call:*") == {"com.a.now": "call", "com.b.*": "call"}
    assert may("submit:com.a.*") == {"com.a.now": "submit", "com.a.later": "call submit"}
    assert may("call:com.b.x", "submit:com.b.*") == {"com.b.x": "call", "com.b.*": "submit"}
    assert may("read:*") == {}


def test_one_namespace() -> None:
    assert [one["uri"] for one in listed(namespace="com.b")] == ["com.b.*"]
    assert listed(namespace="com.c") == []
    assert Permit([]).may_ask("taskbus.api.list")


@pytest.mark.parametrize("namespace", [1, "", "com..a", ["com.a"]])
def test_what_is_no_namespace_is_refused(namespace: Any) -> None:
    with pytest.raises(InvalidArgument) as refused:
        listed(namespace=namespace)
    assert refused.value.about["field"] == "namespace"
