"""Names that jobs hold: an idempotency key for a time, a unique key until its job has ended.

Names are digests, so that no store's idea of length, case or blanks makes two texts one.
"""

import json
from collections import ChainMap
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any, NamedTuple

from taskbus.model.errors import IdempotencyMismatch
from taskbus.model.job import Job, Key, Submission
from taskbus.model.json import load

Call = Sequence[Submission]


def idempotency_key(job: Job, scope: str, text: str, window: float) -> Key:
    """The key under which the same request of the same caller finds this job."""
    name = f"idempotency-{_digest(scope, text)}"
    return Key(name, job.id, job.created + window, _digest(*_request(job)), text)


def unique_key(job: Job, unique: str | bool) -> Key:
    """The key that keeps a second such job away. ``unique`` is as its option, but not false."""
    what = _request(job) if unique is True else (job.uri, unique)
    label = job.uri if unique is True else str(unique)
    return Key(f"unique-{_digest(*what)}", job.id, None, label=label)


class Sifted(NamedTuple):
    """Calls, sorted by what is there already: jobs to be stored, keys that jobs stored earlier get
    as well, and for each call the ids of its jobs or what is wrong with it.
    """

    fresh: list[Submission]
    further: list[Key]
    answers: list[list[str] | IdempotencyMismatch]


def sift(calls: Sequence[Call], held: Mapping[str, Key]) -> Sifted:
    """What to do with calls where these keys are held. A call is taken as a whole or not at all."""
    known: ChainMap[str, Key] = ChainMap({}, dict(held))
    fresh: dict[str, Submission] = {}
    further: list[Key] = []
    answers: list[list[str] | IdempotencyMismatch] = []
    for call in calls:
        taken = known.new_child()
        try:
            ids = [_place(one, taken) for one in call]
        except IdempotencyMismatch as mismatch:
            answers.append(mismatch)
            continue
        answers.append(ids)
        known.maps[0].update(taken.maps[0])
        fresh |= {one.job.id: one for one in _new(call, ids)}
        for key in taken.maps[0].values():
            if key.job not in fresh:
                further.append(key)
            elif key not in fresh[key.job].keys:
                holder = fresh[key.job]
                fresh[key.job] = holder._replace(keys=(*holder.keys, key))
    return Sifted(list(fresh.values()), further, answers)


def _new(call: Call, ids: Sequence[str]) -> list[Submission]:
    """Those that no other job answers for, without all that would follow the others."""
    there = {one.job.id for one, id_ in zip(call, ids, strict=True) if one.job.id != id_}
    for one in call:
        if any(link.before in there for link in one.links):
            there.add(one.job.id)
    return [one for one in call if one.job.id not in there]


def _place(one: Submission, known: ChainMap[str, Key]) -> str:
    """The job that answers this submission; its new keys become known."""
    holder = next((_holder(known[key.name], key) for key in one.keys if key.name in known), None)
    for key in one.keys:
        # Asked again under this key, it is the same answer; unique it was in its own time.
        if holder is None or (key.until is not None and key.name not in known):
            known[key.name] = key._replace(job=holder or one.job.id)
    return holder or one.job.id


def _holder(held: Key, wanted: Key) -> str:
    if held.request != wanted.request:
        raise IdempotencyMismatch(wanted.label, held.job)
    return held.job


def _request(job: Job) -> tuple[Any, ...]:
    return job.uri, load(job.args), load(job.kwargs)


def _digest(*values: Any) -> str:
    """The same for objects that list the same members in another order."""
    return sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
