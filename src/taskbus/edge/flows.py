"""Flows: jobs that run one after the other, or one after many."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twisted.internet.defer import inlineCallbacks

from taskbus.bus.message import caller
from taskbus.core.permit import Permit
from taskbus.core.plan import Plan
from taskbus.core.untraced import NO_SPANS
from taskbus.edge.batch import Batch
from taskbus.edge.request import named
from taskbus.model.apimap import ApiMap
from taskbus.model.errors import InvalidArgument
from taskbus.model.options import END, SUCCESS, check_trace
from taskbus.model.trace import trace_in, with_trace
from taskbus.model.uri import is_loose_uri
from taskbus.port.clock import Clock
from taskbus.port.spans import ENQUEUE, Spans

_MOST_LISTED = 10_000


class Flows:
    """The procedures that accept jobs, for ``taskbus.edge.control``."""

    def __init__(
        self,
        api: ApiMap,
        clock: Clock,
        batch: Batch,
        permit: Callable[[Any], Permit],
        spans: Spans = NO_SPANS,
    ) -> None:
        """``permit``: what a call's details say that its caller may do."""
        self._permit = permit
        self._api = api
        self._clock = clock
        self._batch = batch
        self._spans = spans

    def endpoints(self) -> dict[str, Callable[..., Any]]:
        """By URI."""
        return {
            "taskbus.job.submit": self.submit,
            "taskbus.job.submit_many": self.submit_many,
            "taskbus.job.chain": self.chain,
            "taskbus.job.group": self.group,
        }

    def submit(self, details: Any, /, *args: Any, **kwargs: Any) -> Any:
        """``submit(uri, args=[], kwargs={}, priority=, delay=, ..., on_success=)`` -> job id."""
        request = named(("uri", "args", "kwargs"), args, kwargs, is_complete=False)
        uri, trace = request.get("uri"), request.pop("trace", None)
        what = uri if isinstance(uri, str) and is_loose_uri(uri) else "taskbus.job.submit"
        told = self._accept(details, what, lambda plan: [plan.add(request)], trace)
        return told.addCallback(lambda ids: ids[0])

    def submit_many(self, details: Any, /, *args: Any, **kwargs: Any) -> Any:
        """``submit_many([{"uri": ..., "args": [...], ...}, ...])`` -> job ids, all or none."""
        jobs = _listed(named(("jobs",), args, kwargs), least=0)

        def add(plan: Plan) -> list[str]:
            return [plan.add(one, f"jobs[{nth}]") for nth, one in enumerate(jobs)]

        return self._accept(details, "taskbus.job.submit_many", add)

    def chain(self, details: Any, /, *args: Any, **kwargs: Any) -> Any:
        """``chain([{"uri": ...}, ...])`` -> job ids; each runs after the one before succeeded."""
        jobs = _listed(named(("jobs",), args, kwargs))

        def add(plan: Plan) -> list[str]:
            ids: list[str] = []
            for nth, one in enumerate(jobs):
                ids.append(plan.add(one, f"jobs[{nth}]", ids[-1:], SUCCESS))
            return ids

        return self._accept(details, "taskbus.job.chain", add)

    def group(self, details: Any, /, *args: Any, **kwargs: Any) -> Any:
        """``group([{"uri": ...}, ...], then={"uri": ...}, on="end")`` -> ``{"jobs": ids, "then":
        id}``; ``then`` runs once all have ended, with ``on="success"`` only if all succeeded.
        """
        request = named(("jobs", "then", "on"), args, kwargs)
        jobs = _listed(request)
        on = END if request.get("on") is None else request["on"]
        if on not in (END, SUCCESS):
            raise InvalidArgument("on", on, "not an end", f"use {END} or {SUCCESS}")

        def add(plan: Plan) -> list[str]:
            ids = [plan.add(one, f"jobs[{nth}]") for nth, one in enumerate(jobs)]
            return [*ids, plan.add(request.get("then"), "then", ids, on)]

        told = self._accept(details, "taskbus.job.group", add)
        return told.addCallback(lambda ids: {"jobs": ids[:-1], "then": ids[-1]})

    @inlineCallbacks
    def _accept(
        self, details: Any, what: str, add: Callable[[Plan], Sequence[str]], trace: Any = None
    ) -> Any:
        """The ids of the jobs that ``add`` asks for, once all are stored: their own, or those of
        the jobs that are there already under the same keys. ``trace``: theirs, if it is not the
        call's.
        """
        who, permit = caller(details), self._permit(details)
        given = trace_in(who) if trace is None else check_trace(trace)
        with self._spans.begin(ENQUEUE, what, given) as span:
            plan = Plan(self._api, self._clock, with_trace(who, span.trace), permit=permit)
            asked = add(plan)
            submissions = plan.submissions
            ids = (yield self._batch.accept(submissions)) if submissions else []
        stored = {one.job.id: id_ for one, id_ in zip(submissions, ids, strict=True)}
        return [stored[job] for job in asked]


def _listed(request: Mapping[str, Any], least: int = 1) -> Sequence[Any]:
    jobs = request.get("jobs")
    if isinstance(jobs, (list, tuple)) and least <= len(jobs) <= _MOST_LISTED:
        return jobs
    count = f"{least} to {_MOST_LISTED}" if least else f"up to {_MOST_LISTED}"
    raise InvalidArgument("jobs", jobs, "not a list of jobs", f"send {count} objects")
