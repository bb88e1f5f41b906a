"""Part of the router: with it every call is answered, no message ends the router, and nobody speaks
in the name of others.

A sender may speak JSON and the receiver MessagePack, which cannot carry all that JSON can: integers
of more than 64 bits, half a character, deep nesting. Crossbar keeps silent about a call that it
cannot pass on, and the caller would wait for ever.

It keeps silent, too, about a call that its caller cancels without its callee being told, and about
one whose time is over where its caller has not announced that it can cancel. A callee that ends has
the errors of its calls sent one after the other, and none after the first that cannot be sent.

A message may say for whom it is forwarded, as between routers, and Crossbar believes that of every
client: a callee would be told of any caller, in any role. No other router is linked to this one.

Crossbar loads this module as a component, before it opens its doors. It belongs to the version of
Crossbar that requirements/router.txt names: what it replaces is not a public part.
"""

import sys

import taskbus_bridge  # noqa: F401 - by being loaded
from autobahn.exception import Disconnected, PayloadExceededError
from autobahn.twisted.wamp import ApplicationSession
from autobahn.wamp.exception import ApplicationError, ProtocolError, TransportLost
from autobahn.wamp.message import Call, Cancel, Error, Event, Invocation, Result
from crossbar.router import dealer as dealing
from crossbar.router.dealer import Dealer
from crossbar.router.router import Router
from txaio import make_logger

_log = make_logger()
_send, _process, _detach = Router.send, Router.process, Router._detach
_call, _cancel, _can_cancel = Dealer._call, Dealer.processCancel, dealing._can_cancel

# One of Crossbar's libraries raises it to 100,000: JSON nested that deep fits into a request, and
# would use up the stack and end the process.
_RECURSIONS = 10_000


class Guard(ApplicationSession):
    """What Crossbar starts; its session does nothing."""


def _process_as_the_senders_own(router, session, message):
    """As ``Router.process``, for whomever the message says that it is forwarded."""
    if getattr(message, "forward_for", None) is not None:
        message.forward_for = None
    if isinstance(message, Call) and _open_call(router._dealer, session, message):
        # Crossbar would lose track of the first one, and of others' calls when their callee ends.
        raise ProtocolError(f"call {message.request} was sent again before it was answered")
    _process(router, session, message)


def _open_call(dealer, session, message):
    """What has become of the call with the message's number, if it is not answered yet."""
    return dealer._invocations_by_call.get((session._session_id, message.request))


def _call_of_who_is_there(dealer, session, message, *more):
    """As ``Dealer._call``; to learn what a key may call takes a while. Who asked may have left, and
    Crossbar would mix up the calls of all who have; or may have sent it twice.
    """
    if session._session_id is None or _open_call(dealer, session, message):
        return False
    return _call(dealer, session, message, *more)


def _cancel_and_answer(dealer, session, message):
    """As ``Dealer.processCancel``; whose callee is not told has nothing to wait for."""
    invoked = _open_call(dealer, session, message)
    if invoked is None or invoked.canceled:
        return
    _cancel(dealer, session, message)
    is_told = message.mode != Cancel.SKIP and _can_cancel(invoked.callee)
    if invoked.timeout_call and not (is_told and message.mode == Cancel.KILL):
        # Its caller has an answer, and gets no second one when its time is over.
        invoked.timeout_call.cancel()
        invoked.timeout_call = None
    if not is_told:
        canceled = Error(Call.MESSAGE_TYPE, message.request, ApplicationError.CANCELED)
        dealer._router.send(session, canceled)


def _can_hear_of_it(session, side="callee"):
    """As ``_can_cancel``; every caller takes the error of a call whose time is over."""
    return side == "caller" or _can_cancel(session, side)


def _detach_and_answer(router, session):
    """As ``Router._detach``, which forgets whoever comes after a caller that cannot be told, and
    those who have cancelled a call and left before its callee has answered.
    """
    dealer = router._dealer
    for invoked in tuple(dealer._callee_to_invocations.get(session, ())):
        dealer._remove_invoke_request(invoked)
        if not invoked.canceled or invoked.error_msg:
            words = ["callee disconnected from in-flight request"]
            ended = Error(Call.MESSAGE_TYPE, invoked.call.request, ApplicationError.CANCELED, words)
            router.send(invoked.caller, ended)
    for invoked in tuple(dealer._caller_to_invocations.get(session, ())):
        if invoked.canceled:
            dealer._remove_invoke_request(invoked)
    _detach(router, session)


def _send_or_answer(router, session, message):
    """As ``Router.send``, but what cannot be sent is answered to the caller, or left out."""
    try:
        _send(router, session, message)
    except (Disconnected, TransportLost):
        # It is about to leave, and who waits for it is told then.
        _log.debug("a message is left out: its receiver has gone")
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
Router._detach = _detach_and_answer
Dealer._call = _call_of_who_is_there
Dealer.processCancel = _cancel_and_answer
dealing._can_cancel = _can_hear_of_it
