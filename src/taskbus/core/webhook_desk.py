"""What clients ask about their endpoints: register, change, replace the secret, forget; and about
what was delivered to them.
"""

import logging
from collections.abc import Callable, Collection, Mapping
from typing import Any

from taskbus.core.chores import place
from taskbus.core.replay import replay
from taskbus.core.webhook_book import ENDPOINT, HEALTH, Book
from taskbus.core.webhook_feed import FEED, POSITION
from taskbus.model.apimap import ApiMap
from taskbus.model.errors import InvalidArgument, JobNotFound, QueueUnavailable
from taskbus.model.job import REPLAYABLE, Job, State
from taskbus.model.json import load
from taskbus.model.options import check_name
from taskbus.model.uri import check_uri
from taskbus.model.webhook import (
    MOST_SECRETS,
    TAG,
    Endpoint,
    HookChanged,
    HookNotFound,
    check_filter,
    check_topics,
    check_url,
)
from taskbus.model.webhook_signature import check_secret, new_secret
from taskbus.port.bell import Bell
from taskbus.port.clock import Clock
from taskbus.port.queue import Queue
from taskbus.port.records import Records
from taskbus.port.store import Store

log = logging.getLogger(__name__)

OPTIONS = ("url", "call", "topics", "filter", "ordered", "description", "secret")
_TRIES = 5
_PAGE = 500
_MOST_REPLAYED = 100_000

# Whether the caller may manage an endpoint with these topics.
May = Callable[[Endpoint], bool]


class Desk:
    """Several threads may use it."""

    def __init__(
        self,
        records: Records,
        store: Store,
        queue: Queue,
        bell: Bell,
        book: Book,
        api: ApiMap,
        clock: Clock,
        exposed: Collection[str],
    ) -> None:
        self._records = records
        self._store = store
        self._queue = queue
        self._bell = bell
        self._book = book
        self._api = api
        self._clock = clock
        self._exposed = tuple(exposed)

    def put(
        self, client: str, request: Mapping[str, Any], may: May, require: Callable[[Endpoint], None]
    ) -> dict[str, Any]:
        """Register or change it; the same again changes nothing. What was disabled is enabled.

        The endpoint, with ``new``, and with the ``secret`` where that was made here and now.
        ``require`` raises where the caller may not have such an endpoint.
        """
        for _ in range(_TRIES):
            found = self._records.get(ENDPOINT, client)
            before = None if found is None else Endpoint.of(client, found.body)
            if before is not None and not may(before):
                raise InvalidArgument("client", client, "somebody else's", "choose another id")
            after, made = self._asked(client, request, before)
            require(after)
            if before is not None and before == after._replace(updated=before.updated):
                return {**before.told(), "new": False}
            if before is None and self._records.get(FEED, POSITION) is None:
                position = {"position": self._store.position()}
                self._records.put(FEED, POSITION, position, 0)
            if self._records.put(ENDPOINT, client, after.body, found.version if found else 0):
                self._records.remove(HEALTH, client)
                self._book.drop()
                log.info("endpoint %s %s", client, "changed" if before else "registered")
                told = {**after.told(), "new": before is None}
                return told | ({"secret": made} if made else {})
        raise HookChanged(client)

    def get(self, client: str, may: May) -> Endpoint:
        """As it is in the store now; raises HookNotFound."""
        found = self._records.get(ENDPOINT, client)
        endpoint = None if found is None else Endpoint.of(client, found.body)
        if endpoint is None or not may(endpoint):
            raise HookNotFound(client)
        return endpoint

    def told(self, endpoint: Endpoint) -> dict[str, Any]:
        """An endpoint, and how its deliveries go."""
        health = self._book.healths().get(endpoint.name)
        failing = None if health is None else health._asdict()
        return {**endpoint.told(), "failing": failing}

    def listed(self, may: May) -> list[dict[str, Any]]:
        """Every one that the caller may manage, by name."""
        found = [Endpoint.of(one.name, one.body) for one in self._records.all(ENDPOINT)]
        return [self.told(one) for one in found if may(one)]

    def delete(self, client: str, may: May) -> None:
        """Forget it; deliveries that wait fail, and are there to be looked at."""
        self.get(client, may)
        self._records.remove(ENDPOINT, client)
        self._records.remove(HEALTH, client)
        self._book.drop()
        log.info("endpoint %s deleted", client)

    def rotate(
        self, client: str, given: str | None, overlap: float, may: May
    ) -> tuple[str, Endpoint]:
        """A new secret, with which deliveries are signed from now on; for ``overlap`` seconds they
        are signed with those before it, too.
        """
        secret = given or new_secret()

        def replaced(before: Endpoint) -> Endpoint:
            now = self._clock()
            until = now + overlap
            older = [
                (one, until if end is None else min(end, until))
                for one, end in before.secrets
                if one != secret and (end is None or end > now)
            ]
            kept = older[: MOST_SECRETS - 1] if overlap else []
            return before._replace(secrets=((secret, None), *kept), updated=now)

        return secret, self._changed(client, may, replaced)

    def disable(self, client: str, reason: str) -> Endpoint | None:
        """Send nothing more; None where it was disabled or deleted by somebody else."""

        def disabled(before: Endpoint) -> Endpoint:
            if before.disabled is not None:
                raise HookChanged(client)
            return before._replace(disabled={"at": self._clock(), "reason": reason})

        try:
            return self._changed(client, lambda _: True, disabled)
        except (HookChanged, HookNotFound):
            return None

    def delivery(self, client: str, job_id: str, may: May) -> dict[str, Any]:
        """One delivery, with its attempts."""
        self.get(client, may)
        job = self._of(client, job_id)
        return delivery(job) | {"attempts": self._attempts(job)}

    def deliveries(
        self, client: str, states: Collection[State], before: str, limit: int, may: May
    ) -> list[dict[str, Any]]:
        """Deliveries, the newest first."""
        self.get(client, may)
        found = self._store.jobs(states, "", before, limit, TAG + client)
        return [delivery(job) for job in found]

    def replay(self, client: str, job_id: str, actor: str, may: May) -> list[str]:
        """Send one again; raises NotReplayable where it has not failed."""
        self.get(client, may)
        return self._again([self._of(client, job_id)], actor)

    def replay_since(self, client: str, since: float, actor: str, may: May) -> list[str]:
        """Send all again that were made since then and have failed, the oldest first."""
        self.get(client, may)
        found: list[Job] = []
        before = ""
        while len(found) < _MOST_REPLAYED:
            page = self._store.jobs(tuple(REPLAYABLE), "", before, _PAGE, TAG + client)
            found += [job for job in page if job.created >= since]
            if len(page) < _PAGE or page[-1].created < since:
                break
            before = page[-1].id
        ids: list[str] = []
        found.reverse()
        for begin in range(0, len(found), _PAGE):
            ids += self._again(found[begin : begin + _PAGE], actor)
        return ids

    def _again(self, jobs: list[Job], actor: str) -> list[str]:
        now = self._clock()
        changes = [replay(job, actor, now) for job in jobs]
        done = self._store.advance(changes) if changes else []
        self._bell.ring()
        again = [change.after for change, ok in zip(changes, done, strict=True) if ok]
        try:
            place(self._store, self._queue, [job.placement for job in again])
        except QueueUnavailable as error:
            log.warning("queue is down, %d jobs wait in the store: %s", len(again), error)
        return [job.id for job in again]

    def _of(self, client: str, job_id: str) -> Job:
        job = self._store.job(job_id)
        if job is None or TAG + client not in load(job.tags):
            raise JobNotFound(job_id)
        return job

    def _attempts(self, job: Job) -> list[dict[str, Any]]:
        """What the task has told of each."""
        said = ""
        after = 0
        while events := self._store.events(job.id, after):
            after = events[-1].seq
            for event in events:
                if event.kind == "output":
                    data = load(event.data)
                    if data.get("stream") == "stdout":
                        said += data.get("text", "")
        return [load(line) for line in said.splitlines() if line.endswith("}")]

    def _changed(self, client: str, may: May, change: Callable[[Endpoint], Endpoint]) -> Endpoint:
        for _ in range(_TRIES):
            found = self._records.get(ENDPOINT, client)
            before = None if found is None else Endpoint.of(client, found.body)
            if found is None or before is None or not may(before):
                raise HookNotFound(client)
            after = change(before)
            if self._records.put(ENDPOINT, client, after.body, found.version):
                self._book.drop()
                return after
        raise HookChanged(client)

    def _asked(
        self, client: str, request: Mapping[str, Any], before: Endpoint | None
    ) -> tuple[Endpoint, str | None]:
        """The endpoint that the request describes, and its secret where that was made here."""
        said = {name: value for name, value in request.items() if value is not None}
        if ("url" in said) is ("call" in said):
            raise InvalidArgument(
                "url", said.get("url"), "neither alone nor instead of call", "send one of the two"
            )
        now = self._clock()
        given = check_secret(said["secret"]) if "secret" in said else None
        made = None
        secrets = () if before is None else before.secrets
        if given is not None and given not in [one for one, _ in secrets[:1]]:
            secrets = ((given, None),)
        elif "url" in said and not secrets:
            made = new_secret()
            secrets = ((made, None),)
        endpoint = Endpoint(
            name=client,
            url=check_url(said["url"]) if "url" in said else None,
            call=self._callee(said["call"]) if "call" in said else None,
            topics=check_topics(said.get("topics"), self._exposed),
            filter=check_filter(said.get("filter", {})),
            ordered=_yes_or_no(said.get("ordered", False)),
            description=check_name("description", said["description"])
            if said.get("description")
            else "",
            secrets=secrets if "url" in said else (),
            disabled=None,
            created=now if before is None else before.created,
            updated=now,
        )
        return endpoint, made

    def _callee(self, value: Any) -> str:
        """A URI of the API map, which is called by a job."""
        uri = check_uri(value, "call")
        self._api.to_queue(uri)
        return uri


def delivery(job: Job) -> dict[str, Any]:
    """A delivery as its endpoint's owner sees it."""
    args, kwargs = load(job.args), load(job.kwargs)
    event = kwargs.get("event") or (args[0] if args else {})
    error = None if job.error is None else load(job.error)
    return {
        "id": job.id,
        "event": event.get("id"),
        "type": event.get("type"),
        "state": job.state.value,
        "attempt": job.attempt,
        "created": job.created,
        "due": job.due,
        "finished": job.finished,
        "error": error and {"error": error["error"], "message": error["message"]},
    }


def _yes_or_no(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    raise InvalidArgument("ordered", value, "not true or false", "send true or false")
