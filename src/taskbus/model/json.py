"""JSON as the bus writes it: compact ASCII, no NaN, so that every peer can read it."""

import json
from json import decoder, encoder, scanner
from typing import Any

from taskbus.model.errors import InvalidArgument


def _refuse(value: Any) -> Any:
    raise TypeError(f"{type(value).__name__} is not a JSON type")


# The C parts of the standard library's codec, without the Python around them, which costs a
# freshly forked child more page faults than all the rest of its work.
_encode = encoder.c_make_encoder(  # type: ignore[attr-defined]
    None, _refuse, encoder.encode_basestring_ascii, None, ":", ",", False, False, False
)
_scan = scanner.c_make_scanner(decoder.JSONDecoder())  # type: ignore[attr-defined]

load = json.loads


def dump(value: Any) -> str:
    """The JSON text; raises TypeError or ValueError for what JSON cannot carry."""
    return "".join(_encode(value, 0))


def load_own(text: str) -> Any:
    """The value of a text that ``dump`` wrote: no white space, nothing after it."""
    return _scan(text, 0)[0]


def dump_field(field: str, value: Any) -> str:
    """The JSON text of a field of a request, or InvalidArgument."""
    try:
        return dump(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidArgument(field, value, f"not JSON: {error}", "send JSON values") from None
