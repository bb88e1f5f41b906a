"""Cases that tasks in every language pass, in ``cases.json``, and what a handler is for that.

A handler has nine procedures; what is not said below it does in its language's usual way:

- ``give(*args, **kwargs)`` returns what it was given.
- ``told(...)`` returns the called URI and ``details.caller_authid``.
- ``fail(uri, message, **about)`` fails with that error URI, where it is not null, that message and
  those details.
- ``crash(message)`` fails as a bug does, ``leave()`` ends its program.
- ``odd(kind)`` returns what no door carries: not a number (``nan``), a text that begins with NUL
  (``nul``), or with half a character in it (``half``), a list nested 101 deep (``deep``), the
  keyword ``callee`` (``taken``), a text of 17,000,000 characters (``large``).
- ``steps(pipe, *messages)`` tells each message as progress, the fraction being that of the messages
  told, and after each reads a byte from the FIFO; returns their number.
- ``hang(pipe)`` opens the FIFO, and every few milliseconds writes a byte there and tells its
  progress, until nobody reads it. ``late(pipe)`` does the same, and has a short timeout.

A case calls a procedure (``call``) with ``args`` and ``kwargs``, and has a ``result`` or an
``error``; each of ``values`` is given, and comes back as it is. A case runs as a call and as a
job, unless ``how`` names one of them. An error has a URI; ``has`` is in its message or its details,
``about`` names details that it has. ``stop``: it is cancelled once it runs.

``not`` names the handlers of which a case cannot hold, and says why; ``without`` says it of whole
procedures, of all jobs, or of the cases that are ``checks`` of what the bus itself does not carry.

What stands for what JSON has no short words for: ``{"$repeat": [text or list, times]}``,
``{"$nested": depth}`` (lists), ``{"$nested_objects": depth}``, ``{"$keys": count}``; in a text,
``$uri`` is the called URI, ``$pipe`` a FIFO.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_READ = json.loads(Path(__file__).with_name("cases.json").read_text())


@dataclass(frozen=True)
class Case:
    """One case; its fields are those of the JSON."""

    name: str
    call: str = "give"
    args: list[Any] = field(default_factory=list)
    kwargs: dict[str, Any] = field(default_factory=dict)
    result: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    how: str = ""
    progress: list[str] | None = None
    stop: str = ""
    checks: bool = False
    excused: dict[str, str] = field(default_factory=dict)

    def holds_of(self, handler: str, how: str) -> bool:
        """Whether this handler has to pass it, as a ``call`` or as a ``job``."""
        without = _READ["without"].get(handler, {})
        return (
            handler not in self.excused
            and self.how in ("", how)
            and not without.keys() & {how, self.call, "checks" if self.checks else ""}
        )


def cases() -> list[Case]:
    """All cases."""
    found = [Case(name, **_fields(body)) for name, body in _READ["cases"].items()]
    for name, body in _READ["values"].items():
        fields = _fields(body)
        given = {"args": fields.get("args", []), "kwargs": fields.get("kwargs", {})}
        found.append(Case(name, result=given, **fields))
    return found


def _fields(body: dict[str, Any]) -> dict[str, Any]:
    fields = {name: _whole(value) for name, value in body.items()}
    return fields | {"excused": fields.pop("not", {})}


# What the short words stand for.
_SHORT: dict[str, Callable[[Any], Any]] = {
    "$repeat": lambda what: what[0] * what[1],
    "$nested": lambda depth: json.loads("[" * depth + "]" * depth),
    "$nested_objects": lambda depth: json.loads('{"a":' * (depth - 1) + "{}" + "}" * (depth - 1)),
    "$keys": lambda count: {f"key {number}": number for number in range(count)},
}


def _whole(value: Any) -> Any:
    if isinstance(value, list):
        return [_whole(part) for part in value]
    if not isinstance(value, dict):
        return value
    for word, make in _SHORT.items():
        if value.keys() == {word}:
            return make(value[word])
    return {name: _whole(part) for name, part in value.items()}
