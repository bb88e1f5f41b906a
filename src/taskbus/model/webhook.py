"""Webhooks: who subscribes to which topics, and what they are sent.

An endpoint is a URL outside, or a URI of the API map (``call``). Its topics are URIs, or ``x.*``; a
topic is a WAMP topic, or the end of a job: ``job.succeeded.com.example.shop.order``.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from taskbus.model.errors import InvalidArgument, TaskbusError
from taskbus.model.json import dump, dump_field
from taskbus.model.portable import is_portable
from taskbus.model.uri import RESERVED, check_uri, covers, is_pattern
from taskbus.model.webhook_signature import check_secret

DELIVER = "taskbus.task.deliver"
QUEUE = "webhooks"
DISABLED_TOPIC = "taskbus.webhook.disabled"
PING = "taskbus.webhook.ping"
JOB_TOPICS = "job."
TAG = "webhook:"

# How a delivery may fail, beside what every task may.
FAILED = "taskbus.error.webhook_failed"
THROTTLED = "taskbus.error.webhook_throttled"
GONE = "taskbus.error.webhook_gone"
DISABLED = "taskbus.error.webhook_disabled"

LONGEST_URL = 2000
MOST_TOPICS = 100
MOST_FIELDS = 32
LARGEST_EVENT = 256 * 1024
LONGEST_OVERLAP = 30 * 86400.0
STANDARD_OVERLAP = 86400.0
MOST_SECRETS = 4

_CLIENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_EVENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_VISIBLE = re.compile(r"[!-~]+")  # Anything else is percent-encoded in a URL.


class HookNotFound(TaskbusError):
    """No endpoint has this id."""

    uri = "taskbus.error.hook_not_found"

    def __init__(self, client: str) -> None:
        super().__init__(
            f"no endpoint has the id {client!r}",
            field="client",
            value=client,
            remedy="register it: taskbus.hook.put, or PUT /hooks/{client}",
        )


class HookChanged(TaskbusError):
    """Somebody else was faster."""

    uri = "taskbus.error.hook_changed"

    def __init__(self, client: str) -> None:
        super().__init__(
            f"the endpoint {client!r} is being changed by somebody else",
            field="client",
            value=client,
            remedy="look at it, and try again",
        )


class NotExposed(TaskbusError):
    """The topic is not one that webhooks may know of."""

    uri = "taskbus.error.topic_not_exposed"

    def __init__(self, topic: str, field: str, exposed: Sequence[str]) -> None:
        super().__init__(
            f"{field}: {topic!r} is not exposed to webhooks",
            field=field,
            value=topic,
            remedy=f"use {', '.join(exposed)}"
            if exposed
            else "let the operator name it under webhooks.exposed in the settings",
        )


class Event(NamedTuple):
    """What happened. ``type`` is the topic, for jobs without their URI; ``data`` an object;
    ``timestamp`` in seconds since the epoch.
    """

    id: str
    topic: str
    type: str
    timestamp: float
    data: Mapping[str, Any]


class Endpoint(NamedTuple):
    """One subscriber, outside (``url``) or inside (``call``). ``secrets``: the newest first, each
    with the time until which it is good (None: no end). ``disabled``: since when, and why.
    """

    name: str
    url: str | None
    call: str | None
    topics: tuple[str, ...]
    filter: Mapping[str, Any]
    ordered: bool
    description: str
    secrets: tuple[tuple[str, float | None], ...]
    disabled: Mapping[str, Any] | None
    created: float
    updated: float

    @classmethod
    def of(cls, name: str, body: Mapping[str, Any]) -> "Endpoint":
        """As it is in a record."""
        secrets = tuple((secret, until) for secret, until in body["secrets"])
        topics = tuple(body["topics"])
        return cls(**{**body, "name": name, "topics": topics, "secrets": secrets})

    @property
    def body(self) -> dict[str, Any]:
        """For the record of its name."""
        body = self._asdict()
        del body["name"]
        return body | {"topics": list(self.topics), "secrets": [list(one) for one in self.secrets]}

    def told(self) -> dict[str, Any]:
        """As everybody may see it who may manage it: without the secrets."""
        told = self._asdict()
        del told["secrets"], told["name"]
        good = [{"until": until} for _, until in self.secrets]
        return {"client": self.name, **told, "topics": list(self.topics), "secrets": good}

    def keys(self, now: float) -> list[str]:
        """The secrets that deliveries are signed with."""
        return [secret for secret, until in self.secrets if until is None or until > now]

    def wants(self, event: Event) -> bool:
        """Whether the event is for this endpoint."""
        if self.disabled is not None:
            return False
        is_topic = any(covers(one, event.topic) for one in self.topics)
        return is_topic and all(
            _fits(_field(event.data, path), wanted) for path, wanted in self.filter.items()
        )


def check_client(value: Any) -> str:
    """The id that a client gives its endpoint."""
    if isinstance(value, str) and _CLIENT.fullmatch(value):
        return value
    raise InvalidArgument(
        "client", value, "not an endpoint's id", "use up to 64 letters, digits, dots, - and _"
    )


def check_event_id(value: Any) -> str:
    """The id that a sender gives its event."""
    if isinstance(value, str) and _EVENT.fullmatch(value):
        return value
    raise InvalidArgument(
        "id", value, "not an event's id", "use up to 100 letters, digits, dots, - and _"
    )


def check_url(value: Any) -> str:
    """Where to deliver. What the host's addresses are is looked at by each delivery."""
    if isinstance(value, str) and len(value) <= LONGEST_URL and _VISIBLE.fullmatch(value):
        try:
            parts = urlsplit(value)
            _ = parts.port  # Raises where it is no port.
        except ValueError:
            parts = urlsplit("")
        is_web = parts.scheme in ("https", "http") and bool(parts.hostname)
        if is_web and not parts.fragment and "@" not in parts.netloc:
            return value
    raise InvalidArgument(
        "url",
        value,
        "not a URL for webhooks",
        f"send https://host/path, of up to {LONGEST_URL} characters, without user, password or "
        "fragment",
    )


def check_topics(value: Any, exposed: Sequence[str]) -> tuple[str, ...]:
    """URIs, or ``x.*`` for all below: each within what is exposed."""
    if not isinstance(value, (list, tuple)) or not 1 <= len(value) <= MOST_TOPICS:
        raise InvalidArgument(
            "topics", value, "not a list of topics", f"send 1 to {MOST_TOPICS} of them"
        )
    for nth, topic in enumerate(value):
        _check_topic(topic, f"topics[{nth}]", exposed)
    return tuple(dict.fromkeys(value))


def check_topic(value: Any, exposed: Sequence[str]) -> str:
    """A topic that somebody may send an event to: exposed, and not the bus' own."""
    check_uri(value, "topic")
    if value.startswith(JOB_TOPICS) or value.split(".")[0] in RESERVED:
        raise InvalidArgument("topic", value, "one that the bus itself sends", "choose another one")
    if not is_exposed(value, exposed):
        raise NotExposed(value, "topic", exposed)
    return str(value)


def is_exposed(topic: str, exposed: Sequence[str]) -> bool:
    """Whether webhooks may know of this topic, or of all that this pattern covers."""
    return any(covers(pattern, topic) or pattern == topic for pattern in exposed)


def check_filter(value: Any) -> dict[str, Any]:
    """Fields of the event's data, by their dotted paths, each with the value that it has to have,
    or a list of those that it may have.
    """
    remedy = f'send up to {MOST_FIELDS} fields, as {{"country": "DE", "order.kind": ["a", "b"]}}'
    if not isinstance(value, dict) or len(value) > MOST_FIELDS:
        raise InvalidArgument("filter", value, "not an object of fields", remedy)
    for path, wanted in value.items():
        if not isinstance(path, str) or not all(path.split(".")) or not is_portable(path):
            raise InvalidArgument("filter", path, "not the path of a field", remedy)
        several = wanted if isinstance(wanted, list) and wanted else [wanted]
        if not all(one is None or isinstance(one, (str, int, float)) for one in several):
            raise InvalidArgument(f"filter.{path}", wanted, "not a value or a list of them", remedy)
    dump_field("filter", value)
    return value


def check_data(value: Any) -> dict[str, Any]:
    """What an event says."""
    if not isinstance(value, dict):
        raise InvalidArgument("data", value, "not an object", "send an object")
    if len(dump_field("data", value)) > LARGEST_EVENT:
        raise InvalidArgument(
            "data", "not shown", f"larger than {LARGEST_EVENT} bytes", "send where to find it"
        )
    return value


def check_secrets_overlap(value: Any) -> float:
    """Seconds for which the secret before is good beside a new one."""
    if value is None:
        return STANDARD_OVERLAP
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if is_number and 0 <= value <= LONGEST_OVERLAP:
        return float(value)
    raise InvalidArgument(
        "overlap", value, "not a number of seconds", f"use 0 to {LONGEST_OVERLAP:g}"
    )


def check_given_secret(value: Any) -> str | None:
    """A secret that the client has chosen; None where it has not."""
    return None if value is None else check_secret(value)


def message(event: Mapping[str, Any], timestamp: str) -> bytes:
    """The body of a delivery."""
    told = {"type": event["type"], "timestamp": timestamp, "data": event["data"]}
    return dump(told).encode()


def _check_topic(topic: Any, field: str, exposed: Sequence[str]) -> None:
    base = topic[:-2] if isinstance(topic, str) and is_pattern(topic) else topic
    if base != "job":  # Alone it is too short for a URI.
        check_uri(base, field)
    if not is_exposed(topic, exposed):
        raise NotExposed(topic, field, exposed)


def _field(data: Any, path: str) -> Any:
    """The value at a path; ``_MISSING`` where there is none."""
    for name in path.split("."):
        if not isinstance(data, Mapping) or name not in data:
            return _MISSING
        data = data[name]
    return data


def _fits(value: Any, wanted: Any) -> bool:
    several = wanted if isinstance(wanted, list) else [wanted]
    return any(_is_same(value, one) for one in several)


def _is_same(value: Any, wanted: Any) -> bool:
    """JSON's idea: true is not 1."""
    return isinstance(value, bool) is isinstance(wanted, bool) and bool(value == wanted)


_MISSING = object()
