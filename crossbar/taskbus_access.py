"""Part of the router: who may join with which ticket, and what access keys may do.

The principals of a transport are in its configuration. Everybody else comes with an access key,
whose id is their authid and whose whole is their ticket; that is for the bus to look at. Control,
which does that, is a principal, so that it can join first.

Crossbar calls ``socket`` and ``web`` at the first join on a transport that names them. What they
return is asked for each one; what it raises is told to who wants to join. ``Authorizer`` is a
component of the realm.
"""

import hmac
import re

from autobahn.twisted.wamp import ApplicationSession
from autobahn.wamp.exception import ApplicationError

_AUTHENTICATOR = "taskbus.access.authenticate"
_NOT_PROVED = "taskbus.error.unauthenticated"
# taskbus.model.access; whatever else is asked for need not trouble control.
_KEY_ID = re.compile("[0-9a-hjkmnp-tv-z]{12}")


class Authorizer(ApplicationSession):
    """What the sessions of access keys may do, which control decides.

    Procedures of the bus that look at the caller's scopes themselves are named when the key is let
    in: to ask for each of their calls would take as long as the call.
    """

    async def onJoin(self, _details):
        await self.register(self._authorize, "taskbus.access.authorize")

    def _authorize(self, session, uri, action, options):
        if action == "call" and uri in session["authextra"].get("procedures", ()):
            # Not for the router's own cache, which would serve one key's answer to another.
            return {"allow": True, "disclose": True, "cache": False}
        return self.call("taskbus.access.decide", session["authid"], uri, action, options)


def socket(config, controller):
    """The authenticator of the Unix socket. Crossbar keeps one for each name."""
    return _authenticator(config["principals"], controller)


def web(config, controller):
    """The authenticator of the WebSocket transport."""
    return _authenticator(config["principals"], controller)


def _authenticator(principals, controller):
    async def authenticate(realm, authid, details):
        ticket = details.get("ticket")
        principal = principals.get(authid)
        if principal is not None:
            if _is_same(ticket, principal["ticket"]):
                return {"authid": authid, "role": principal["role"]}
        elif isinstance(authid, str) and _KEY_ID.fullmatch(authid):
            return await _ask(controller, realm, authid, ticket)
        raise _refusal("the ticket is wrong, or there is no such principal")

    return authenticate


async def _ask(controller, realm, authid, ticket):
    session = await controller.get_service_session(realm, None)
    try:
        return await session.call(_AUTHENTICATOR, realm, authid, {"ticket": ticket})
    except ApplicationError as error:
        if error.error == _NOT_PROVED:
            raise _refusal(error.args[0]) from None
        raise ApplicationError(
            ApplicationError.AUTHENTICATION_FAILED, "access keys cannot be looked at: try it again"
        ) from None


def _is_same(ticket, expected):
    return isinstance(ticket, str) and hmac.compare_digest(ticket.encode(), expected.encode())


def _refusal(message):
    return ApplicationError(ApplicationError.NOT_AUTHORIZED, message)
