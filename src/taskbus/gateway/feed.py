"""Feeds: one live call for all HTTP clients that follow the same thing as the same identity."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from autobahn.wamp.types import CallOptions
from twisted.internet.defer import Deferred, inlineCallbacks, succeed
from twisted.python.failure import Failure

from taskbus.bus.follower import Follower, Item, Page, Reads

_Body = Mapping[str, Any]


class Subject(NamedTuple):
    """What is followed: a job, or chosen entries of the journal, told in some form."""

    # By which procedures, with which arguments: name and value of each.
    follow: str
    read: str
    request: tuple[tuple[str, Any], ...]
    # What its items are counted by.
    number: str
    told: Callable[[_Body], bytes]

    def page(self, after: int, bodies: Sequence[_Body]) -> Page:
        """These are all that there are after a number, up to that of the last."""
        items = []
        for body in bodies:
            text = self.told(body)
            items.append(Item(body[self.number], text, len(text)))
        return Page(after, items[-1].number if items else after, items)


def as_event(number: str) -> Callable[[_Body], bytes]:
    """How an item is told as a Server-Sent Event."""

    def told(body: _Body) -> bytes:
        text = json.dumps(body, separators=(",", ":"))
        return b"id: %d\ndata: %s\n\n" % (body[number], text.encode())

    return told


_job_event, _journal_event = as_event("seq"), as_event("position")


def job_subject(job: str, told: Callable[[_Body], bytes] = _job_event) -> Subject:
    """The events of one job."""
    return Subject("taskbus.job.follow", "taskbus.job.events", (("job", job),), "seq", told)


def journal_subject(**chosen: Any) -> Subject:
    """The entries of the journal that are chosen by these options."""
    request = tuple((name, value) for name, value in sorted(chosen.items()) if value)
    names = ("taskbus.journal.follow", "taskbus.journal.read")
    return Subject(*names, request, "position", _journal_event)


class Feeds:
    """Those that somebody follows."""

    def __init__(self) -> None:
        self._feeds: dict[tuple[Any, Subject], Feed] = {}

    def feed(self, session: Any, subject: Subject) -> "Feed":
        """The one of this session, to be followed at once."""
        key = session, subject
        if key not in self._feeds:
            self._feeds[key] = Feed(session, subject, lambda: self._feeds.pop(key, None))
        return self._feeds[key]


class Feed:
    """Who has read all that is stored begins the live call, from there."""

    def __init__(self, session: Any, subject: Subject, on_left: Callable[[], object]) -> None:
        """``on_left`` is called when nobody follows any more."""
        self._session = session
        self._subject = subject
        self._request = dict(subject.request)
        self._on_left = on_left
        self._reads = Reads(lambda: succeed(None), lambda work: work())
        self._followers: dict[Follower, None] = {}
        self._live: Deferred[None] | None = None
        self._at = 0

    def follow(self, follower: Follower) -> "Deferred[bool]":
        """Until its end."""

        def left(result: Any) -> Any:
            del self._followers[follower]
            if not self._followers:
                self._on_left()
                if self._live is not None:
                    self._live.cancel()
            return result

        self._followers[follower] = None
        follower.ended.addBoth(left)
        follower.catch_up()
        return follower.ended

    @inlineCallbacks
    def read(self, after: int) -> Any:
        """For its followers: a page of what is stored."""
        page = yield self._reads.read(after, lambda: self._page(after))
        if not page.is_full and self._live is None and self._followers:
            self._begin(page.upto)
        return page

    @inlineCallbacks
    def _page(self, after: int) -> Any:
        told = yield self._session.call(self._subject.read, after=after, **self._request)
        if isinstance(told, list):
            # A job's events are read on until there are no more.
            return self._subject.page(after, told)._replace(is_full=bool(told))
        page = self._subject.page(after, told["entries"])
        return page._replace(upto=told["position"], is_full=told["more"])

    def _begin(self, at: int) -> None:
        def failed(failure: Failure) -> None:
            for one in tuple(self._followers):
                if not one.ended.called:
                    one.ended.errback(failure)

        def over(_result: None) -> None:
            self._live = None

        self._at = at
        self._live = self._stay()
        self._live.addErrback(failed).addCallback(over)
        for one in tuple(self._followers):
            one.miss(at)

    @inlineCallbacks
    def _stay(self) -> Any:
        options = CallOptions(on_progress=self._hear)
        is_over = False
        while not is_over:
            told = yield self._session.call(
                self._subject.follow, after=self._at, options=options, **self._request
            )
            self._at = max(self._at, told[self._subject.number])
            is_over = told.get("ended", False)
        for one in tuple(self._followers):
            one.finish(self._at)

    def _hear(self, bodies: Sequence[_Body]) -> None:
        page = self._subject.page(self._at, bodies)
        self._at = page.upto
        for one in tuple(self._followers):
            one.hear(page)
