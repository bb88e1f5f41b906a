"""Part of the router: what is signed, but no call or event, is refused, and the wrong field named.

Crossbar takes the keys of an object for arguments, and what its own client does not take for a
fault of the router. What is replaced here is not a public part: this belongs to the version that
requirements/router.txt names.
"""

import json
import re

from crossbar.bridge.rest.caller import CallerResource
from crossbar.bridge.rest.publisher import PublisherResource

_URI = re.compile(r"[^\s.#]+(\.[^\s.#]+)*")


def _flaw(event, name):
    """The field that is wrong and what it has to be, or None. ``name``: of the URI's field."""
    uri = event.get(name)
    if not (isinstance(uri, str) and _URI.fullmatch(uri)):
        return name, "a URI"
    for field, kind, wanted in (
        ("args", list, "a list"),
        ("kwargs", dict, "an object"),
        ("options", dict, "an object"),
    ):
        if not isinstance(event.get(field) or kind(), kind):
            return field, wanted
    # Parameters of Autobahn's own.
    for taken in ("self", name, "options"):
        if taken in (event.get("kwargs") or ()):
            return f"kwargs.{taken}", "under another name, or a positional argument"
    return None


def _checking(process, name):
    def checked(resource, request, event):
        if (flaw := _flaw(event, name)) is None:
            return process(resource, request, event)
        field, wanted = flaw
        told = {
            "error": "taskbus.error.invalid_argument",
            "args": [f"{field}: has to be {wanted}"],
            "kwargs": {"field": field},
        }
        request.setResponseCode(400)
        return json.dumps(told).encode()

    return checked


CallerResource._process = _checking(CallerResource._process, "procedure")
PublisherResource._process = _checking(PublisherResource._process, "topic")
