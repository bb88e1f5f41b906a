"""JSON as the bus writes it: compact ASCII, no NaN, so that every peer can read it."""

import json
from json import decoder, encoder, scanner
from typing import Any

from taskbus.model.errors import InvalidArgument, InvalidResult
from taskbus.model.portable import LARGEST_RESULT, RESERVED_KEYWORDS, Flaw, flaw


def _refuse(value: Any) -> Any:
    raise TypeError(f"{type(value).__name__} is not a JSON type")


# The C parts of the standard library's codec, without the Python around them, which costs a
# freshly forked child more page faults than all the rest of its work.
_encode = encoder.c_make_encoder(  # type: ignore[attr-defined]
    None, _refuse, encoder.encode_basestring_ascii, None, ":", ",", False, False, False
)
_scan = scanner.c_make_scanner(decoder.JSONDecoder())  # type: ignore[attr-defined]

_NOTHING = '{"args":[null],"kwargs":{}}'

load = json.loads


def dump(value: Any) -> str:
    """The JSON text of what the bus made itself; raises TypeError or ValueError for no JSON."""
    return "".join(_encode(value, 0))


def load_own(text: str) -> Any:
    """The value of a text that ``dump`` wrote: no white space, nothing after it."""
    return _scan(text, 0)[0]


def check_field(field: str, value: Any) -> None:
    """Raises InvalidArgument where a field of a request cannot be carried further."""
    if found := flaw(field, value):
        raise InvalidArgument(found.place, found.value, found.problem, found.remedy)


def dump_field(field: str, value: Any) -> str:
    """The JSON text of a field of a request, or InvalidArgument."""
    check_field(field, value)
    return dump(value)


def _reserved(kwargs: Any) -> Flaw | None:
    for name in RESERVED_KEYWORDS & kwargs.keys():
        problem = "a keyword that WAMP clients keep for themselves"
        return Flaw(f"kwargs.{name}", kwargs[name], problem, "choose another name")
    return None


def check_result(args: Any, kwargs: Any) -> None:
    """Raises InvalidResult where a result cannot be carried further."""
    found = flaw("args", args)
    if kwargs and not found:
        found = flaw("kwargs", kwargs) or _reserved(kwargs)
    if found:
        raise InvalidResult(
            f"the result's {found.place}: {found.problem}",
            field=found.place,
            value=found.value,
            remedy=found.remedy,
        )


def dump_result(args: Any, kwargs: Any) -> str:
    """A task's result as JSON text, ``{"args": [...], "kwargs": {...}}``, or InvalidResult."""
    if not kwargs and len(args) == 1 and args[0] is None:
        # So do most jobs end, and it spares their processes all that follows.
        return _NOTHING
    check_result(args, kwargs)
    result = {"args": args, "kwargs": kwargs}
    text = dump(result)
    # Escapes make the text longer than what is sent.
    if len(text) > LARGEST_RESULT < len(json.dumps(result, ensure_ascii=False).encode()):
        raise InvalidResult(
            f"the result is larger than {LARGEST_RESULT} bytes of JSON",
            remedy="store it elsewhere and return where it is",
        )
    return text
