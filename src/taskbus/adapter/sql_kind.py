"""What differs between SQL databases."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa

from taskbus.adapter.sql_schema import event
from taskbus.model.errors import StoreUnavailable


class Lost(StoreUnavailable):
    """The connection broke; what had not been committed is undone."""


class Unsure(Lost):
    """The connection broke while a commit was under way: it is done, or it is not."""


class Kind:
    """One kind of database. The defaults suit one that needs nothing."""

    begin = "BEGIN"
    # What create_engine is told.
    options: dict[str, Any] = {}  # noqa: RUF012 - never written
    # How many characters of text one statement may carry.
    most_text: int | None = None
    # Whether ``take_positions`` numbers the journal; otherwise the database does when it inserts.
    numbers = False
    newest: sa.Select[Any] = sa.select(sa.func.max(event.c.position))

    def __init__(self, url: sa.URL) -> None:
        """``url``: where the database is."""
        self.url = url

    def prepare(self, engine: sa.Engine) -> None:
        """Look after each connection that the engine will make."""

    @contextmanager
    def alone(self, engine: sa.Engine) -> Iterator[sa.Connection]:
        """Make or change the tables, one process at a time."""
        with engine.connect() as db:
            yield db

    def take_positions(self, cursor: Any, count: int) -> int:
        """The first of so many positions for the journal, in the transaction that fills them.

        A position becomes visible after all those before it.
        """
        raise NotImplementedError

    def sync(self) -> None:
        """Bring what was committed to the disk, where the commit did not."""

    def is_lost(self, error: BaseException) -> bool:  # noqa: ARG002
        """Whether the connection is gone."""
        return False

    def tries(self, error: BaseException | None) -> int:  # noqa: ARG002
        """How often to try a transaction that fails so: another one may have been in the way."""
        return 1
