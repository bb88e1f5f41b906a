"""Access: who comes with which key, and what the router lets them do; for ``taskbus.edge.control``.

The router asks for every join with a key, and for what its sessions want to call, subscribe to or
publish: control looks at the keys in memory, so that neither needs the store. It does not ask for
each call of control's own procedures, which look at the scopes for the jobs that they are about.
"""

import logging
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from autobahn.twisted.wamp import Session
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.task import LoopingCall
from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure

from taskbus.core.keyring import Keyring
from taskbus.core.permit import UNLIMITED, Permit
from taskbus.edge.request import named
from taskbus.model.access import READ, ROLE, AccessKey, check_key_id, describe, scopes_of
from taskbus.model.apimap import ApiMap
from taskbus.model.errors import InvalidArgument, TaskbusError, Unauthenticated, UnknownUri
from taskbus.model.identity import is_job_id
from taskbus.model.job import JOB_TOPIC
from taskbus.model.uri import is_pattern
from taskbus.port.clock import Clock
from taskbus.port.store import Store

log = logging.getLogger(__name__)

_LOOK_SECONDS = 1.0
# Who was let in may take so long to become a session that can be ended.
_JOIN_SECONDS = 30.0
_ASKED = ("id", "name", "digest", "scopes", "rate", "expires", "signing")


class Access:
    """The keys at the bus's doors."""

    def __init__(
        self,
        reactor: Any,
        keyring: Keyring,
        api: ApiMap,
        store: Store,
        clock: Clock,
        notify_topic: str,
    ) -> None:
        self._keyring = keyring
        self._api = api
        self._store = store
        self._clock = clock
        self._notify = notify_topic
        self._session: Session | None = None
        # The keys that may have sessions, with the time at which one was let in last.
        self._inside: dict[str, float] = {}
        self._looks = LoopingCall(self._look)
        self._looks.clock = reactor

    def endpoints(self) -> dict[str, Callable[..., Any]]:
        """By URI."""
        return {
            "taskbus.access.authenticate": self.authenticate,
            "taskbus.access.decide": self.decide,
            "taskbus.access.create": self.create,
            "taskbus.access.list": self.list,
            "taskbus.access.revoke": self.revoke,
        }

    @inlineCallbacks
    def join(self, session: Session) -> Any:
        """On a new session: learn who is inside already."""
        self._session = session
        yield deferToThread(self._keyring.refresh).addErrback(_told)
        for id_ in (yield session.call("wamp.session.list", [ROLE])):
            found = yield session.call("wamp.session.get", id_).addErrback(lambda _: None)
            if found:
                self._inside[found["authid"]] = self._clock()
        if not self._looks.running:
            self._looks.start(_LOOK_SECONDS, now=False)

    def leave(self) -> None:
        """The session is gone."""
        self._session = None
        if self._looks.running:
            self._looks.stop()

    def permit(self, details: Any) -> Permit:
        """What the caller of a procedure may do. Who is not disclosed may do nothing."""
        role = details.caller_authrole
        if role == ROLE or role is None:
            return self._permit(details.caller_authid if role == ROLE else None)
        return UNLIMITED

    def authenticate(self, _details: Any, /, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """``authenticate(realm, authid, {"ticket": key})`` -> the principal, as Crossbar asks for
        it; its ``extra`` becomes the ``authextra`` of the session.
        """
        asked = named(("realm", "authid", "details"), args, kwargs)
        told = asked.get("details")
        ticket = told.get("ticket") if isinstance(told, Mapping) else None
        key = self._keyring.proved(_text(asked, "authid"), ticket)
        if key is None:
            raise Unauthenticated(
                "the access key is unknown, revoked or expired, or its secret is wrong",
                remedy="send a key that 'taskbus key create' has printed",
            )
        self._inside[key.id] = self._clock()
        extra = {
            "name": key.name,
            "scopes": list(key.scopes),
            "rate": key.rate,
            "expires": key.expires,
            "procedures": _permit_of(key).procedures(),
        }
        return {"authid": key.id, "role": ROLE, "extra": extra}

    def decide(self, _details: Any, /, *args: Any, **kwargs: Any) -> Any:
        """``decide(authid, uri, action, options)`` -> what Crossbar wants to know of an authorizer.
        Nothing for its cache, which would serve one key's answer to another.
        """
        asked = named(("authid", "uri", "action", "options"), args, kwargs)
        permit = self._permit(_text(asked, "authid"))
        uri, action, options = _text(asked, "uri"), asked.get("action"), asked.get("options") or {}
        if not isinstance(options, Mapping):
            raise InvalidArgument("options", options, "not an object", "send {}, or leave it out")
        if action == "call":
            return _answer(permit.may_call(uri, self._mode(uri)), disclose=True)
        if action == "publish":
            return _answer(uri != self._notify and permit.may_publish(uri))
        if action == "subscribe":
            return self._subscription(permit, uri, options.get("match") or "exact")
        if action == "register":
            return _answer(self._may_register(permit, uri, options))
        return _answer(False)

    def create(self, _details: Any, /, *args: Any, **kwargs: Any) -> Any:
        """``create(id=, name=, digest=, scopes=, rate=, expires=, signing=)`` -> the key as it is
        shown. Its maker keeps the secret, and sends the digest alone.
        """
        request = named(_ASKED, args, kwargs)
        return deferToThread(lambda: describe(self._keyring.add(request)))

    def list(self, _details: Any, /, *args: Any, **kwargs: Any) -> Any:
        """``list()`` -> all keys, the oldest first, without their digests."""
        named((), args, kwargs)

        def read() -> Any:
            self._keyring.refresh()
            return [describe(key) for key in self._keyring.all()]

        return deferToThread(read)

    @inlineCallbacks
    def revoke(self, _details: Any, /, *args: Any, **kwargs: Any) -> Any:
        """``revoke(id)`` -> how many sessions it has ended. Nobody comes in with it any more."""
        id_ = check_key_id(named(("id",), args, kwargs).get("id"))
        yield deferToThread(self._keyring.remove, id_)
        log.info("access key %s is revoked", id_)
        return (yield self._end(id_))

    def _permit(self, id_: str | None) -> Permit:
        key = self._keyring.find(id_)
        return Permit(()) if key is None else _permit_of(key)

    def _mode(self, uri: str) -> str | None:
        try:
            return self._api.entry(uri).mode
        except UnknownUri:
            return None

    def _subscription(self, permit: Permit, uri: str, match: str) -> Any:
        job = uri.removeprefix(JOB_TOPIC) if match == "exact" else ""
        if is_job_id(job) and job != uri:
            return deferToThread(self._store.job, job).addCallback(
                lambda found: _answer(found is not None and permit.allows(READ, found.uri))
            )
        # It tells of everybody's jobs.
        is_notify = uri == self._notify or (match == "prefix" and self._notify.startswith(uri))
        if is_notify and not permit.sees_everything:
            return _answer(False)
        return _answer(permit.may_subscribe(uri, match))

    def _may_register(self, permit: Permit, uri: str, options: Mapping[str, Any]) -> bool:
        """Only what the API map leaves to components, and nothing that would take it from others:
        neither from a backend of ours that is away, nor from the component that serves it.
        """
        match = options.get("match") or "exact"
        if options.get("force_reregister") or match not in ("exact", "prefix"):
            return False
        pattern = f"{uri}*" if match == "prefix" else uri
        if is_pattern(pattern) != (match == "prefix"):
            return False
        return permit.may_register(pattern) and self._api.is_left_to_components(pattern)

    def _look(self) -> "Deferred[None]":
        """Others may have changed the keys, and those of some are over."""
        looked = deferToThread(self._keyring.refresh).addErrback(_told)
        return looked.addCallback(lambda _: self._end_invalid()).addErrback(_told)

    @inlineCallbacks
    def _end_invalid(self) -> Any:
        for id_, since in tuple(self._inside.items()):
            if self._keyring.find(id_) is None:
                ended = yield self._end(id_)
                if not ended and since < self._clock() - _JOIN_SECONDS:
                    self._inside.pop(id_, None)

    @inlineCallbacks
    def _end(self, id_: str) -> Any:
        """End all sessions of a key; how many that were."""
        if self._session is None or not self._session.is_attached():
            return 0
        ended = yield self._session.call(
            "wamp.session.kill_by_authid",
            id_,
            reason="wamp.close.killed",
            message="the access key was revoked, or has expired",
        )
        return len(ended)


@lru_cache(maxsize=1000)
def _permit_of(key: AccessKey) -> Permit:
    return Permit(scopes_of(key))


def _answer(is_allowed: bool, disclose: bool = False) -> dict[str, bool]:
    return {"allow": is_allowed, "disclose": disclose, "cache": False}


def _text(asked: Mapping[str, Any], field: str) -> str:
    """What the router asks about."""
    value = asked.get(field)
    if isinstance(value, str):
        return value
    raise InvalidArgument(field, value, "not a text", "send it as the router does")


def _told(failure: Failure) -> None:
    if failure.check(TaskbusError):
        log.warning("access keys: %s", failure.value)
    else:
        log.error("access keys: unexpected error, going on", exc_info=failure.value)
