"""The tables. ``schema.version`` says which version of them a database holds."""

from typing import Any

import sqlalchemy as sa

metadata = sa.MetaData()

# As a text, since SQLite uses a partial index only where it sees the index' very condition. The
# plus keeps it from the index of the states, where it would look through all that wait.
WAITING = "+state IN ('scheduled', 'retrying')"
TIED = "tied = 1"

_on_servers: Any = lambda *_, dialect, **__: dialect.name != "sqlite"  # noqa: E731
_ID = sa.String(26)
_NAME = sa.String(255)
_LANE = sa.String(400)
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
    sa.Column("queue", _NAME, nullable=False),
    sa.Column("policy", sa.Text(2**16), nullable=False),
    sa.Column("tags", sa.Text(2**16), nullable=False),
    sa.Column("tied", sa.SmallInteger, nullable=False),
    sa.Column("lane", _LANE),
    sa.Column("expires", sa.Double),
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
    # Lists of one state, or of one URI, the newest first.
    sa.Index("job_state", "state", "id"),
    sa.Index("job_uri", "uri", "id"),
    # Only what waits for its time is ever looked for by it.
    sa.Index("job_waiting", "due", sqlite_where=sa.text(WAITING)).ddl_if("sqlite"),
    # A server has no partial indexes.
    sa.Index("job_state_due", "state", "due").ddl_if(callable_=_on_servers),
    # In the order in which those that wait go on.
    sa.Index(
        "job_lane",
        "lane",
        "state",
        sa.text("priority DESC"),
        "id",
        sqlite_where=sa.text("lane IS NOT NULL"),
    ),
    # Those that have ended come apart from all that are still tied.
    sa.Index("job_tied", "tied", "finished", sqlite_where=sa.text(TIED)),
    sa.Index("job_expires", "expires", sqlite_where=sa.text("expires IS NOT NULL")),
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

# What a body has beyond its first part.
result_part = sa.Table(
    "result_part",
    metadata,
    sa.Column("job", _ID, primary_key=True),
    sa.Column("part", sa.Integer, primary_key=True),
    sa.Column("body", sa.Text(2**26), nullable=False),
    sqlite_with_rowid=False,
)

# Jobs that the queue has not confirmed yet.
placement = sa.Table(
    "placement",
    metadata,
    sa.Column("job", _ID, primary_key=True),
    sa.Column("since", sa.Double, nullable=False),
    sa.Column("seq", sa.Integer, nullable=False),
    sqlite_with_rowid=False,
)

# Names that one job holds: idempotency keys until a time, unique keys until the job has ended.
key = sa.Table(
    "job_key",
    metadata,
    sa.Column("name", _NAME, primary_key=True),
    sa.Column("job", _ID, nullable=False),
    sa.Column("until", sa.Double),
    sa.Column("request", sa.String(64), nullable=False),
    sa.Column("label", _NAME, nullable=False),
    sa.Index("key_of_job", "job"),
    sa.Index("key_until", "until"),
    sqlite_with_rowid=False,
)

# Which job waits for the end of which. Links that are met stay: their jobs are looked back on.
link = sa.Table(
    "job_link",
    metadata,
    sa.Column("before", _ID, primary_key=True),
    sa.Column("after", _ID, primary_key=True),
    sa.Column("on", sa.String(8), nullable=False),
    sa.Column("met", sa.SmallInteger, nullable=False, server_default="0"),
    # Whether a job waits for any other is seen at once, however many it has waited for.
    sa.Index("link_after", "after", "met"),
    sqlite_with_rowid=False,
)

tag = sa.Table(
    "job_tag",
    metadata,
    sa.Column("tag", _NAME, primary_key=True),
    sa.Column("job", _ID, primary_key=True),
    sa.Index("tags_of_job", "job"),
    sqlite_with_rowid=False,
)

# The places of limits that are taken: the primary key keeps two jobs from one place.
place = sa.Table(
    "lane_place",
    metadata,
    sa.Column("lane", _LANE, primary_key=True),
    sa.Column("nth", sa.Integer, primary_key=True),
    sa.Column("job", _ID, nullable=False),
    sa.Column("until", sa.Double),
    sa.Index("places_of_job", "job"),
    sqlite_with_rowid=False,
)

# What is configured while the bus runs; see ``sql_records``.
record = sa.Table(
    "record",
    metadata,
    sa.Column("kind", sa.String(64), primary_key=True),
    sa.Column("name", sa.String(191), primary_key=True),
    sa.Column("body", sa.Text(2**24), nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
)

VERSION = 3
# How a database of each earlier version becomes one of the next.
MIGRATIONS = {
    1: (
        "ALTER TABLE job ADD COLUMN failures INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE job ADD COLUMN cancel VARCHAR(255)",
        "UPDATE job SET failures = attempt - losses WHERE state IN ('retrying', 'failed')",
    ),
    # create_all has made the new tables by then.
    2: (
        "ALTER TABLE placement ADD COLUMN seq INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE job ADD COLUMN queue VARCHAR(255) NOT NULL DEFAULT 'default'",
        "ALTER TABLE job ADD COLUMN policy TEXT NOT NULL DEFAULT '{}'",
        "ALTER TABLE job ADD COLUMN tags TEXT NOT NULL DEFAULT '[]'",
        "ALTER TABLE job ADD COLUMN tied SMALLINT NOT NULL DEFAULT 0",
        "ALTER TABLE job ADD COLUMN lane VARCHAR(400)",
        "ALTER TABLE job ADD COLUMN expires DOUBLE",
        # As the settings have it where they say nothing.
        "UPDATE job SET expires = finished + 604800 WHERE state = 'succeeded'",
        "UPDATE job SET expires = finished + 2592000"
        " WHERE state IN ('failed', 'dead', 'cancelled')",
        "DROP INDEX job_waiting",
        f"CREATE INDEX job_waiting ON job (due) WHERE {WAITING}",
        "CREATE INDEX job_state ON job (state, id)",
        "CREATE INDEX job_uri ON job (uri, id)",
        "CREATE INDEX job_lane ON job (lane, state, priority DESC, id) WHERE lane IS NOT NULL",
        "CREATE INDEX job_tied ON job (tied, finished) WHERE tied = 1",
        "CREATE INDEX job_expires ON job (expires) WHERE expires IS NOT NULL",
    ),
}
