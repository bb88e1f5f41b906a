"""Part of the router: what is signed, but no call or event, is refused, and the wrong field named;
every answer of a call arrives, or an error in its place.

Crossbar takes the keys of an object for arguments, and what its own client does not take for a
fault of the router; of an answer that its client does not take nobody hears. What is replaced here
is not a public part: this belongs to the version that requirements/router.txt names.
"""

import json
import re

from autobahn.twisted.wamp import ApplicationSession
from autobahn.wamp.message import Error, Result
from autobahn.wamp.types import PublishOptions
from crossbar.bridge.rest.caller import CallerResource
from crossbar.bridge.rest.publisher import PublisherResource
from crossbar.webservice import rest
from twisted.internet.defer import Deferred

_URI = re.compile(r"[^\s.#]+(\.[^\s.#]+)*")
_LONGEST_SHOWN = 100
# Those that Crossbar reads; it reads none of a call.
_OPTIONS = {
    "forward_for", "retain", "exclude_me", "exclude", "exclude_authid", "exclude_authrole",
    "eligible", "eligible_authid", "eligible_authrole",
}  # fmt: skip
# Keywords of answers that the client takes for its own, see taskbus.model.portable.
_OF_RESULTS = {"self", "enc_algo", "callee", "callee_authid", "callee_authrole", "forward_for"}
_TAKEN = {Result: _OF_RESULTS, Error: {*_OF_RESULTS, "error"}}


def _flaw(event, name):
    """The field that is wrong, its value, the problem and the remedy; or None. ``name``: of the
    URI's field.
    """
    uri = event.get(name)
    if not (isinstance(uri, str) and _URI.fullmatch(uri)):
        return name, uri, "not a URI", "send one such as com.example.shop.order"
    for field, kind, wanted in (
        ("args", list, "a list"),
        ("kwargs", dict, "an object"),
        ("options", dict, "an object"),
    ):
        value = event.get(field)
        if not isinstance(value or kind(), kind):
            return field, value, f"not {wanted}", f"send {wanted}"
    options = event.get("options") or {}
    for option in _OPTIONS & options.keys():
        try:
            PublishOptions(**{option: options[option]})
        except (AssertionError, TypeError, ValueError):
            remedy = "send what WAMP's PUBLISH takes there"
            return f"options.{option}", options[option], "not a value of this option", remedy
    # Parameters of Autobahn's and Twisted's own.
    for taken in ("self", name, "options", "f"):
        if taken in (event.get("kwargs") or ()):
            value = event["kwargs"][taken]
            remedy = "send it under another name, or as a positional argument"
            return f"kwargs.{taken}", value, "a name that is taken", remedy
    return None


def _checking(process, name):
    def checked(resource, request, event):
        def unsendable(failure):
            """JSON cannot carry what has come, as bytes, and nothing is written yet."""
            told = {
                "error": "taskbus.error.invalid_result",
                "args": [f"the answer is no JSON: {failure.value}"],
                "kwargs": {"remedy": "let it answer with JSON values: bytes as base64"},
            }
            request.setResponseCode(200)
            request.write(json.dumps(told).encode())

        if (flaw := _flaw(event, name)) is None:
            answered = process(resource, request, event)
            if isinstance(answered, Deferred):
                answered.addErrback(unsendable)
            return answered
        field, value, problem, remedy = flaw
        told = {
            "error": "taskbus.error.invalid_argument",
            "args": [f"{field}: {problem}"],
            "kwargs": {
                "field": field,
                "value": json.dumps(value)[:_LONGEST_SHOWN],
                "remedy": remedy,
            },
        }
        request.setResponseCode(400)
        return json.dumps(told).encode()

    return checked


class _Session(ApplicationSession):
    def onMessage(self, msg):
        """See ``spared`` of taskbus.bus.session."""
        taken = _TAKEN.get(type(msg))
        if taken and msg.kwargs and not taken.isdisjoint(msg.kwargs):
            msg.kwargs = {
                f"{name}_" if name in taken else name: value for name, value in msg.kwargs.items()
            }
        super().onMessage(msg)


rest.ApplicationSession = _Session
CallerResource._process = _checking(CallerResource._process, "procedure")
PublisherResource._process = _checking(PublisherResource._process, "topic")
