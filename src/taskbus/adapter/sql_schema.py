"""The tables. ``schema.version`` says which version of them a database holds."""

import sqlalchemy as sa

metadata = sa.MetaData()

_ID = sa.String(26)
_POSITION = sa.BigInteger().with_variant(sa.Integer, "sqlite")

schema = sa.Table("taskbus_schema", metadata, sa.Column("version", sa.Integer, nullable=False))

job = sa.Table(
    "job",
    metadata,
    sa.Column("id", _ID, primary_key=True),
    sa.Column("uri", sa.String(255), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("priority", sa.Integer, nullable=False),
    sa.Column("timeout", sa.Double, nullable=False),
    sa.Column("retries", sa.Integer, nullable=False),
    sa.Column("args", sa.Text(2**24), nullable=False),
    sa.Column("kwargs", sa.Text(2**24), nullable=False),
    sa.Column("details", sa.Text(2**24), nullable=False),
    sa.Column("created", sa.Double, nullable=False),
    sa.Column("due", sa.Double, nullable=False),
    sa.Column("started", sa.Double),
    sa.Column("finished", sa.Double),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("failures", sa.Integer, nullable=False),
    sa.Column("losses", sa.Integer, nullable=False),
    sa.Column("worker", sa.String(255)),
    sa.Column("lease", sa.Double),
    sa.Column("error", sa.Text(2**24)),
    sa.Column("cancel", sa.String(255)),
    sa.Column("seq", sa.Integer, nullable=False),
    # Only what waits for its time is ever looked for by it.
    sa.Index("job_waiting", "due", sqlite_where=sa.text("state IN ('scheduled', 'retrying')")),
    sqlite_with_rowid=False,
)

event = sa.Table(
    "event",
    metadata,
    sa.Column("position", _POSITION, primary_key=True, autoincrement=True),
    sa.Column("job", _ID, nullable=False),
    sa.Column("seq", sa.Integer, nullable=False),
    sa.Column("at", sa.Double, nullable=False),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("data", sa.Text(2**24), nullable=False),
    sa.Index("event_of_job", "job", "seq", unique=True),
    sqlite_autoincrement=True,
)

result = sa.Table(
    "result",
    metadata,
    sa.Column("job", _ID, primary_key=True),
    sa.Column("body", sa.Text(2**26), nullable=False),
    sqlite_with_rowid=False,
)

# Jobs that the queue has not confirmed yet.
placement = sa.Table(
    "placement",
    metadata,
    sa.Column("job", _ID, primary_key=True),
    sa.Column("since", sa.Double, nullable=False),
    sqlite_with_rowid=False,
)

VERSION = 2
# How a database of each earlier version becomes one of the next.
MIGRATIONS = {
    1: (
        "ALTER TABLE job ADD COLUMN failures INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE job ADD COLUMN cancel VARCHAR(255)",
        "UPDATE job SET failures = attempt - losses WHERE state IN ('retrying', 'failed')",
    ),
}
