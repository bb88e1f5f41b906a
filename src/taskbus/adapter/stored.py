"""What all stores have in common."""

from taskbus.model.job import Job

# Servers take statements, documents and rows of limited size: longer texts are kept in parts.
PART = 2**20

_FIXED = frozenset(
    {
        "id",
        "uri",
        "priority",
        "timeout",
        "retries",
        "args",
        "kwargs",
        "details",
        "created",
        "queue",
        "policy",
        "tags",
        "cancel",
    }
)
# What a change may change, where it is no replay.
CHANGING = [name for name in Job._fields if name not in _FIXED]
