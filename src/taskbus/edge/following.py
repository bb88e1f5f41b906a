"""Following: ``taskbus.job.follow`` and ``taskbus.journal.*``, for ``taskbus.edge.control``.

Each new entry is read and told once, whoever follows it.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial
from itertools import groupby
from operator import attrgetter
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.threads import deferToThread

from taskbus.bus.follower import Follower, Item, Page, Reads
from taskbus.core.labels import Label, Labels
from taskbus.core.permit import Permit
from taskbus.edge.outflow import Outflow
from taskbus.edge.pages import Choice, new_of_job, new_of_journal, read_job, read_journal
from taskbus.edge.request import chosen_job, chosen_kinds, chosen_tag, chosen_uris, named, whole
from taskbus.model.access import READ
from taskbus.model.errors import InvalidArgument, Stopped, StoreUnavailable
from taskbus.model.job import Event
from taskbus.port.store import Entry, Store, existing

_Key = TypeVar("_Key", bound=Hashable)
_Followers = dict[_Key, dict[Follower, None]]
_LAST_NUMBER = 2**53
# What is sent to a reader who has stopped reading piles up before it: one call may bring no more.
_MOST_ITEMS = 10_000
_MOST_BYTES = 4_000_000


class Following:
    """Who follows what."""

    def __init__(
        self,
        store: Store,
        outflow: Outflow,
        on_came: Callable[[], None],
        permit: Callable[[Any], Permit],
        in_thread: Callable[..., "Deferred[Any]"] = deferToThread,
    ) -> None:
        """``on_came`` is called with every new follower. ``permit``: what a call's details say that
        its caller may do.
        """
        self._store = store
        self._in_thread = in_thread
        self._outflow = outflow
        self._on_came = on_came
        self._permit = permit
        self._labels = Labels(store)
        self._reads = Reads(outflow.drained, in_thread)
        self._of_job: _Followers[str] = {}
        self._of_journal: _Followers[Choice] = {}

    def endpoints(self) -> dict[str, Callable[..., Any]]:
        """By URI."""
        return {
            "taskbus.job.follow": self.job,
            "taskbus.journal.follow": self.journal,
            "taskbus.journal.read": self.read,
        }

    def __len__(self) -> int:
        return sum(map(len, (*self._of_job.values(), *self._of_journal.values())))

    @inlineCallbacks
    def job(self, details: Any, /, *args: Any, **kwargs: Any) -> Any:
        """``follow(job, after=0, limit=10000)`` -> ``{"seq": of the last event, "ended": bool}``.

        Progressive results are lists of the job's events from ``seq > after`` on, each event once
        and in order, until the job has ended. After ``limit`` events, or 4 MB, it returns with
        ``ended`` false: call again, after that ``seq``.
        """
        request = named(("job", "after", "limit"), args, kwargs)
        id_, limit = chosen_job(request), whole(request, "limit", 1, _MOST_ITEMS, _MOST_ITEMS)
        after = whole(request, "after", 0, _LAST_NUMBER, 0)
        give = self._giver(details)
        job = yield self._in_thread(existing, self._store, id_)
        self._permit(details).require_job(READ, job)
        _refuse_beyond("the job's journal", after, job.seq)

        def read(since: int) -> "Deferred[Page]":
            return self._reads.read((id_, since), partial(read_job, self._store, id_, since))

        follower = Follower(after, read, give, self._outflow.has_room, limit, _MOST_BYTES)
        ended = yield self._begin(self._of_job, id_, follower)
        return {"seq": follower.at, "ended": ended}

    @inlineCallbacks
    def journal(self, details: Any, /, *args: Any, **kwargs: Any) -> Any:
        """``follow(after=, uri=, tag=, kind=, limit=10000)`` -> ``{"position": up to it}``.

        Progressive results are lists of entries of all jobs: events with the job's ``uri`` and the
        entry's ``position`` in the journal. It goes on until it is canceled, or has told ``limit``
        entries or 4 MB: call again, after that position. Without ``after`` it begins now.
        ``kind``: one or several of the states, ``progress``, ``output`` and ``warning``.

        An entry of the kind ``gap`` tells that of those from ``data["after"]`` to its own position
        some are not kept any more.
        """
        request = named(("after", "uri", "tag", "kind", "limit"), args, kwargs)
        choice, limit = (
            _choice(request, self._permit(details)),
            whole(request, "limit", 1, _MOST_ITEMS, _MOST_ITEMS),
        )
        give = self._giver(details)
        since = yield self._since(request)

        def read(since: int) -> "Deferred[Page]":
            return self._read_journal(choice, since)

        follower = Follower(since, read, give, self._outflow.has_room, limit, _MOST_BYTES)
        yield self._begin(self._of_journal, choice, follower)
        return {"position": follower.at}

    @inlineCallbacks
    def read(self, details: Any, /, *args: Any, **kwargs: Any) -> Any:
        """``read(after=, uri=, tag=, kind=)`` -> ``{"entries": [...], "position": up to it, "more":
        bool}``: a page of what ``follow`` tells. Without ``after`` it is empty, and tells where to
        begin.
        """
        request = named(("after", "uri", "tag", "kind"), args, kwargs)
        choice = _choice(request, self._permit(details))
        page = yield self._read_journal(choice, (yield self._since(request)))
        entries = [item.body for item in page.items]
        return {"entries": entries, "position": page.upto, "more": page.is_full}

    @inlineCallbacks
    def _since(self, request: Mapping[str, Any]) -> Any:
        after = whole(request, "after", 0, _LAST_NUMBER, 0)
        newest = yield self._in_thread(self._store.position)
        _refuse_beyond("the journal", after, newest)
        return newest if request.get("after") is None else after

    def _read_journal(self, choice: Choice, since: int) -> "Deferred[Page]":
        work = partial(read_journal, self._store, self._labels, choice, since)
        return self._reads.read((choice, since), work)

    def labels(self, entries: Sequence[Entry]) -> Mapping[str, Label] | None:
        """What ``deliver`` needs to know of the jobs of these entries, for another thread; None
        where nobody follows them. Those who do read by themselves where it cannot be known.
        """
        if not self._of_journal:
            return None
        try:
            return self._labels.of(event.job for _, event in entries)
        except StoreUnavailable:
            return None

    def deliver(
        self, after: int, entries: Sequence[Entry], labels: Mapping[str, Label] | None
    ) -> None:
        """New entries, all since the position ``after``."""
        if self._of_job:
            self._deliver_to_jobs([event for _, event in entries if event.job in self._of_job])
        for choice, followers in tuple(self._of_journal.items()):
            if labels is None:
                for one in tuple(followers):
                    one.miss(entries[-1].position)
            else:
                _tell(followers, new_of_journal(after, entries, labels, choice))

    def _deliver_to_jobs(self, events: Sequence[Event]) -> None:
        by_job = attrgetter("job")
        for job, news in groupby(sorted(events, key=by_job), by_job):
            _tell(self._of_job.get(job, {}), new_of_job(list(news)))

    def end(self, why: str) -> None:
        """Nobody can follow here any more."""
        for followers in (*self._of_job.values(), *self._of_journal.values()):
            for one in tuple(followers):
                one.ended.errback(Stopped(why, remedy="follow again, after the last that you have"))

    def _begin(self, all_: _Followers[_Key], key: _Key, follower: Follower) -> "Deferred[bool]":
        def over(result: Any) -> Any:
            followers = all_[key]
            del followers[follower]
            if not followers:
                del all_[key]
            return result

        all_.setdefault(key, {})[follower] = None
        follower.ended.addBoth(over)
        # From now on we hear what is new, so that nothing falls between that and what is read.
        self._on_came()
        follower.catch_up()
        return follower.ended

    def _giver(self, details: Any) -> Callable[[Sequence[Item]], None]:
        if details.progress is None:
            raise InvalidArgument(
                "receive_progress", False, "there is no following without", "ask for progress"
            )

        def give(items: Sequence[Item]) -> None:
            self._outflow.sent(sum(item.size for item in items))
            details.progress([item.body for item in items])

        return give


def _tell(followers: Mapping[Follower, None], page: Page) -> None:
    for one in tuple(followers):
        one.hear(page)


def _choice(request: Mapping[str, Any], permit: Permit) -> Choice:
    return Choice(
        chosen_uris(request.get("uri")),
        chosen_tag(request.get("tag")),
        chosen_kinds(request.get("kind")),
        permit,
    )


def _refuse_beyond(what: str, after: int, newest: int) -> None:
    if after > newest:
        raise InvalidArgument(
            "after", after, f"{what} ends at {newest}", "send the number of the last that you have"
        )
