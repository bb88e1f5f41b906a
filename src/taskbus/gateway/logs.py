"""A task's output over HTTP: the bytes that it wrote, as far as the journal has kept them."""

import base64
import logging
import re
from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial
from typing import Any

from taskbus.gateway.describe import JOB, answer, operation, parameter
from taskbus.gateway.feed import Feeds, job_subject
from taskbus.gateway.follow import follow
from taskbus.gateway.reader import Reader, Stalled
from taskbus.gateway.route import Answer, Bus, Request, Route, Stream, Writer
from taskbus.model.errors import InvalidArgument

log = logging.getLogger(__name__)

_STREAMS = ("stdout", "stderr")
_HEADERS: Mapping[str, str] = {
    "Content-Type": "text/plain; charset=utf-8",
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",
}
_Told = Callable[[Mapping[str, Any]], bytes]
_RANGE = re.compile(r"bytes=(\d{0,15})-(\d{0,15})")
_YES_OR_NO = {"1": True, "true": True, "0": False, "false": False}


class Logs:
    """The route ``/v1/jobs/{id}/logs``."""

    def __init__(self, reactor: Any, feeds: Feeds) -> None:
        self._reactor = reactor
        self._feeds = feeds

    def routes(self) -> list[Route]:
        """All of this file."""
        return [Route("GET", "/v1/jobs/{id}/logs", self.get, _DOC)]

    async def get(self, request: Request, bus: Bus) -> Answer | Stream:
        """The output of both streams, or one; all of it, or a range; ``?follow=1``: and what comes
        until the job has ended.
        """
        job, told = request.params["id"], _BY_STREAM[_chosen_stream(request)]
        if _yes_or_no(request, "follow"):
            await bus.call("taskbus.job.events", job, limit=1)
            if request.method == "HEAD":
                return Answer(200, None, _HEADERS)
            return Stream(partial(self._follow, request, await bus.session(), job, told), _HEADERS)
        # What is written meanwhile belongs to neither count nor answer.
        size, last = 0, 0
        async for events in _pages(bus, job, 2**31):
            size += sum(len(told(event)) for event in events)
            last = events[-1]["seq"]
        headers = {**_HEADERS, "Accept-Ranges": "bytes"}
        begin, end, status = 0, size, 200
        if asked := _range(request, size):
            begin, end, status = *asked, 206
            headers["Content-Range"] = f"bytes {begin}-{end - 1}/{size}"
            if begin >= end:
                return Answer(416, None, {**headers, "Content-Range": f"bytes */{size}"})
        headers["Content-Length"] = str(end - begin)
        if request.method == "HEAD":
            return Answer(status, None, headers)
        pieces = _pieces(_pages(bus, job, last), told, begin, end)
        return Stream(partial(self._send, request, pieces), headers, status)

    async def _send(self, request: Request, pieces: AsyncIterator[bytes], writer: Writer) -> None:
        reader = Reader(self._reactor, writer)
        try:
            async for piece in pieces:
                await reader.room()
                reader.write(piece)
        except Stalled:
            log.warning("request %s: dropped, as its reader takes nothing", request.id)
            raise
        finally:
            reader.close()

    async def _follow(
        self, request: Request, session: Any, job: str, told: _Told, writer: Writer
    ) -> None:
        reader = Reader(self._reactor, writer)
        try:
            await follow(self._feeds, session, job_subject(job, told), 0, reader)
        except Stalled:
            log.warning("request %s: dropped, as its reader takes nothing", request.id)
            raise
        finally:
            reader.close()


async def _pages(bus: Bus, job: str, last: int) -> AsyncIterator[list[dict[str, Any]]]:
    """The job's events, up to this one."""
    after = 0
    while after < last:
        events: Any = await bus.call("taskbus.job.events", job, after=after)
        if not events:
            return
        after = events[-1]["seq"]
        yield [event for event in events if event["seq"] <= last]


async def _pieces(
    pages: AsyncIterator[list[dict[str, Any]]], told: _Told, begin: int, end: int
) -> AsyncIterator[bytes]:
    """The output from one byte to another."""
    at = 0
    async for events in pages:
        data = b"".join([told(event) for event in events])
        yield data[max(0, begin - at) : max(0, end - at)]
        at += len(data)
        if at >= end:
            return


def _output(stream: str, event: Mapping[str, Any]) -> bytes:
    """The bytes that an event tells of, where it does; of one stream, or (empty) of both."""
    data = event["data"]
    if event["kind"] != "output" or stream not in ("", data["stream"]):
        return b""
    if "base64" in data:
        return base64.b64decode(data["base64"])
    text: str = data["text"]
    return text.encode()


# One function each, however many ask: who follows the same shares what was read.
_BY_STREAM = {stream: partial(_output, stream) for stream in ("", *_STREAMS)}


def _chosen_stream(request: Request) -> str:
    stream = request.one("stream")
    if stream is None:
        return ""
    if stream in _STREAMS:
        return stream
    raise InvalidArgument("stream", stream, "no such stream", "send stdout or stderr, or nothing")


def _yes_or_no(request: Request, name: str) -> bool:
    text = request.one(name, "0")
    if text in _YES_OR_NO:
        return _YES_OR_NO[text]
    raise InvalidArgument(name, text, "not yes or no", f"send {name}=1 or {name}=0")


def _range(request: Request, size: int) -> tuple[int, int] | None:
    """The first byte, and the one behind the last, which may be none; None for all, also where the
    header is of a kind that need not be known.
    """
    found = _RANGE.fullmatch(request.headers.get("range", ""))
    if found is None or found[0] == "bytes=-":
        return None
    if not found[1]:
        return max(0, size - int(found[2])), size
    begin = int(found[1])
    if not found[2]:
        return begin, size
    end = int(found[2]) + 1
    return (begin, min(end, size)) if end > begin else None


_TEXT: Mapping[str, Any] = {"text/plain": {}}
_DOC = operation(
    "the output of a job's task, byte for byte, as far as it is kept",
    JOB,
    parameter("stream", "query", "of one only", {"type": "string", "enum": [*_STREAMS]}),
    parameter(
        "follow",
        "query",
        "1: go on until the job has ended; there are no ranges then",
        {"type": "string", "enum": sorted(_YES_OR_NO)},
    ),
    parameter("Range", "header", "bytes=0-99, bytes=100- or bytes=-100"),
    answers={
        200: {"description": "all that it wrote", "content": _TEXT},
        206: {"description": "the range that was asked for", "content": _TEXT},
        400: "no such stream",
        404: "no such job",
        416: answer("there is no such range", Content_Range="how many bytes there are"),
    },
)
