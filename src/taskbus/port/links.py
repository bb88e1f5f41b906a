"""Links: which job waits for the end of which. They come and go with their jobs, in the store."""

from collections.abc import Collection
from typing import NamedTuple, Protocol

from taskbus.model.job import Job, Link, State


class Ended(NamedTuple):
    """How a job stands. ``body`` is its result where it has succeeded, else its error, as JSON; it
    is None where there is none, of size 0, or where it has more characters than was asked for.
    """

    job: str
    uri: str
    state: State
    body: str | None
    size: int


class Links(Protocol):
    """Safe to use from several threads. Every method may raise StoreUnavailable."""

    def of(self, jobs: Collection[str]) -> list[Link]:
        """Those that wait for one of these jobs, or have waited for it."""

    def meet(self, jobs: Collection[str], conditions: Collection[str]) -> None:
        """The links from these jobs with one of these conditions are met; committed when it
        returns, so that whoever looks then sees them.
        """

    def waiting(self, jobs: Collection[str]) -> list[Job]:
        """Which of these jobs still wait for others to end."""

    def free(self, jobs: Collection[str]) -> list[Job]:
        """The jobs after these that wait, though all their links are met."""

    def tied(self, before: float, limit: int) -> list[Job]:
        """Jobs that ended before this time and are still tied, the earliest first."""

    def untie(self, jobs: Collection[str]) -> None:
        """These are not tied any more, where they have ended."""

    def outcomes(self, jobs: Collection[str], largest: int) -> list[Ended]:
        """How these jobs stand, with bodies of up to ``largest`` characters; nothing of those that
        are forgotten.
        """
