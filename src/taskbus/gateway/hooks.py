"""Outgoing webhooks over HTTP: endpoints, what was delivered to them, and events to deliver."""

from typing import Any

from taskbus.gateway.describe import (
    ID,
    NUMBER,
    TEXT,
    Schema,
    an_object,
    answer,
    body,
    operation,
    parameter,
)
from taskbus.gateway.route import Answer, Bus, Request, Route
from taskbus.model.job import State

_OPTIONS = ("url", "call", "topics", "filter", "ordered", "description", "secret")


def routes() -> list[Route]:
    """All of this file."""
    return [
        Route("GET", "/hooks", list_endpoints, _LIST),
        Route("PUT", "/hooks/{client}", put_endpoint, _PUT),
        Route("GET", "/hooks/{client}", get_endpoint, _GET),
        Route("DELETE", "/hooks/{client}", delete_endpoint, _DELETE),
        Route("POST", "/hooks/{client}/rotate", rotate, _ROTATE),
        Route("POST", "/hooks/{client}/ping", ping, _PING),
        Route("POST", "/hooks/{client}/replay", replay_since, _REPLAY_SINCE),
        Route("GET", "/hooks/{client}/deliveries", list_deliveries, _DELIVERIES),
        Route("GET", "/hooks/{client}/deliveries/{job}", get_delivery, _DELIVERY),
        Route("POST", "/hooks/{client}/deliveries/{job}/replay", replay, _REPLAY),
        Route("POST", "/v1/events/{topic}", publish, _PUBLISH),
    ]


async def list_endpoints(_request: Request, bus: Bus) -> Answer:
    """Those that the caller may manage."""
    return Answer(200, {"hooks": await bus.call("taskbus.hook.list")})


async def put_endpoint(request: Request, bus: Bus) -> Answer:
    """Register one, or change it."""
    client = request.params["client"]
    told: Any = await bus.call("taskbus.hook.put", client, **request.fields(*_OPTIONS))
    if told["new"]:
        return Answer(201, told, {"Location": f"/hooks/{client}"})
    return Answer(200, told)


async def get_endpoint(request: Request, bus: Bus) -> Answer:
    """One, without its secrets."""
    return Answer(200, await bus.call("taskbus.hook.get", request.params["client"]))


async def delete_endpoint(request: Request, bus: Bus) -> Answer:
    """Forget it."""
    await bus.call("taskbus.hook.delete", request.params["client"])
    return Answer(204)


async def rotate(request: Request, bus: Bus) -> Answer:
    """A new secret."""
    said = request.fields("secret", "overlap") if request.body else {}
    return Answer(200, await bus.call("taskbus.hook.rotate", request.params["client"], **said))


async def ping(request: Request, bus: Bus) -> Answer:
    """An event for this endpoint alone."""
    return Answer(202, await bus.call("taskbus.hook.ping", request.params["client"]))


async def replay_since(request: Request, bus: Bus) -> Answer:
    """Send again what has failed since a time."""
    since = request.fields("since").get("since")
    client = request.params["client"]
    ids: Any = await bus.call("taskbus.hook.replay", client, since=0 if since is None else since)
    return Answer(202, {"deliveries": ids})


async def replay(request: Request, bus: Bus) -> Answer:
    """Send one again that has failed."""
    client, job = request.params["client"], request.params["job"]
    return Answer(202, {"deliveries": await bus.call("taskbus.hook.replay", client, job=job)})


async def list_deliveries(request: Request, bus: Bus) -> Answer:
    """What was sent, the newest first."""
    given = {
        "state": request.one("state"),
        "before": request.one("before"),
        "limit": request.number("limit"),
    }
    said = {name: value for name, value in given.items() if value is not None}
    found: Any = await bus.call("taskbus.hook.deliveries", request.params["client"], **said)
    return Answer(200, {"deliveries": found})


async def get_delivery(request: Request, bus: Bus) -> Answer:
    """One of them, with its attempts."""
    client, job = request.params["client"], request.params["job"]
    return Answer(200, await bus.call("taskbus.hook.delivery", client, job))


async def publish(request: Request, bus: Bus) -> Answer:
    """Send an event to all who want it."""
    said = request.fields("data", "id")
    told: Any = await bus.call("taskbus.hook.publish", request.params["topic"], **said)
    return Answer(202, told)


_CLIENT = parameter("client", "path", "the id that the client gives its endpoint")
_JOB = parameter("job", "path", "the delivery's id")
_ERRORS = {400: "a field is wrong", 401: "no valid key", 403: "the key may not, or not exposed"}
_NO_HOOK = {**_ERRORS, 404: "there is no such endpoint"}
_NO_DELIVERY = {**_ERRORS, 404: "there is no such endpoint, or no such delivery"}
_MAYBE: Schema = {"type": ["string", "null"]}
_WHEN: Schema = {"type": ["number", "null"], "description": "seconds since the epoch"}
_FILTER: Schema = {
    "type": "object",
    "description": "fields of the event's data, each with its value, or a list of values",
}
_TOPICS: Schema = {
    "type": "array",
    "items": TEXT,
    "minItems": 1,
    "maxItems": 100,
    "description": "com.example.shop.paid, com.example.shop.*, job.failed.com.example.shop.*",
}
_SECRET: Schema = {"type": "string", "description": "whsec_ and base64"}
_HOOK_FIELDS: dict[str, Schema] = {
    "client": TEXT,
    "url": _MAYBE,
    "call": _MAYBE,
    "topics": _TOPICS,
    "filter": _FILTER,
    "ordered": {"type": "boolean"},
    "description": TEXT,
    "secrets": {"type": "array", "items": an_object("until", until=_WHEN)},
    "disabled": {"type": ["object", "null"], "description": "since when, and why"},
    "created": NUMBER,
    "updated": NUMBER,
}
_ALL = "client url call topics filter ordered description secrets disabled created updated"
_FAILING: Schema = {"type": ["object", "null"], "description": "failures in a row, and since when"}
_HOOK = an_object(f"{_ALL} failing", **_HOOK_FIELDS, failing=_FAILING)
_MADE = an_object(f"{_ALL} new", **_HOOK_FIELDS, new={"type": "boolean"}, secret=_SECRET)
_ROTATED = an_object(f"{_ALL} secret", **_HOOK_FIELDS, secret=_SECRET)
_ASKED = an_object(
    "topics",
    url={"type": "string", "description": "https://host/path; this or call"},
    call={"type": "string", "description": "a URI of the API map, which runs with each event"},
    topics=_TOPICS,
    filter=_FILTER,
    ordered={"type": "boolean", "description": "one after the other"},
    description={"type": "string", "maxLength": 100},
    secret=_SECRET,
)
_DELIVERY_FIELDS: dict[str, Schema] = {
    "id": ID,
    "event": _MAYBE,
    "type": _MAYBE,
    "state": {"enum": [state.value for state in State]},
    "attempt": {"type": "integer"},
    "created": NUMBER,
    "due": NUMBER,
    "finished": _WHEN,
    "error": {"type": ["object", "null"]},
}
_SENT = an_object("id event state", **_DELIVERY_FIELDS)
_SENT_WHOLE = an_object(
    "id event state attempts",
    **_DELIVERY_FIELDS,
    attempts={
        "type": "array",
        "items": {"type": "object"},
        "description": "attempt, ms, status, response (its start), error, message",
    },
)
_IDS: Schema = {"type": "array", "items": ID}
_STORED = an_object("id deliveries", id=TEXT, deliveries=_IDS)

_LIST = operation(
    "the endpoints that the key may manage",
    answers={
        200: answer("all of them", an_object("hooks", hooks={"type": "array", "items": _HOOK})),
        **_ERRORS,
    },
)
_PUT = operation(
    "register an endpoint, or change it; the same again changes nothing",
    _CLIENT,
    requestBody=body(_ASKED),
    answers={
        201: answer("registered; the secret is told this once", _MADE, Location="of the endpoint"),
        200: answer("it was there", _MADE),
        **_ERRORS,
        404: "call is no URI of the API map",
        409: "somebody else is changing it",
    },
)
_GET = operation(
    "an endpoint", _CLIENT, answers={200: answer("without its secrets", _HOOK), **_NO_HOOK}
)
_DELETE = operation(
    "forget an endpoint", _CLIENT, answers={204: answer("it is forgotten"), **_NO_HOOK}
)
_ROTATE = operation(
    "replace the secret; the one before stays good for a while",
    _CLIENT,
    requestBody=body(
        an_object(secret=_SECRET, overlap={"type": "number", "minimum": 0, "maximum": 2_592_000}),
        required=False,
    ),
    answers={
        200: answer("the new one", _ROTATED), **_NO_HOOK, 409: "somebody else is changing it",
    },
)  # fmt: skip
_PING = operation(
    "send a test event, once", _CLIENT, answers={202: answer("its delivery", _STORED), **_NO_HOOK}
)
_REPLAY_SINCE = operation(
    "send all again that has failed since a time",
    _CLIENT,
    requestBody=body(
        an_object(
            since={
                "type": ["string", "number"],
                "description": "ISO 8601 with its offset, or seconds since the epoch",
            }
        )
    ),
    answers={
        202: answer("which", an_object("deliveries", deliveries=_IDS)), **_NO_HOOK,
    },
)  # fmt: skip
_DELIVERIES = operation(
    "what was sent to an endpoint, the newest first",
    _CLIENT,
    parameter("state", "query", "in this state", {"enum": [state.value for state in State]}),
    parameter("before", "query", "older than this one"),
    parameter("limit", "query", "so many", {"type": "integer", "minimum": 1, "maximum": 1000}),
    answers={
        200: answer(
            "deliveries", an_object("deliveries", deliveries={"type": "array", "items": _SENT})
        ),
        **_NO_HOOK,
    },
)
_DELIVERY = operation(
    "a delivery, with its attempts",
    _CLIENT,
    _JOB,
    answers={200: answer("the delivery", _SENT_WHOLE), **_NO_DELIVERY},
)
_REPLAY = operation(
    "send one again that has failed",
    _CLIENT,
    _JOB,
    answers={
        202: answer("it", an_object("deliveries", deliveries=_IDS)),
        **_NO_DELIVERY,
        409: "it has not failed",
    },
)
_PUBLISH = operation(
    "send an event to all endpoints that want it",
    parameter("topic", "path", "one that the settings expose"),
    requestBody=body(
        an_object(
            data={"type": "object"},
            id={"type": "string", "description": "sent again with the same id, it is one event"},
        )
    ),
    answers={
        202: answer("stored: the event's id, and the ids of its deliveries", _STORED),
        **_ERRORS,
        422: "another event has had this id",
    },
)
