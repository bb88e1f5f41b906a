"""The router's node configuration: its template, filled in."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

_PLACEHOLDER = re.compile(r"\$\{([^{}]*)\}")
_URI = re.compile(r"[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*")
_RESERVED = ("wamp", "crossbar", "taskbus")


class TemplateError(ValueError):
    """The node template, or a value for it, cannot be used."""


def render_node(template: str, values: Mapping[str, str | int], namespaces: Sequence[str]) -> str:
    """Return the node configuration (JSON) that the template becomes with these values.

    ``${name}`` inside a string is replaced by the value's text; a string that is nothing but one
    placeholder becomes the value itself, so that a port stays a number. A permission whose ``uri``
    names ``${namespace}`` is repeated for every namespace.
    """
    _check_namespaces(namespaces)
    try:
        node = json.loads(template)
    except ValueError as error:
        raise TemplateError(f"the node template is not JSON: {error}") from None
    return json.dumps(_render(node, values, namespaces, "node"), indent=4) + "\n"


def _check_namespaces(namespaces: Sequence[str]) -> None:
    for namespace in namespaces:
        if not _URI.fullmatch(namespace):
            raise TemplateError(
                f"{namespace!r} is not a namespace: want dotted words such as com.example.shop"
            )
        if namespace.split(".")[0] in _RESERVED:
            # Every caller may call every namespace: this would open the bus's own procedures.
            raise TemplateError(f"{namespace!r} is reserved: it cannot be a namespace of the API")


def _render(
    node: Any, values: Mapping[str, str | int], namespaces: Sequence[str], where: str
) -> Any:
    if isinstance(node, str):
        return _fill(node, values, where)
    if isinstance(node, dict):
        return {
            key: _render(item, values, namespaces, f"{where}.{key}") for key, item in node.items()
        }
    if isinstance(node, list):
        return [
            _render(copy, copy_values, namespaces, f"{where}[{index}]")
            for index, item in enumerate(node)
            for copy, copy_values in _copies(item, values, namespaces)
        ]
    return node


def _copies(
    item: Any, values: Mapping[str, str | int], namespaces: Sequence[str]
) -> list[tuple[Any, Mapping[str, str | int]]]:
    uri = item.get("uri") if isinstance(item, dict) else None
    if isinstance(uri, str) and "${namespace}" in uri:
        return [(item, {**values, "namespace": namespace}) for namespace in namespaces]
    return [(item, values)]


def _fill(text: str, values: Mapping[str, str | int], where: str) -> str | int:
    def value(match: re.Match[str]) -> str | int:
        name = match[1]
        if name not in values:
            raise TemplateError(f"{where}: no value for placeholder ${{{name}}}")
        return values[name]

    whole = _PLACEHOLDER.fullmatch(text)
    return value(whole) if whole else _PLACEHOLDER.sub(lambda match: str(value(match)), text)
