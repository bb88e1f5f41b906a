"""Part of the router: with it every call is answered, no message ends the router, and nobody speaks
in the name of others.

A sender may speak JSON and the receiver MessagePack, which cannot carry all that JSON can: integers
of more than 64 bits, half a character, deep nesting. Crossbar keeps silent about a call that it
cannot pass on, and the caller would wait for ever.

A message may say for whom it is forwarded, as between routers, and Crossbar believes that of every
client: a callee would be told of any caller, in any role. No other router is linked to this one.

Crossbar loads this module as a component, before it opens its doors. It belongs to the version of
Crossbar that requirements/router.txt names: what it replaces is not a public part.
"""

import sys

import taskbus_bridge  # noqa: F401 - by being loaded
from autobahn.exception import PayloadExceededError
from autobahn.twisted.wamp import ApplicationSession
from autobahn.wamp.exception import TransportLost
from autobahn.wamp.message import Call, Error, Event, Invocation, Result
from crossbar.router.router import Router
from txaio import make_logger

_log = make_logger()
_send, _process = Router.send, Router.process

# One of Crossbar's libraries raises it to 100,000: JSON nested that deep fits into a request, and
# would use up the stack and end the process.
_RECURSIONS = 10_000


class Guard(ApplicationSession):
    """What Crossbar starts; its session does nothing."""


def _process_as_the_senders_own(router, session, message):
    """As ``Router.process``, for whomever the message says that it is forwarded."""
    if getattr(message, "forward_for", None) is not None:
        message.forward_for = None
    _process(router, session, message)


def _send_or_answer(router, session, message):
    """As ``Router.send``, but what cannot be sent is answered to the caller, or left out."""
    try:
        _send(router, session, message)
    except TransportLost:
        raise
    except Exception as error:
        # That a result or an event is too large is what Crossbar itself looks after.
        if isinstance(error, PayloadExceededError) and not isinstance(message, Invocation):
            raise
        _log.warn("a message cannot be passed on: {error}", error=error)
        if isinstance(message, Invocation):
            invoked = router._dealer._invocations[message.request]
            router._dealer._remove_invoke_request(invoked)
            _refuse(router, invoked.caller, invoked.call.request, "the arguments", error)
        elif isinstance(message, Result) and not message.progress:
            _refuse(router, session, message.request, "the result", error)
        elif isinstance(message, Error) and message.request_type == Call.MESSAGE_TYPE:
            _refuse(router, session, message.request, f"the error {message.error}", error)
        elif not isinstance(message, (Event, Result)):
            raise


def _refuse(router, caller, request, what, error):
    words = f"{what} cannot be passed on: {error}"
    remedy = "send integers of 64 bits, valid Unicode, and values nested up to 100 deep"
    uri = "taskbus.error.invalid_argument"
    refusal = Error(Call.MESSAGE_TYPE, request, uri, [words], {"field": what, "remedy": remedy})
    _send(router, caller, refusal)


sys.setrecursionlimit(_RECURSIONS)
Router.send = _send_or_answer
Router.process = _process_as_the_senders_own
