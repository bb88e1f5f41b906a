"""Who has signed a request, and that it is new: neither sent before, nor older than another one."""

import hmac
from collections.abc import Callable

from taskbus.model.errors import StaleSignature, Unauthenticated
from taskbus.model.signed_request import Signature, Signed, sign
from taskbus.port.clock import Clock

LONGEST_AGE = 300.0


class SignedRequests:
    """Checks them one after the other.

    A request is taken once. One that was signed in an earlier second than another of the same key
    that has been taken is refused: so it cannot be held back, and only the nonces of each key's
    newest second have to be remembered. What was signed before this was made is refused, too, since
    it may have been taken by who did this before.
    """

    def __init__(self, token_of: Callable[[str], str | None], clock: Clock) -> None:
        """``token_of``: the whole key of this id, where it may sign requests."""
        self._token_of = token_of
        self._clock = clock
        self._since = clock()
        # No larger than the number of keys that sign.
        self._newest: dict[str, tuple[int, set[str]]] = {}

    def check(self, told: Signature, request: Signed) -> str:
        """The whole key, which proves who sends it; raises Unauthenticated, or StaleSignature where
        the sender should sign it once more.
        """
        self._check_age(told.time)
        token = self._token_of(told.key)
        # As long for a key that there is not.
        expected = sign(token or "", told, request)
        if not hmac.compare_digest(expected, told.signature) or token is None:
            raise Unauthenticated(
                "the signature is wrong, or the key may not sign requests",
                field="Authorization",
                remedy="sign method, path, query and body as they are sent",
            )
        self._note(told)
        return token

    def _check_age(self, time: int) -> None:
        now = self._clock()
        if abs(now - time) > LONGEST_AGE:
            raise Unauthenticated(
                f"time: more than {LONGEST_AGE:g} seconds from now",
                field="time",
                value=time,
                remedy="set the clock, or sign the request when it is sent",
            )
        if time <= self._since:
            raise StaleSignature(
                "time: signed before the gateway was started",
                field="time",
                value=time,
                remedy="sign it once more, with the time of now",
            )

    def _note(self, told: Signature) -> None:
        newest, nonces = self._newest.get(told.key, (0, set()))
        if told.time < newest:
            raise StaleSignature(
                "time: signed before a request that has been taken",
                field="time",
                value=told.time,
                remedy="sign it once more; give each host a key of its own",
            )
        if told.time > newest:
            nonces = set()
        if told.nonce in nonces:
            raise Unauthenticated(
                "nonce: used before", field="nonce", value=told.nonce, remedy="use each nonce once"
            )
        nonces.add(told.nonce)
        self._newest[told.key] = told.time, nonces
