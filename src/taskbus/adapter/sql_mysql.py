"""MySQL and MariaDB, through PyMySQL."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pymysql
import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.schema import CreateTable

from taskbus.adapter.sql_kind import Kind
from taskbus.model.errors import StoreUnavailable

_PATIENCE = 60  # seconds
_LOCK_SECONDS = 10
# A statement has to fit into one packet: 2 M characters of four bytes, some of them escaped.
_MOST_TEXT = 2**21
_LEAST_PACKET = 2**24

# Lock wait timeout, deadlock; a duplicate key may have been somebody's who was about to commit it.
_TRIES = {1205: 3, 1213: 10, 1062: 2}
# Shutdown, gone away, lost during query, and several ways to say "killed".
_LOST = {0, 1053, 1927, 2006, 2013, 2055, 4031}

_metadata = sa.MetaData()
_head = sa.Table("journal_head", _metadata, sa.Column("position", sa.BigInteger, nullable=False))


@compiles(CreateTable, "mysql", "mariadb")
def _(create: CreateTable, compiler: Any, **options: Any) -> str:
    """Texts are equal where their characters are, trailing spaces included."""
    collation = "utf8mb4_nopad_bin" if compiler.dialect.is_mariadb else "utf8mb4_0900_bin"
    plain = compiler.visit_create_table(create, **options).rstrip()
    return f"{plain} ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE={collation}"


class MySql(Kind):
    """See Kind.

    Positions of the journal are counted in one row. Who has counted keeps that row locked until
    its commit, so that the next one's positions are both higher and visible later; a position that
    AUTO_INCREMENT gives may become visible before a lower one. The row is taken last in each
    transaction: those that wait for it hold what they change, and it holds up nothing else.
    """

    options = {  # noqa: RUF012
        "pool_pre_ping": True,
        "paramstyle": "format",
        "connect_args": {
            "charset": "utf8mb4",
            "connect_timeout": 10,
            "read_timeout": _PATIENCE,
            "write_timeout": _PATIENCE,
        },
    }
    most_text = _MOST_TEXT
    numbers = True
    newest = sa.select(_head.c.position)

    def prepare(self, engine: sa.Engine) -> None:
        """See Kind."""

        @sa.event.listens_for(engine, "connect")
        def _(connection: Any, _record: Any) -> None:
            with connection.cursor() as cursor:
                # Every write is fenced by its own condition: gaps need not be locked.
                cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
                cursor.execute(
                    "SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', "
                    "innodb_lock_wait_timeout = %s",
                    (_LOCK_SECONDS,),
                )

    @contextmanager
    def alone(self, engine: sa.Engine) -> Iterator[sa.Connection]:
        """See Kind."""
        with engine.connect() as db:
            name, packet = db.execute(
                sa.text("SELECT MD5(DATABASE()), @@max_allowed_packet")
            ).one()  # fmt: skip
            if name is None:
                raise StoreUnavailable(
                    "the store's URL names no database",
                    field="store.url",
                    remedy="write mysql+pymysql://user:password@host/database",
                )
            if packet < _LEAST_PACKET:
                raise StoreUnavailable(
                    f"the database server takes packets of {packet} bytes only",
                    field="store.url",
                    remedy=f"set max_allowed_packet to {_LEAST_PACKET} or more there",
                )
            lock = {"name": f"taskbus.{name}", "seconds": _PATIENCE}
            if not db.execute(sa.text("SELECT GET_LOCK(:name, :seconds - 5)"), lock).scalar():
                raise StoreUnavailable("another program has been changing the store's tables")
            try:
                _metadata.create_all(db)
                if db.execute(self.newest).scalar() is None:
                    db.execute(sa.insert(_head).values(position=0))
                yield db
            finally:
                db.execute(sa.text("SELECT RELEASE_LOCK(:name)"), lock)

    def take_positions(self, cursor: Any, count: int) -> int:
        """See Kind."""
        cursor.execute("UPDATE journal_head SET position = LAST_INSERT_ID(position + %s)", (count,))
        return int(cursor.lastrowid) - count + 1

    def is_lost(self, error: BaseException) -> bool:
        """See Kind."""
        return isinstance(error, pymysql.Error) and error.args[0] in _LOST

    def tries(self, error: BaseException | None) -> int:
        """See Kind."""
        return _TRIES.get(error.args[0], 1) if isinstance(error, pymysql.Error) else 1
