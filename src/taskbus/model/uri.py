"""URIs and the patterns that the API map uses for them."""

import re

from taskbus.model.errors import InvalidArgument
from taskbus.model.portable import is_portable

# WAMP's strict URI rule (specification, "Strict URI Check"), without empty components.
_STRICT = re.compile(r"[0-9a-z_]+(\.[0-9a-z_]+)+")
# The router's own rule.
_LOOSE = re.compile(r"[^\s.#]+(\.[^\s.#]+)*")
_LONGEST = 255

# The bus' own tasks, and those of them that the queue server's clients ask for.
TASKS = "taskbus.task"
COMMANDS = "taskbus.task.command"
RESERVED = ("wamp", "taskbus", "crossbar")


def check_uri(text: object, field: str = "uri") -> str:
    """The URI itself, or InvalidArgument."""
    if isinstance(text, str) and len(text) <= _LONGEST and _STRICT.fullmatch(text):
        return text
    raise InvalidArgument(
        field,
        text,
        "not a WAMP URI",
        "use two or more components of a-z, 0-9 and _, joined by dots, at most 255 characters",
    )


def is_loose_uri(text: object) -> bool:
    """Whether the router takes it for a URI at all; it ends the session of who sends another."""
    return (
        isinstance(text, str)
        and len(text) <= _LONGEST
        and is_portable(text)
        and _LOOSE.fullmatch(text) is not None
    )


def is_pattern(text: str) -> bool:
    """Whether an entry of the API map covers every URI below it."""
    return text.endswith(".*")


def check_pattern(text: str) -> str:
    """A URI, or a URI followed by ``.*``; not below a namespace that the bus itself uses."""
    base = text[:-2] if is_pattern(text) else text
    check_uri(base)
    if base.split(".")[0] in RESERVED:
        raise InvalidArgument(
            "uri", text, "is below a reserved namespace", f"choose one outside {RESERVED}"
        )
    return text


def covers(pattern: str, uri: str) -> bool:
    """``com.x.*`` covers ``com.x.y`` and ``com.x.y.z``, not ``com.x``; a URI covers itself."""
    return uri.startswith(pattern[:-1]) if is_pattern(pattern) else uri == pattern


def in_namespace(uri: str, namespace: str) -> bool:
    """Whether a URI or pattern belongs to a namespace: ``com.x.y`` and ``com.x.*`` to ``com.x``."""
    return uri.startswith(namespace + ".")
