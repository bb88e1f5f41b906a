"""Forms as PHP writes and reads them: ``command[params][name]=value`` is an object in an object."""

import re
from typing import Any
from urllib.parse import parse_qsl

from taskbus.model.errors import InvalidArgument
from taskbus.model.json import check_field

_MOST_FIELDS = 1000
_NAME = re.compile(r"([^\[\]]+)((?:\[[^\[\]]*\])*)")
_KEY = re.compile(r"\[([^\[\]]*)\]")


def parse_form(body: bytes) -> dict[str, Any]:
    """An object of texts and objects; ``name[]`` counts up from 0. Raises InvalidArgument."""
    try:
        pairs = parse_qsl(
            body.decode("ascii"),
            keep_blank_values=True,
            strict_parsing=bool(body),
            errors="strict",
            max_num_fields=_MOST_FIELDS,
        )
    except ValueError as error:
        shown = body[:100].decode(errors="replace")
        raise InvalidArgument("body", shown, f"not a form: {error}", "send JSON") from None
    found: dict[str, Any] = {}
    for name, value in pairs:
        _put(found, name, value)
    check_field("body", found)
    return found


def _put(found: dict[str, Any], name: str, value: str) -> None:
    parts = _NAME.fullmatch(name)
    keys = [parts[1], *_KEY.findall(parts[2])] if parts else [name]
    node = found
    for key in keys[:-1]:
        below = node.get(key := key or str(len(node)))
        if not isinstance(below, dict):
            below = node[key] = {}
        node = below
    node[keys[-1] or str(len(node))] = value
