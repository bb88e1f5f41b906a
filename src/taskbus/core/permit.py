"""Permits: what one caller may do, and to which URIs.

Access keys have scopes; every other role has what the router's configuration gives it.
"""

from collections.abc import Collection, Sequence
from typing import Any

from taskbus.model.access import (
    CALL,
    EVERYTHING,
    HOOKS,
    MANAGE,
    METRICS,
    PUBLISH,
    READ,
    REGISTER,
    SUBMIT,
    Scope,
    is_reserved,
    patterns_for,
)
from taskbus.model.errors import Forbidden, InvalidArgument, JobNotFound
from taskbus.model.job import JOB_TOPIC, Job, State
from taskbus.model.uri import check_uri, covers, is_pattern
from taskbus.port.store import Store

# Which action a procedure of the bus is about: whoever has it for no URI at all need not ask. The
# router lets all others pass: for which URIs they have it, the procedure itself has to look at.
PROCEDURES = {
    "taskbus.job.submit": SUBMIT,
    "taskbus.job.submit_many": SUBMIT,
    "taskbus.job.chain": SUBMIT,
    "taskbus.job.group": SUBMIT,
    "taskbus.job.get": READ,
    "taskbus.job.list": READ,
    "taskbus.job.events": READ,
    "taskbus.job.wait": READ,
    "taskbus.job.follow": READ,
    "taskbus.journal.follow": READ,
    "taskbus.journal.read": READ,
    "taskbus.job.cancel": MANAGE,
    "taskbus.job.retry": MANAGE,
    "taskbus.job.replay": MANAGE,
    "taskbus.job.replay_many": MANAGE,
    "taskbus.job.discard_many": MANAGE,
    "taskbus.bus.status": METRICS,
    "taskbus.bus.ready": METRICS,
    "taskbus.queue_server.add": SUBMIT,
    "taskbus.queue_server.job": READ,
    "taskbus.queue_server.counts": READ,
    "taskbus.hook.publish": PUBLISH,
}
# What every key may ask.
FREE = ("taskbus.api.list",)
# Procedures of features, by their prefix.
FEATURES = {"taskbus.hook.": HOOKS}


class Permit:
    """What one caller may do."""

    def __init__(self, scopes: Sequence[Scope] | None) -> None:
        """None: everything, as far as the router lets it come."""
        self._scopes = scopes

    def allows(self, action: str, uri: str) -> bool:
        """Whether it may do this to the URI."""
        if self._scopes is None:
            return True
        return any(scope.allows(action, uri) for scope in self._scopes)

    def require(self, action: str, uri: Any, field: str = "uri") -> None:
        """Raises Forbidden where it may not, even for what is no URI: who has no scope for it need
        not learn what the API map knows.
        """
        if self._scopes is not None and not (isinstance(uri, str) and self.allows(action, uri)):
            raise Forbidden(action, uri, field)

    def require_job(self, action: str, job: Job) -> None:
        """Raises Forbidden; JobNotFound where the caller may not even know that there is one."""
        if self.allows(action, job.uri):
            return
        if self.allows(READ, job.uri):
            raise Forbidden(action, job.uri, "job")
        raise JobNotFound(job.id)

    def within(self, action: str, wanted: str) -> list[str]:
        """The patterns of jobs that are both wanted (a URI, or one with ``.*``, or empty for all)
        and allowed. ``[""]``: all there are.
        """
        if self._scopes is None:
            return [wanted]
        allowed = patterns_for(self._scopes, action)
        if EVERYTHING in allowed:
            return [wanted]
        found = [_common(one, wanted) for one in allowed]
        return _without_doubles([one for one in found if one])

    @property
    def sees_everything(self) -> bool:
        """Whether it may read every job."""
        return self.within(READ, "") == [""]

    def may_ask(self, procedure: str) -> bool:
        """Whether a procedure of the bus is about anything that this caller may do."""
        if self._scopes is None or procedure in FREE:
            return True
        action = PROCEDURES.get(procedure) or next(
            (of for prefix, of in FEATURES.items() if procedure.startswith(prefix)), None
        )
        return action is not None and bool(patterns_for(self._scopes, action))

    def procedures(self) -> list[str]:
        """Those of PROCEDURES and FREE that it may ask."""
        return [one for one in (*PROCEDURES, *FREE) if self.may_ask(one)]

    def may_call(self, uri: str, mode: str | None) -> bool:
        """Whether it may call this URI, whose entry of the API map (None: there is none) has this
        mode: to call what runs in the background is to submit a job.
        """
        if is_reserved(uri):
            return self.may_ask(uri)
        return is_strict(uri) and self.allows(SUBMIT if mode == "background" else CALL, uri)

    def may_publish(self, uri: str) -> bool:
        """Whether it may publish to this topic."""
        return not is_reserved(uri) and is_strict(uri) and self.allows(PUBLISH, uri)

    def may_register(self, pattern: str) -> bool:
        """Whether it may serve this URI, or ``x.*`` for all URIs below ``x``."""
        base = pattern[:-2] if is_pattern(pattern) else pattern
        if is_reserved(base) or not is_strict(base):
            return False
        return self._scopes is None or any(
            one == EVERYTHING or _includes(one, pattern)
            for one in patterns_for(self._scopes, REGISTER)
        )

    def may_subscribe(self, uri: str, match: str) -> bool:
        """Whether it may subscribe to this topic, or prefix of topics; not to a job's topic, which
        is a question of the job, nor by wildcard.
        """
        if match == "exact":
            return is_strict(uri) and not is_reserved(uri) and self.allows(READ, uri)
        if match != "prefix" or not uri.endswith("."):
            return False
        if uri == JOB_TOPIC:
            return self.sees_everything
        return is_strict(uri + "x") and not is_reserved(uri) and self._allows_below(READ, uri)

    def _allows_below(self, action: str, prefix: str) -> bool:
        if self._scopes is None:
            return True
        return any(
            one == EVERYTHING or (is_pattern(one) and prefix.startswith(one[:-1]))
            for one in patterns_for(self._scopes, action)
        )


UNLIMITED = Permit(None)


def is_strict(uri: str) -> bool:
    """Whether this is a URI as the API map has them: no capitals, no empty components."""
    try:
        check_uri(uri)
    except InvalidArgument:
        return False
    return True


def _common(one: str, other: str) -> str:
    """The URIs that both patterns cover, as a pattern; empty where there are none."""
    if not other or _includes(other, one):
        return one
    return other if _includes(one, other) else ""


def _includes(pattern: str, other: str) -> bool:
    """Whether a pattern covers all that another one, or a URI, does."""
    return pattern == other or covers(pattern, other)


def _without_doubles(patterns: list[str]) -> list[str]:
    """So that no job is found twice: what another pattern includes is left out."""
    apart = list(dict.fromkeys(patterns))
    return [
        one for one in apart if not any(_includes(other, one) for other in apart if other != one)
    ]


def jobs_within(
    store: Store,
    patterns: Sequence[str],
    states: Collection[State],
    before: str,
    limit: int,
    tag: str,
) -> list[Job]:
    """As ``Store.jobs``, of all these patterns (``Permit.within``)."""
    found = [job for one in patterns for job in store.jobs(states, one, before, limit, tag)]
    return sorted(found, key=lambda job: job.id, reverse=True)[:limit]
