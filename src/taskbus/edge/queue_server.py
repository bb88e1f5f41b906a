"""The queue server's procedures, for ``taskbus.edge.control``."""

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import inlineCallbacks
from twisted.internet.threads import deferToThread

from taskbus.bus.message import caller
from taskbus.core.command import numbered, request, status
from taskbus.core.numbers import Numbers
from taskbus.core.permit import Permit
from taskbus.core.plan import Plan
from taskbus.edge.batch import Batch
from taskbus.edge.request import named, whole
from taskbus.model.access import READ
from taskbus.model.apimap import ApiMap
from taskbus.model.builtin import HTTP_COMMAND
from taskbus.model.errors import InvalidArgument, NotReporting, Unauthenticated
from taskbus.model.job import State
from taskbus.model.portable import portable_text
from taskbus.model.settings import Settings
from taskbus.model.uri import COMMANDS
from taskbus.port.clock import Clock
from taskbus.port.store import Store

_LARGEST_NUMBER = 10**15
_WAITS = (State.SCHEDULED, State.QUEUED, State.RETRYING)
# A job's id, the token, how far it is, and a message: see ``taskbus.task.reports``.
Report = Callable[[str, str, float, str], bool | None]


class QueueServer:
    """Jobs of commands. Callbacks wait for theirs, and are counted once they can run."""

    def __init__(
        self,
        settings: Settings,
        api: ApiMap,
        clock: Clock,
        store: Store,
        batch: Batch,
        numbers: Numbers,
        permit: Callable[[Any], Permit],
        report: Report,
    ) -> None:
        """``permit``: what a call's details say that its caller may do."""
        self._programs = settings.queue_server_exec
        self._threads = sum(
            pool.count * pool.slots
            for pool in settings.pools
            if settings.queue_server_queue in pool.queues
        )
        self._api = api
        self._clock = clock
        self._store = store
        self._batch = batch
        self._numbers = numbers
        self._permit = permit
        self._report = report

    def endpoints(self) -> dict[str, Callable[..., Any]]:
        """By URI."""
        return {
            "taskbus.queue_server.add": self.add,
            "taskbus.queue_server.job": self.job,
            "taskbus.queue_server.counts": self.counts,
            "taskbus.queue_server.progress": self.progress,
        }

    @inlineCallbacks
    def add(self, details: Any, /, *args: Any, **kwargs: Any) -> Any:
        """``add(body)`` -> ``{"number": int, "job": id}``; see ``taskbus.core.command``."""
        body = named(("body",), args, kwargs).get("body")
        plan = Plan(self._api, self._clock, caller(details), True, self._permit(details))
        # What is refused costs no number.
        request(body, 0, self._programs)
        number = yield deferToThread(self._numbers.next)
        plan.add(request(body, number, self._programs))
        ids = yield self._batch.accept(plan.submissions)
        return {"number": number, "job": ids[0]}

    def job(self, details: Any, /, *args: Any, **kwargs: Any) -> Any:
        """``job(number)`` -> ``{"id", "worker_status", "time_added", ...}``."""
        number = _number(named(("number",), args, kwargs))
        permit = self._permit(details)

        def read() -> Any:
            job = numbered(self._store, number)
            permit.require_job(READ, job)
            return status(job)

        return deferToThread(read)

    def counts(self, details: Any, /, *args: Any, **kwargs: Any) -> Any:
        """``counts()`` -> ``{"waiting", "working", "max_threads", "free_threads"}``."""
        named((), args, kwargs)
        self._permit(details).require(READ, HTTP_COMMAND)

        def read() -> Any:
            found = self._store.counts((*_WAITS, State.RUNNING), f"{COMMANDS}.*")
            working = found.get(State.RUNNING, 0)
            return {
                "waiting": sum(found.get(state, 0) for state in _WAITS),
                "working": working,
                "max_threads": self._threads,
                "free_threads": max(0, self._threads - working),
            }

        return deferToThread(read)

    def progress(self, _details: Any, /, *args: Any, **kwargs: Any) -> Any:
        """``progress(number, token, progress, message="")`` -> null. Whoever has the token of the
        attempt under way may tell, whatever else they may do.
        """
        asked = named(("number", "token", "progress", "message"), args, kwargs)
        number, fraction = _number(asked), _fraction(asked.get("progress"))
        token, message = asked.get("token"), _message(asked.get("message"))

        def tell() -> None:
            job = numbered(self._store, number)
            heard = self._report(job.id, str(token), fraction, message)
            if heard is None:
                raise NotReporting(number)
            if not heard:
                raise Unauthenticated(
                    "this is not the token of the attempt under way",
                    remedy="send the header Taskbus-Token of the request that the job has sent",
                )

        return deferToThread(tell)


def _number(asked: dict[str, Any]) -> int:
    if asked.get("number") is None:
        raise InvalidArgument("number", None, "missing", "send a job's number")
    return whole(asked, "number", 0, _LARGEST_NUMBER, 0)


def _fraction(value: Any) -> float:
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 1:
        return float(value)
    raise InvalidArgument("progress", value, "not a share", "send a number from 0 to 1")


def _message(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return portable_text(value[:1000])
    raise InvalidArgument("message", value, "not a text", "send a text, or leave it out")
