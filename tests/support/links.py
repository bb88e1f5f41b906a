"""Jobs that wait for others."""

from collections.abc import Sequence
from typing import Any

from taskbus.model.job import Job, Link, State
from taskbus.model.json import dump
from taskbus.port.links import Links
from taskbus.port.store import Store
from tests.support.sides import sides_of
from tests.support.values import a_job, submission


def links_of(store: Store) -> Links:
    """The links beside any store."""
    return sides_of(store).links


def waiting_for(store: Store, befores: Sequence[Job], on: str = "end", **fields: Any) -> Job:
    """A job, stored, that waits for these, which are stored and tied."""
    ids = [job.id for job in befores]
    given = {"state": State.WAITING, "args": "[]", "details": dump({"after": ids})}
    job = a_job(**(given | fields))
    store.add([submission(job, links=[Link(one, job.id, on) for one in ids])])
    return job
