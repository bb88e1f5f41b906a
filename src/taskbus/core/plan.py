"""Plans: the jobs of one call, and which of them waits for the end of which."""

from collections.abc import Mapping, Sequence
from typing import Any

from taskbus.core.intake import actor, prepare
from taskbus.core.permit import UNLIMITED, Permit
from taskbus.model.access import SUBMIT
from taskbus.model.apimap import ApiMap
from taskbus.model.errors import InvalidArgument, TaskbusError
from taskbus.model.job import Key, Link, State, Submission, born
from taskbus.model.options import FOLLOW_UPS, check_delay, check_trace
from taskbus.model.policy import Policy
from taskbus.port.clock import Clock

MOST_JOBS = 20_000
MOST_FOLLOW_UPS = 100
DEEPEST = 20


class Plan:
    """Collects requests. Nothing waits for a job that is planned later: there are no circles."""

    def __init__(
        self,
        api: ApiMap,
        clock: Clock,
        details: Mapping[str, Any],
        is_own: bool = False,
        permit: Permit = UNLIMITED,
    ) -> None:
        """``details``: who calls, for all jobs. ``is_own``: see ``prepare``. ``permit``: which URIs
        they may be of, those that follow others included.
        """
        self._permit = permit
        self._is_own = is_own
        self._api = api
        self._clock = clock
        self._details = details
        self._submissions: list[Submission] = []
        self._tied: set[str] = set()
        self._traces: dict[str, dict[str, str]] = {}
        self._keyed: dict[str, tuple[str, Key]] = {}

    def add(self, request: Any, place: str = "", before: Sequence[str] = (), on: str = "") -> str:
        """One more job, which waits until every job ``before`` it has ended ``on`` success,
        failure, or anyhow; its id.

        ``request``: see ``taskbus.core.intake.prepare``; with ``on_success``, ``on_failure`` and
        ``on_end``, each a request or a list of them, for jobs that follow this one. ``place``
        names the request in errors. Raises InvalidArgument or UnknownUri.
        """
        for one in before:
            if one in self._keyed:
                raise _unfit(*self._keyed[one])
        most = len(self._submissions) + 1 + MOST_FOLLOW_UPS
        return self._add(request, place, before, on, most, 0)

    @property
    def submissions(self) -> list[Submission]:
        """All of them, for one commit."""
        return [
            one._replace(job=one.job._replace(tied=1)) if one.job.id in self._tied else one
            for one in self._submissions
        ]

    def _add(
        self, request: Any, place: str, before: Sequence[str], on: str, most: int, depth: int
    ) -> str:
        if not isinstance(request, dict):
            raise InvalidArgument(place, request, "not an object", "send uri, args, ...")
        followed = not FOLLOW_UPS.keys().isdisjoint(request)
        own = _without_follow_ups(request) if followed else request
        submission = self._prepared(own, place, before, on)
        self._submissions.append(submission)
        for key in submission.keys:
            # With an idempotency key found, all that follows is there already, too.
            if before or (followed and key.until is None):
                raise _unfit(place, key)
            self._keyed[submission.job.id] = (place, key)
        self._tied.update(before)
        self._count(place, request, most, depth)
        if followed:
            for name, condition in FOLLOW_UPS.items():
                for where, one in _listed(request.get(name), f"{place}.{name}".lstrip(".")):
                    self._add(one, where, [submission.job.id], condition, most, depth + 1)
        return submission.job.id

    def _prepared(
        self, request: Mapping[str, Any], place: str, before: Sequence[str], on: str
    ) -> Submission:
        # What follows belongs to the same trace, unless it says otherwise.
        trace = self._traces.get(before[0]) if before else None
        details = {**self._details, "after": before} if before else self._details
        details = {**details, "trace": trace} if trace else details
        try:
            self._permit.require(SUBMIT, request.get("uri"))
            submission = prepare(self._api, self._clock, request, details, self._is_own)
        except TaskbusError as error:
            if place:
                error.locate(place)
            raise
        if request.get("trace") is not None:
            trace = check_trace(request["trace"]).told
        if trace is not None:
            self._traces[submission.job.id] = trace
        return _waiting(submission, request, before, on, actor(details)) if before else submission

    def _count(self, place: str, request: Any, most: int, depth: int) -> None:
        count = len(self._submissions)
        if depth > DEEPEST:
            remedy = f"nest up to {DEEPEST} deep, or use taskbus.job.chain"
            raise InvalidArgument(place, request, "nested too deep", remedy)
        if count > most:
            remedy = f"let up to {MOST_FOLLOW_UPS} jobs follow a request, or use taskbus.job.group"
            raise InvalidArgument(place, request, "too many follow-ups", remedy)
        if count > MOST_JOBS:
            remedy = f"send up to {MOST_JOBS} jobs in a call, with all that follow them"
            raise InvalidArgument(place, request, "too many jobs", remedy)


def _unfit(place: str, key: Key) -> InvalidArgument:
    """Another job may answer for this one, which has ended or does not wait for the same."""
    name = "unique" if key.until is None else "idempotency_key"
    return InvalidArgument(
        f"{place}.{name}".lstrip("."), key.label, "on a job that waits, or that others wait for",
        "send unique=false" if key.until is None else "give it to a job that stands alone",
    )  # fmt: skip


def _without_follow_ups(request: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in request.items() if name not in FOLLOW_UPS}


def _listed(told: Any, place: str) -> list[tuple[str, Any]]:
    """Each request with its place."""
    if isinstance(told, (list, tuple)):
        return [(f"{place}[{nth}]", one) for nth, one in enumerate(told)]
    return [] if told is None else [(place, told)]


def _waiting(
    submission: Submission, request: Mapping[str, Any], before: Sequence[str], on: str, who: str
) -> Submission:
    """The job as one that waits. Its delay, if it has one, begins when it goes on."""
    job = submission.job._replace(state=State.WAITING)
    if request.get("delay") is not None:
        policy = Policy.of(job.policy)._replace(delay=check_delay(request["delay"]))
        job = job._replace(policy=policy.text)
    whom = f"job {before[0]}" if len(before) == 1 else f"{len(before)} jobs"
    event = born(job, f"submitted, waits for {whom}", who)
    links = tuple(Link(one, job.id, on) for one in before)
    return submission._replace(job=job, event=event, links=links)
