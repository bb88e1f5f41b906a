"""One who follows a log: everything after a number, once and in order, first read, then live.

A log's items have numbers that rise. What is new comes in pages as well, each of which says after
which number it is complete: so a follower sees by itself whether it has missed something, and reads
it. One that has no room for what is new lets it pass, and reads it later: nothing piles up.
"""

import sys
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred, DeferredSemaphore, inlineCallbacks
from twisted.python.failure import Failure

# Of what a page, and a message, has in items; an item may be larger by itself.
PAGE_BYTES = 1_000_000
_MESSAGE_BYTES = 250_000
_READS_AT_A_TIME = 4


class Item(NamedTuple):
    """``body`` is what the follower gets; ``size`` is about its bytes."""

    number: int
    body: Any
    size: int


class Page(NamedTuple):
    """All items with ``after < number <= upto``; those that nobody wants are left out.

    ``is_full``: more may be there already. ``is_end``: nothing will come after it.
    """

    after: int
    upto: int
    items: Sequence[Item]
    is_full: bool = False
    is_end: bool = False


class Follower:
    """Gives what it reads and hears to one reader."""

    def __init__(
        self,
        after: int,
        read: Callable[[int], "Deferred[Page]"],
        give: Callable[[Sequence[Item]], None],
        has_room: Callable[[], bool],
        limit: int = sys.maxsize,
        most_bytes: int = sys.maxsize,
    ) -> None:
        """``read(after)`` begins after it was asked. ``limit``: how many items to give at most;
        ``most_bytes``: about so many bytes of them.
        """
        self.at = after
        # True when the log has ended, False when the reader has got as much as was asked for.
        self.ended: Deferred[bool] = Deferred()
        self._read = read
        self._give = give
        self._has_room = has_room
        self._left = limit
        self._left_bytes = most_bytes
        self._newest = after
        self._end: int | None = None
        self._is_reading = False

    def hear(self, page: Page) -> None:
        """This is new."""
        if self._is_news(page.upto) and not self._is_reading:
            if page.after <= self.at and self._has_room():
                self._take(page)
            else:
                self.catch_up()

    def miss(self, upto: int) -> None:
        """Something is new, up to this number."""
        if self._is_news(upto):
            self.catch_up()

    def finish(self, last: int) -> None:
        """Nothing will come after this number."""
        self._end = last
        if self.at < last:
            self.miss(last)
        elif not self.ended.called:
            self.ended.callback(True)

    def _is_news(self, upto: int) -> bool:
        self._newest = max(self._newest, upto)
        return not self.ended.called and upto > self.at

    def catch_up(self) -> None:
        """Read until nothing is left to read: to be called once who tells the news knows of us."""

        def failed(failure: Failure) -> None:
            if not self.ended.called:
                self.ended.errback(failure)

        def over(_result: None) -> None:
            self._is_reading = False

        if not self._is_reading:
            self._is_reading = True
            self._read_all().addErrback(failed).addCallback(over)

    @inlineCallbacks
    def _read_all(self) -> Any:
        while not self.ended.called:
            newest = self._newest
            page = yield self._read(self.at)
            self._take(page)
            # What was heard before the read and is not in it is there no more.
            if not page.is_full and (self.at >= self._newest or newest == self._newest):
                break

    def _take(self, page: Page) -> None:
        if self.ended.called:
            return
        fresh = [item for item in page.items if item.number > self.at]
        given = fresh[: self._left]
        for message in _messages(given):
            self._give(message)
            self.at = message[-1].number
        self._left -= len(given)
        self._left_bytes -= sum(item.size for item in given)
        is_whole = len(given) == len(fresh)
        if is_whole:
            self.at = max(self.at, page.upto)
        if is_whole and (page.is_end or (self._end is not None and self.at >= self._end)):
            self.ended.callback(True)
        elif self._left <= 0 or self._left_bytes <= 0:
            self.ended.callback(False)


def _messages(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    """Them in parts, none of them larger than a message may be if it can be helped."""
    begin, size = 0, 0
    for nth, item in enumerate(items):
        if size and size + item.size > _MESSAGE_BYTES:
            yield items[begin:nth]
            begin, size = nth, 0
        size += item.size
    if begin < len(items):
        yield items[begin:]


class Reads:
    """Reads pages in threads, a few at a time; all who wait for the same one share a read."""

    def __init__(
        self,
        drained: Callable[[], "Deferred[None]"],
        in_thread: Callable[..., "Deferred[Any]"],
    ) -> None:
        """``drained()`` fires once what was given has left: till then the next one waits."""
        self._drained = drained
        self._in_thread = in_thread
        self._turns = DeferredSemaphore(_READS_AT_A_TIME)
        self._waiting: dict[Hashable, list[Deferred[Page]]] = {}

    def read(self, key: Hashable, work: Callable[[], Any]) -> "Deferred[Page]":
        """The page that ``work`` returns; it is the same for all who name this key."""
        mine: Deferred[Page] = Deferred()
        if key in self._waiting:
            self._waiting[key].append(mine)
        else:
            self._waiting[key] = [mine]
            self._turns.run(self._serve, key, work)
        return mine

    def _serve(self, key: Hashable, work: Callable[[], Any]) -> "Deferred[None]":
        # Who comes from now on may know of something that this read does not see.
        waiting = self._waiting.pop(key)
        return self._in_thread(work).addBoth(self._share, waiting)

    @inlineCallbacks
    def _share(self, page: Page | Failure, waiting: "list[Deferred[Page]]") -> Any:
        for one in waiting:
            one.callback(page)
            yield self._drained()
