"""Values that every door can carry: WAMP as msgpack or as JSON, the HTTP bridge, and the store.

What one of them cannot carry is refused where it is made: the router would drop the message, or
the receiver its session, and a caller would wait for ever. Lean: the forker imports this.
"""

from math import isfinite
from typing import Any, NamedTuple

# Readers of JSON follow no deeper, some of them by far not as deep as they can be sent.
DEEPEST = 100
# The integers of msgpack. JavaScript reads those beyond 2**53 as the nearest that it has.
SMALLEST_INTEGER, LARGEST_INTEGER = -(2**63), 2**64 - 1
# Bytes of JSON: the router's messages hold 16 MiB.
LARGEST_RESULT = 16_000_000
# Autobahn for Python takes these keywords of an answer for its own, and its caller hears nothing.
RESERVED_KEYWORDS = frozenset(
    {"self", "enc_algo", "callee", "callee_authid", "callee_authrole", "forward_for"}
)
RESERVED_IN_ERRORS = RESERVED_KEYWORDS | {"error"}

_LONGEST_STEP, _MOST_STEPS = 40, 10


class Flaw(NamedTuple):
    """Why a value cannot be carried. ``place``: where in it, as ``args[0].name``."""

    place: str
    value: Any
    problem: str
    remedy: str


def flaw(place: str, value: Any) -> Flaw | None:
    """The first part of a value that cannot be carried; ``place`` names the whole."""
    try:
        # The whole is the bus' own list or object of arguments, not a part of any value.
        _check(value, DEEPEST + 1)
    except _Found as found:
        steps = found.path[: -_MOST_STEPS - 1 : -1]
        more = "..." if len(found.path) > _MOST_STEPS else ""
        where = place + "".join(steps) + more
        return Flaw(where, found.value, found.problem, found.remedy)
    return None


def is_portable(value: Any) -> bool:
    """Whether every door can carry it."""
    return flaw("", value) is None


def portable_text(text: str) -> str:
    """The text as every door can carry it: the characters that none can, as ``\\ud800``."""
    if not text.isascii():
        text = text.encode("utf-8", "backslashreplace").decode()
    return "\\x00" + text[1:] if text.startswith("\0") else text


class _Found(Exception):
    def __init__(self, value: Any, problem: str, remedy: str) -> None:
        super().__init__(problem)
        self.value = value
        self.problem = problem
        self.remedy = remedy
        self.path: list[str] = []


def _check(value: Any, deeper: int) -> None:
    if isinstance(value, str):
        _check_text(value)
    elif isinstance(value, int):
        if not SMALLEST_INTEGER <= value <= LARGEST_INTEGER:
            raise _Found(value, "an integer of more than 64 bits", "send it as a text")
    elif isinstance(value, float):
        if not isfinite(value):
            raise _Found(value, "not a finite number", "send null or a text instead")
    elif isinstance(value, (list, tuple, dict)):
        _check_parts(value, deeper)
    elif value is not None:
        raise _Found(
            value,
            f"{type(value).__name__} is not a JSON type",
            "send texts, finite numbers, true, false, null, lists and objects",
        )


def _check_parts(whole: Any, deeper: int) -> None:
    if deeper == 0:
        what = f"a {type(whole).__name__}"
        raise _Found(what, f"nested more than {DEEPEST} deep", "send a flatter value")
    named = isinstance(whole, dict)
    for name, part in whole.items() if named else enumerate(whole):
        if named:
            _check_key(name)
        # Most parts are plain, and seen to be so at once: a call for each would take far longer.
        kind = type(part)
        if (
            (kind is str and part.isascii() and not part.startswith("\0"))
            or (kind is int and SMALLEST_INTEGER <= part <= LARGEST_INTEGER)
            or (kind is float and isfinite(part))
            or kind is bool
            or part is None
        ):
            continue
        try:
            _check(part, deeper - 1)
        except _Found as found:
            found.path.append(_step(name))
            raise


def _step(name: Any) -> str:
    if isinstance(name, str) and name.isidentifier():
        return f".{name[:_LONGEST_STEP]}"
    return f"[{name!a:.{_LONGEST_STEP}}]"


def _check_key(name: Any) -> None:
    if type(name) is str and name.isascii() and not name.startswith("\0"):
        return
    if not isinstance(name, str):
        raise _Found(name, "a key that is not a text", "send keys as texts")
    _check_text(name)


def _check_text(text: str) -> None:
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise _Found(
                portable_text(text),
                "a text with half a character, a lone surrogate",
                "send valid Unicode",
            ) from None
    if text.startswith("\0"):
        # In WAMP's JSON it would arrive as bytes, or end the session of who reads it.
        raise _Found(portable_text(text), "a text that begins with NUL", "send bytes as base64")
