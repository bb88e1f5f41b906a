"""``POST /in/NAME``: other people's webhooks become jobs or events, once they are verified."""

import logging
from collections.abc import Callable, Sequence
from typing import Any

from taskbus.gateway.describe import TEXT, an_object, answer, body, operation
from taskbus.gateway.own import Own
from taskbus.gateway.problem import HttpError
from taskbus.gateway.route import Answer, Bus, Handler, Request, Route
from taskbus.model.errors import ConfigError
from taskbus.model.incoming import Incoming, read_secrets, verified
from taskbus.port.clock import Clock

log = logging.getLogger(__name__)


class Unverifiable(HttpError):
    """The secret is not there."""

    uri = "taskbus.error.unreachable"


_DOC = operation(
    "a webhook of somebody else's, verified by its signature",
    requestBody=body({}),
    answers={
        202: answer("what it has become", an_object("id", id=TEXT, job=TEXT), Location="the job"),
        401: "its signature is missing, wrong or too old",
    },
)


def routes(
    webhooks: Sequence[Incoming], own: Own, read: Callable[[Any], str], clock: Clock
) -> list[Route]:
    """``read``: the text of a file with secrets; read for each webhook, so that they can change."""
    return [
        Route(
            "POST", f"/in/{one.name}", _receiver(one, own, read, clock), _DOC,
            public=True, open_query=True,
        )
        for one in webhooks
    ]  # fmt: skip


def _receiver(webhook: Incoming, own: Own, read: Callable[[Any], str], clock: Clock) -> Handler:
    async def receive(request: Request, _bus: Bus) -> Answer:
        secrets = _secrets(webhook, read)
        delivery = verified(webhook.verify, secrets, request.headers, request.body, clock())
        about = {"webhook": webhook.name, "id": delivery.id}
        if delivery.event:
            about["event"] = delivery.event
        value = request.json()
        if webhook.publish:
            await own.publish(webhook.publish, value, trace=request.trace, **about)
            return Answer(202, {"id": delivery.id})
        job = await own.call(
            "taskbus.job.submit",
            webhook.submit,
            [value],
            idempotency_key=delivery.key(webhook.name),
            context=about,
            trace=request.trace,
        )
        return Answer(202, {"id": delivery.id, "job": job}, {"Location": f"/v1/jobs/{job}"})

    return receive


def _secrets(webhook: Incoming, read: Callable[[Any], str]) -> tuple[str, ...]:
    try:
        return read_secrets(webhook, read(webhook.secret_file))
    except ConfigError as error:
        # Which file that is, is nothing for strangers.
        log.error("incoming.%s: %s", webhook.name, error)
        raise Unverifiable(
            "this webhook cannot be verified now", field="name", value=webhook.name
        ) from None
