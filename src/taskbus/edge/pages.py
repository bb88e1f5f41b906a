"""Pages of what can be followed: one job's journal, or chosen entries of all jobs."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from taskbus.bus.follower import PAGE_BYTES, Item, Page
from taskbus.core.labels import Label, Labels
from taskbus.core.permit import Permit
from taskbus.edge.watchers import is_last, told
from taskbus.model.access import READ
from taskbus.model.job import FINAL, Event
from taskbus.model.uri import covers
from taskbus.port.store import Entry, Store, existing

_MOST_READ = 1000
# Names and numbers around an event's data.
_FRAME_BYTES = 100
_GAP = "gap"


class Choice(NamedTuple):
    """Entries of the journal: of jobs of this URI (or below it, ``com.x.*``), with this tag, of
    these kinds; of those that its reader is permitted to see.
    """

    uri: str
    tag: str
    kinds: frozenset[str]
    permit: Permit

    def has(self, event: Event, label: Label) -> bool:
        """Whether this event is among them."""
        return (
            (not self.kinds or event.kind in self.kinds)
            and (not self.tag or self.tag in label.tags)
            and (not self.uri or covers(self.uri, label.uri))
            and self.permit.allows(READ, label.uri)
        )


def new_of_job(events: Sequence[Event]) -> Page:
    """What a job's journal has got."""
    items = [_item(event) for event in events]
    return Page(events[0].seq - 1, events[-1].seq, items, is_end=is_last(events[-1]))


def read_job(store: Store, job: str, after: int) -> Page:
    """A page of a job's journal; raises JobNotFound."""
    events = store.events(job, after, _MOST_READ)
    if not events:
        found = existing(store, job)
        return Page(after, after, (), is_end=found.state in FINAL and found.seq <= after)
    kept, is_cut = _start(events, lambda event: len(event.data))
    page = new_of_job(kept)
    is_full = is_cut or len(events) == _MOST_READ
    return page._replace(is_full=is_full, is_end=page.is_end and not is_full)


def new_of_journal(
    after: int, entries: Sequence[Entry], labels: Mapping[str, Label], choice: Choice
) -> Page:
    """What the journal has got since a position."""
    upto = entries[-1].position
    return Page(after, upto, list(_chosen(after, upto, entries, labels, choice)))


def read_journal(store: Store, labels: Labels, choice: Choice, after: int) -> Page:
    """A page of the journal of all jobs."""
    entries = store.journal(after, _MOST_READ)
    if not entries:
        return Page(after, after, ())
    kept, is_cut = _start(entries, lambda entry: len(entry.event.data))
    page = new_of_journal(after, kept, labels.of(one.event.job for one in kept), choice)
    return page._replace(is_full=is_cut or len(entries) == _MOST_READ)


def _chosen(
    after: int,
    upto: int,
    entries: Sequence[Entry],
    labels: Mapping[str, Label],
    choice: Choice,
) -> Iterator[Item]:
    """Positions have no holes but those of jobs that were forgotten: one gap tells of all that are
    before the next item.
    """
    seen, gap = after, None
    for position, event in entries:
        if (label := labels.get(event.job)) is None:
            continue
        if position > seen + 1:
            gap = (seen if gap is None else gap[0], position - 1)
        seen = position
        if choice.has(event, label):
            if gap:
                yield _gap(*gap)
                gap = None
            body = {"position": position, "uri": label.uri, **told(event)}
            yield Item(position, body, len(event.data) + len(label.uri) + _FRAME_BYTES)
    if seen < upto:
        gap = (seen if gap is None else gap[0], upto)
    if gap:
        yield _gap(*gap)


def _gap(after: int, upto: int) -> Item:
    return Item(upto, {"position": upto, "kind": _GAP, "data": {"after": after}}, _FRAME_BYTES)


def _item(event: Event) -> Item:
    return Item(event.seq, told(event), len(event.data) + _FRAME_BYTES)


def _start(things: Sequence[Any], length: Callable[[Any], int]) -> tuple[Sequence[Any], bool]:
    """As many as a page may hold, at least one; whether there are more."""
    size = 0
    for nth, thing in enumerate(things):
        size += length(thing)
        if size > PAGE_BYTES and nth:
            return things[:nth], True
    return things, False
