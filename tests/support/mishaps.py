"""Whatever can go wrong between two lines: a server that refuses, an answer that gets lost, a
process that dies, somebody else who is quicker.
"""

from collections.abc import Callable
from typing import Any


class Died(BaseException):
    """The process that made the call is dead: nothing of what it would have done next happens."""


class Mishaps:
    """Something to happen at a later call of whatever is wrapped."""

    def __init__(self) -> None:
        self._calls = 0
        self._kind = ""
        self._method = ""
        self._meanwhile: Callable[[], object] = _nothing

    def arm(
        self, calls: int, kind: str, method: str = "", meanwhile: Callable[[], object] | None = None
    ) -> None:
        """After so many calls, of that method if one is named: ``refused`` or ``died`` before the
        next one, ``unheard`` or ``died after`` it; or ``meanwhile``: somebody does something just
        before it.
        """
        self._calls, self._kind, self._method = calls, kind, method
        self._meanwhile = meanwhile or _nothing

    def disarm(self) -> None:
        """Nothing more goes wrong."""
        self._kind = ""

    def wrap(self, target: Any, unavailable: type[Exception], on_failure: str = "") -> Any:
        """The same object, but for mishaps; ``on_failure`` is its method that is called then."""
        return _Wrapped(self, target, unavailable, on_failure)

    def next(self, method: str) -> str:
        """What happens at this call."""
        if not self._kind or self._method not in ("", method):
            return ""
        if self._calls:
            self._calls -= 1
            return ""
        kind, self._kind = self._kind, ""
        if kind == "meanwhile":
            self._meanwhile()
        return kind


class _Wrapped:
    def __init__(
        self, mishaps: Mishaps, target: Any, unavailable: type[Exception], on_failure: str
    ) -> None:
        self._mishaps = mishaps
        self._target = target
        self._unavailable = unavailable
        self._on_failure = on_failure

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._target, name)
        if name in ("close", "fileno"):
            return method

        def call(*args: Any, **kwargs: Any) -> Any:
            kind = self._mishaps.next(name)
            if kind == "refused":
                self._fail()
            if kind == "died":
                raise Died
            result = method(*args, **kwargs)
            if kind == "unheard":
                self._fail()
            if kind == "died after":
                raise Died
            return result

        return call

    def _fail(self) -> None:
        if self._on_failure:
            getattr(self._target, self._on_failure)()
        raise self._unavailable("as the test wants it")


def _nothing() -> None:
    pass
