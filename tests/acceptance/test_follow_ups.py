"""Jobs that follow others on a running bus."""

import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from autobahn.wamp.exception import ApplicationError

from taskbus.adapter.sql import SqlStore
from taskbus.core.cancel import cancelled
from taskbus.port.store import existing
from tests.support.gate import GATED, Gate, a_gate
from tests.support.processes import REPOSITORY
from tests.support.router import Session
from tests.support.site import Site, eventually, running_site

pytestmark = pytest.mark.acceptance

DANTE = "com.example.dante"
ECHO, MARK = "com.example.test.echo", "com.example.test.mark"
ALONE = "com.example.test.alone"
ADD, FAIL, SLEEP = "com.example.test.add", f"{DANTE}.fail", f"{DANTE}.sleeper"
MANY = 400


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="tb", dir="/tmp") as name:
        yield Path(name)


@pytest.fixture(scope="module")
def gate(folder: Path) -> Iterator[Gate]:
    with a_gate(folder) as made:
        yield made


@pytest.fixture(scope="module")
def site(folder: Path, gate: Gate) -> Iterator[Site]:
    script = f"cat >>{folder}/marks; echo '{{}}'"
    entries = f"""
[api."{ECHO}"]
python = "tests.support.tasks:Echo"
[api."{ADD}"]
python = "tests.support.tasks:add"
[api."{ALONE}"]
python = "tests.support.tasks:Echo"
concurrency = 1
[api."{MARK}"]
exec = ["sh", "-c", "{script}"]
"""
    pool = "[pool.slow]\ncount = 1\n"
    with running_site(folder, pool, entries=gate.entry + entries) as running:
        yield running


@pytest.fixture
def session(site: Site) -> Iterator[Session]:
    with site.joined() as joined:
        yield joined


def state(session: Session, job: str) -> str:
    return str(session.call("taskbus.job.get", job)["state"])


def states(session: Session, jobs: list[str]) -> list[str]:
    return [state(session, job) for job in jobs]


def kinds(session: Session, job: str) -> list[str]:
    return [event["kind"] for event in session.call("taskbus.job.events", job)]


def reason(session: Session, job: str) -> str:
    return str(session.call("taskbus.job.events", job)[-1]["data"]["reason"])


def followers(session: Session, job: str) -> list[str]:
    """In the order of their ids, which is that of the request."""
    told = session.call("taskbus.job.get", job)["followed_by"]
    return sorted(one["job"] for one in told)


def told_before(session: Session, job: str) -> list[dict[str, Any]]:
    """What an echoing follow-up found in its details."""
    result = session.call("taskbus.job.wait", job)
    found: list[dict[str, Any]] = result.kwresults["details"]["after"]
    return found


@pytest.mark.parametrize("principal", ["operator", "browser"])
def test_a_job_that_follows_another_is_told_of_its_result(site: Site, principal: str) -> None:
    with site.joined(principal) as caller:
        job = caller.call("taskbus.job.submit", ADD, [1, 2], on_success={"uri": ECHO, "args": [7]})
        [after] = followers(caller, job)
        result = caller.call("taskbus.job.wait", after)
        assert result.results == (ECHO, 7)
        assert result.kwresults["details"]["after"] == [
            {
                "job": job, "uri": ADD, "state": "succeeded",
                "result": {"args": [3], "kwargs": {}},
            }
        ]  # fmt: skip
        assert kinds(caller, after) == ["waiting", "queued", "running", "succeeded"]
        assert caller.call("taskbus.job.get", after)["details"]["after"] == [job]


def test_a_chain_runs_in_order(session: Session) -> None:
    requests = [{"uri": ADD, "args": [nth, 1]} for nth in range(5)] + [{"uri": ECHO}]
    ids = session.call("taskbus.job.chain", requests)
    [last] = told_before(session, ids[-1])
    assert (last["job"], last["result"]["args"]) == (ids[-2], [5])
    jobs = [session.call("taskbus.job.get", job) for job in ids]
    for before, after in pairwise(jobs):
        assert before["finished"] <= after["started"]


def test_a_chain_whose_middle_fails(session: Session) -> None:
    tells = {"uri": ECHO}
    first, middle, third, last = session.call(
        "taskbus.job.chain",
        [
            {"uri": ADD, "args": [1]},
            {"uri": FAIL, "on_failure": tells, "on_success": tells},
            {"uri": ADD, "args": [1], "on_failure": tells},
            {"uri": ADD, "args": [1], "on_end": tells},
        ],
    )
    with pytest.raises(ApplicationError, match=middle) as caught:
        session.call("taskbus.job.wait", third)
    assert caught.value.error == "taskbus.error.cancelled"
    with pytest.raises(ApplicationError):
        session.call("taskbus.job.wait", last)
    assert states(session, [first, middle, third, last]) == [
        "succeeded", "failed", "cancelled", "cancelled",
    ]  # fmt: skip
    why = f"it waited for the success of job {middle}, which is failed"
    assert reason(session, third) == why

    on_success, on_failure = followers(session, middle)[:2]
    [told] = told_before(session, on_failure)
    assert told["job"] == middle
    assert told["error"]["error"] == f"{DANTE}.error.asked"
    assert state(session, on_success) == "cancelled"
    # Nobody has failed there: it has not run at all.
    [not_failed] = [one for one in followers(session, third) if one != last]
    eventually(lambda: state(session, not_failed) == "cancelled")
    [ended] = followers(session, last)
    assert told_before(session, ended)[0]["state"] == "cancelled"


def test_a_group_whose_members_end_in_every_way(
    site: Site, session: Session, gate: Gate, folder: Path
) -> None:
    """One of them in the hands of a worker that is killed."""
    members = [
        {"uri": ADD, "args": [1]},
        {"uri": FAIL},
        {"uri": SLEEP, "args": [0], "delay": 3600},
        {"uri": GATED},
    ]
    told = session.call("taskbus.job.group", members, {"uri": ECHO})
    (good, bad, stopped, gated), then = told["jobs"], told["then"]
    assert session.call("taskbus.job.cancel", stopped) == "cancelled"
    eventually(lambda: state(session, gated) == "running" and gate.is_reached())
    eventually(lambda: states(session, [good, bad]) == ["succeeded", "failed"])
    worker = session.call("taskbus.job.get", gated)["worker"]
    os.kill(int(worker.split("/")[-2]), signal.SIGKILL)
    eventually(lambda: session.call("taskbus.job.get", gated)["attempt"] == 2)
    assert state(session, then) == "waiting"
    gate.let_one_pass()
    assert [(one["job"], one["state"]) for one in told_before(session, then)] == [
        (good, "succeeded"),
        (bad, "failed"),
        (stopped, "cancelled"),
        (gated, "succeeded"),
    ]
    assert kinds(session, then) == ["waiting", "queued", "running", "succeeded"]


def test_many_that_end_at_the_same_time_are_followed_once(session: Session, folder: Path) -> None:
    requests = [{"uri": ADD, "args": [nth]} for nth in range(MANY)]
    then = {"uri": MARK}
    told = [session.call("taskbus.job.group", requests, then) for _ in range(3)]
    for one in told:
        session.call("taskbus.job.wait", one["then"])
        assert kinds(session, one["then"]) == ["waiting", "queued", "running", "succeeded"]
    written = (folder / "marks").read_text()
    marks = json.loads("[" + written.replace("}{", "},{") + "]")
    assert len(marks) == 3
    for mark in marks:
        results = [one["result"]["args"][0] for one in mark["details"]["after"]]
        assert results == [nth + 10 for nth in range(MANY)]


def test_a_group_for_success_only(session: Session) -> None:
    members = [{"uri": ADD, "args": [1]}, {"uri": FAIL}, {"uri": GATED, "delay": 3600}]
    told = session.call("taskbus.job.group", members, then={"uri": ECHO}, on="success")
    with pytest.raises(ApplicationError, match=told["jobs"][1]):
        session.call("taskbus.job.wait", told["then"])
    assert state(session, told["jobs"][2]) == "scheduled"
    session.call("taskbus.job.cancel", told["jobs"][2])
    assert kinds(session, told["then"]) == ["waiting", "cancelled"]


def test_one_that_follows_may_be_for_other_workers(session: Session) -> None:
    request = {"uri": ECHO, "queue": "slow", "on_success": {"uri": ECHO}}
    job = session.call("taskbus.job.submit", ADD, [1], on_success=request)
    [after] = followers(session, job)
    [last] = followers(session, after)
    assert told_before(session, after)[0]["job"] == job
    assert told_before(session, last)[0]["job"] == after
    with pytest.raises(ApplicationError) as caught:
        session.call("taskbus.job.submit", ADD, [1], on_end={"uri": ECHO, "queue": "none"})
    assert caught.value.kwargs["field"] == "on_end.queue"


def test_one_that_follows_may_wait_for_a_limit_too(session: Session) -> None:
    """Both waits are told apart: the end of one is not the end of the other."""
    one_by_one = {"uri": ALONE, "on_end": {"uri": ALONE, "args": ["last"]}}
    jobs = session.call("taskbus.job.submit_many", [{"uri": ALONE, "on_success": one_by_one}] * 8)
    for job in jobs:
        [after] = followers(session, job)
        [last] = followers(session, after)
        assert session.call("taskbus.job.wait", last).results == (ALONE, "last")
        assert told_before(session, last)[0]["job"] == after
        assert states(session, [job, after, last]) == ["succeeded"] * 3
        assert all(kinds(session, one).count("running") == 1 for one in (job, after, last))


def test_follow_ups_of_follow_ups_of_one_that_is_cancelled(site: Site, session: Session) -> None:
    job = session.call(
        "taskbus.job.submit", SLEEP, [0], delay=3600,
        on_success={"uri": ADD, "args": [1], "on_end": {"uri": ECHO, "args": ["in the end"]}},
    )  # fmt: skip
    assert site.taskbus("cancel", job).stdout == "cancelled\n"
    [after] = followers(session, job)
    [last] = followers(session, after)
    assert told_before(session, last)[0]["job"] == after
    assert states(session, [after, last]) == ["cancelled", "succeeded"]


def test_an_end_that_nobody_has_followed_is_followed_by_the_chore(
    site: Site, session: Session
) -> None:
    """As if the process that has ended the job had died at once."""
    job = session.call("taskbus.job.submit", SLEEP, [0], delay=3600, on_end={"uri": ECHO})
    [after] = followers(session, job)
    store = SqlStore(f"sqlite:///{site.var}/data/taskbus.db")
    change = cancelled(existing(store, job), "the test", time.time())
    assert store.advance([change]) == [True]
    store.close()
    assert told_before(session, after)[0]["state"] == "cancelled"


def test_what_a_job_still_looks_back_on_is_not_discarded(session: Session) -> None:
    members = [{"uri": FAIL}, {"uri": SLEEP, "args": [0], "delay": 3600}]
    told = session.call("taskbus.job.group", members, {"uri": ECHO})
    bad, late = told["jobs"]
    eventually(lambda: state(session, bad) == "failed")
    assert bad not in session.call("taskbus.job.discard_many", uri=FAIL)
    session.call("taskbus.job.cancel", late)
    assert told_before(session, told["then"])[0]["job"] == bad
    assert bad in session.call("taskbus.job.discard_many", uri=FAIL)


def test_a_request_sent_again_under_its_key_has_no_second_follow_ups(session: Session) -> None:
    request = {"idempotency_key": "once", "on_success": {"uri": ECHO}}
    job = session.call("taskbus.job.submit", ADD, [1], **request)
    [after] = followers(session, job)
    assert session.call("taskbus.job.submit", ADD, [1], **request) == job
    many = session.call("taskbus.job.submit_many", [{"uri": ADD, "args": [1], **request}] * 2)
    assert many == [job, job]
    assert followers(session, job) == [after]
    assert told_before(session, after)[0]["job"] == job


def test_a_cancelled_one_is_replayed_by_hand(session: Session) -> None:
    job = session.call("taskbus.job.submit", ADD, ["x"], on_success={"uri": ECHO})
    [after] = followers(session, job)
    eventually(lambda: state(session, after) == "cancelled")
    session.call("taskbus.job.replay", job, args=[1])
    assert session.call("taskbus.job.wait", job) == 11
    assert state(session, after) == "cancelled"
    session.call("taskbus.job.replay", after)
    [told] = told_before(session, after)
    assert told["result"] == {"args": [11], "kwargs": {}}


# --- on the command line -------------------------------------------------------------------------


def given(site: Site, text: str, *words: str) -> "subprocess.CompletedProcess[str]":
    """A command with this on its stdin."""
    program = REPOSITORY / ".venv/bin/taskbus"
    return subprocess.run(
        [program, "--settings", site.settings, *words],
        input=text, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


def test_submit_with_follow_ups(site: Site, session: Session) -> None:
    request = json.dumps({"uri": ECHO, "args": ["é"]})
    done = site.taskbus("submit", ADD, 1, "--on-success", ECHO, "--on-end", request)
    one, other = followers(session, done.stdout.strip())
    assert session.call("taskbus.job.wait", one).results == (ECHO,)
    assert session.call("taskbus.job.wait", other).results == (ECHO, "é")
    assert "waiting" in site.taskbus("status").stdout


def test_a_chain_from_stdin(site: Site, session: Session) -> None:
    done = given(site, json.dumps([{"uri": ADD, "args": [1]}, {"uri": ECHO}]), "chain")
    first, last = done.stdout.split()
    assert told_before(session, last)[0]["job"] == first
    assert json.loads(given(site, json.dumps([{"uri": ECHO}]), "chain", "--json").stdout)


def test_a_group_from_a_file(site: Site, session: Session, tmp_path: Path) -> None:
    file = tmp_path / "group.json"
    flow = {"jobs": [{"uri": ADD, "args": [1]}, {"uri": ADD, "args": [2]}], "then": {"uri": ECHO}}
    file.write_text(json.dumps(flow))
    one, other, then = site.taskbus("group", file).stdout.split()
    assert [told["job"] for told in told_before(session, then)] == [one, other]
    told = json.loads(site.taskbus("group", "--json", file).stdout)
    assert told.keys() == {"jobs", "then"}


@pytest.mark.parametrize(
    ("words", "text", "field"),
    [
        (["chain"], "no JSON", "file"),
        (["chain", "/nowhere/at/all"], "", "file"),
        (["chain"], "[]", "jobs"),
        (["chain"], f'[{{"uri": "{ADD}"}}, 5]', "jobs[1]"),
        (["group"], f'[{{"uri": "{ADD}"}}]', "file"),
        (["group"], f'{{"jobs": [{{"uri": "{ADD}"}}]}}', "then"),
        (["group"], '{"jobs": [], "then": {}, "when": 5}', "file"),
        (["submit", ADD, "--on-end", "{}"], "", "on_end[0].uri"),
        (["submit", ADD, "--on-end", "no uri"], "", "on_end[0].uri"),
    ],
)
def test_a_wrong_flow_is_refused(site: Site, words: list[str], text: str, field: str) -> None:
    done = given(site, text, words[0], "--json", *words[1:])
    assert done.returncode == 2
    assert json.loads(done.stderr)["field"] == field
