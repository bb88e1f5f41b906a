"""Server-Sent Events: what happens to a job, or to all jobs that are chosen, as it happens.

The number of the last event that a client has got is all that it needs to go on where it was: what
it missed comes straight from the journal.
"""

import json
import logging
from collections.abc import Mapping
from functools import partial
from typing import Any

from taskbus.bus.follower import Follower
from taskbus.gateway.describe import JOB, TEXT, answer, operation, parameter, whole
from taskbus.gateway.feed import Feeds, Subject, job_subject, journal_subject
from taskbus.gateway.problem import as_error, problem
from taskbus.gateway.reader import Reader, Stalled
from taskbus.gateway.route import Answer, Bus, Request, Route, Stream, Writer
from taskbus.model.errors import InvalidArgument
from taskbus.model.job import FINAL

log = logging.getLogger(__name__)

# So soon does a client come back that was cut off.
_BEGIN = b"retry: 2000\n\n"
_BEAT = b":\n\n"
_HEADERS: Mapping[str, str] = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",
}
_ENDS = frozenset(state.value for state in FINAL)


class Streams:
    """The routes ``/v1/jobs/{id}/stream`` and ``/v1/stream``."""

    def __init__(self, reactor: Any, feeds: Feeds) -> None:
        self._reactor = reactor
        self._feeds = feeds

    def routes(self) -> list[Route]:
        """All of this file."""
        return [
            Route("GET", "/v1/jobs/{id}/stream", self.job, _JOB),
            Route("GET", "/v1/stream", self.journal, _JOURNAL),
        ]

    async def job(self, request: Request, bus: Bus) -> Answer | Stream:
        """One job's events, until it has ended."""
        job, after = request.params["id"], last_seen(request) or 0
        # The event that was seen last, and whether there is one after it.
        found: Any = await bus.call("taskbus.job.events", job, after=max(0, after - 1), limit=2)
        if after and not found:
            raise InvalidArgument(
                "after", after, "the job's journal ends before", "send the last id that you have"
            )
        if after and len(found) == 1 and found[0]["kind"] in _ENDS:
            return Answer(204)  # To a browser that comes back it says: do not.
        return await self._stream(request, bus, job_subject(job), after)

    async def journal(self, request: Request, bus: Bus) -> Answer | Stream:
        """Entries of the journal, from now on or from where the client was."""
        chosen = {
            "uri": request.one("uri"),
            "tag": request.one("tag"),
            "kind": tuple(request.query.get("kind", ())),
        }
        subject = journal_subject(**chosen)
        told: Any = await bus.call(subject.read, after=last_seen(request), **dict(subject.request))
        after = last_seen(request)
        return await self._stream(
            request, bus, subject, told["position"] if after is None else after
        )

    async def _stream(
        self, request: Request, bus: Bus, subject: Subject, after: int
    ) -> Answer | Stream:
        if request.method == "HEAD":
            return Answer(200, None, _HEADERS)
        run = partial(self._run, request, await bus.session(), subject, after)
        return Stream(run, _HEADERS)

    async def _run(
        self, request: Request, session: Any, subject: Subject, after: int, writer: Writer
    ) -> None:
        reader = Reader(self._reactor, writer, _BEAT)
        try:
            reader.write(_BEGIN)
            at = await follow(self._feeds, session, subject, after, reader)
            reader.write(_named("end", {subject.number: at}))
        except Stalled:
            log.warning("request %s: dropped, as its reader takes nothing", request.id)
            raise
        except Exception as error:  # noqa: BLE001 - the client hears of it
            reader.write(_named("problem", problem(*as_error(error), request.id)))
        finally:
            reader.close()


async def follow(feeds: Feeds, session: Any, subject: Subject, after: int, reader: Reader) -> int:
    """Give the reader everything after a number, until the end; the last number. Fails with
    Stalled, or as a call does.
    """
    feed = feeds.feed(session, subject)

    def read(at: int) -> Any:
        return reader.room().addCallback(lambda _: feed.read(at))

    follower = Follower(after, read, reader.give, reader.has_room)
    await feed.follow(follower)
    return follower.at


def last_seen(request: Request) -> int | None:
    """The number that the client has seen last: what it says when it comes back counts more than
    what was in its first request.
    """
    text = request.headers.get("last-event-id")
    if not text:
        return request.number("after")
    if text.isascii() and text.isdigit() and len(text) <= 15:
        return int(text)
    raise InvalidArgument("Last-Event-ID", text, "not a number", "send the last id that you have")


def _named(name: str, data: Mapping[str, Any]) -> bytes:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n".encode()


_AFTER = parameter("after", "query", "go on after the event of this id", whole(0, 2**53))
_LAST = parameter("Last-Event-ID", "header", "the same, from who comes back: it counts more")
_EVENTS = {
    "description": "Server-Sent Events: data is an event, as in the journal. One that is named "
    "problem tells why the stream breaks off here; one that is named end, that it is complete.",
    "content": {"text/event-stream": {}},
}
_JOB = operation(
    "a job's events as they happen, until it has ended; id is the event's seq",
    JOB,
    _AFTER,
    _LAST,
    answers={
        200: _EVENTS,
        204: answer("it had ended, and you have it all"),
        400: "no such event",
        404: "no such job",
    },
)
_JOURNAL = operation(
    "what happens to all jobs that are chosen; id is the entry's position in the journal",
    _AFTER,
    _LAST,
    parameter("uri", "query", "of jobs of this URI, or below it: com.example.shop.*"),
    parameter("tag", "query", "of jobs with this tag"),
    parameter(
        "kind",
        "query",
        "of these kinds: states, progress, output, warning",
        {"type": "array", "items": TEXT},
    ),
    answers={200: _EVENTS, 400: "no such filter, or no such entry yet"},
)
