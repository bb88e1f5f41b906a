"""What a submission can ask for, over every door of a running bus."""

import json
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest
from autobahn.wamp.exception import ApplicationError

from taskbus.model.identity import new_job_id
from tests.support.bridge import post
from tests.support.gate import GATED, Gate, a_gate
from tests.support.processes import PATIENCE, REPOSITORY
from tests.support.router import Session
from tests.support.site import Site, eventually, running_site

pytestmark = pytest.mark.acceptance

ECHO, UNIQUE = "com.example.test.echo", "com.example.test.unique"
UNIQUE_GATED, FAIL = "com.example.dante.one_gated", "com.example.dante.fail"
ENTRIES = f"""
[api."{ECHO}"]
python = "tests.support.tasks:Echo"
[api."{UNIQUE}"]
python = "tests.support.tasks:Echo"
mode = "background"
unique = true
"""
SETTINGS = """
[store]
retention = 1000
dead_letter_retention = 2000
"""
MISMATCH = "taskbus.error.idempotency_mismatch"
LATER = datetime.now(UTC) + timedelta(days=30)


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
    unique = gate.entry.replace(GATED, UNIQUE_GATED) + "unique = true\n"
    with running_site(folder, SETTINGS, gate.entry + unique + ENTRIES) as up:
        yield up


@pytest.fixture(scope="module")
def operator(site: Site) -> Iterator[Session]:
    with site.joined() as session:
        yield session


Submit = Callable[..., str]


def over_wamp(site: Site, uri: str, args: list[Any], **options: Any) -> str:
    with site.joined() as session:
        return str(session.call("taskbus.job.submit", uri, args, **options))


def in_a_list(site: Site, uri: str, args: list[Any], **options: Any) -> str:
    with site.joined() as session:
        [job] = session.call("taskbus.job.submit_many", [{"uri": uri, "args": args, **options}])
    return str(job)


def as_a_browser(site: Site, uri: str, args: list[Any], **options: Any) -> str:
    with site.joined("browser") as session:
        return str(session.call("taskbus.job.submit", uri, args, **options))


def over_the_bridge(site: Site, uri: str, args: list[Any], **options: Any) -> str:
    request = {"procedure": "taskbus.job.submit", "args": [uri, args], "kwargs": options}
    _, answer = post(site, "/call", request, **site.bridge_secret())
    if "error" in answer:
        raise ApplicationError(answer["error"], *answer["args"], **answer["kwargs"])
    [job] = answer["args"]
    return str(job)


def with_php(site: Site, uri: str, args: list[Any], **options: Any) -> str:
    words = ["taskbus.job.submit", json.dumps([uri, args]), json.dumps(options)]
    done = subprocess.run(
        ["php", REPOSITORY / "cron/call.php", "-u", site.bridge, "-s",
         site.var / "secrets/bridge", *words],
        capture_output=True, text=True, check=False, timeout=PATIENCE,
    )  # fmt: skip
    if done.returncode:
        raise ApplicationError(done.stderr.split(": ")[2].split()[0], done.stderr)
    return str(json.loads(done.stdout)["args"][0])


def by_command(site: Site, uri: str, args: list[Any], **options: Any) -> str:
    words = [json.dumps(arg) for arg in args]
    for name, value in options.items():
        text = value if isinstance(value, str) else json.dumps(value)
        words += [f"--{name.replace('_', '-')}", text]
    done = site.taskbus("submit", "--json", uri, *words)
    if done.returncode:
        assert done.returncode == 2
        told = json.loads(done.stderr)
        raise ApplicationError(told.pop("error"), told.pop("message"), **told)
    return str(json.loads(done.stdout))


DOORS = [over_wamp, in_a_list, as_a_browser, over_the_bridge, with_php, by_command]


@pytest.fixture(params=DOORS, ids=lambda door: door.__name__)
def submit(request: pytest.FixtureRequest, site: Site) -> Submit:
    def submit(uri: str, args: list[Any], **options: Any) -> str:
        return str(request.param(site, uri, args, **options))

    return submit


@pytest.fixture(scope="module")
def announced(operator: Session) -> "SimpleQueue[Any]":
    """The topic of all jobs, from now on: control learns of a subscription a moment later."""
    heard = operator.subscribe("com.example.queue.notify")
    eventually(lambda: operator.call("taskbus.job.submit", ECHO) and not heard.empty())
    return heard


def jobs(operator: Session) -> int:
    return int(sum(operator.call("taskbus.bus.status")["jobs"].values()))


@pytest.fixture
def mark() -> str:
    """A text that no other test uses."""
    return new_job_id()


# Idempotency keys


def test_the_second_submission_under_a_key_returns_the_first_job(
    submit: Submit, operator: Session, announced: "SimpleQueue[Any]", mark: str
) -> None:
    key = {"idempotency_key": mark}
    before = jobs(operator)
    first = submit(ECHO, [1], **key, idempotency_window=3600)
    operator.call("taskbus.job.wait", first)
    assert submit(ECHO, [1], **key) == first
    with pytest.raises(ApplicationError) as caught:
        submit(ECHO, [2], **key)
    assert caught.value.error == MISMATCH
    assert jobs(operator) == before + 1
    # Jobs are announced in their order.
    heard, last = [""], submit(ECHO, [])
    while heard[-1] != last:
        [event], _ = announced.get(timeout=PATIENCE)
        heard.append(event["job"])
    assert heard[-2:] == [first, last]


def test_a_mismatch_names_field_value_and_remedy(operator: Session, mark: str) -> None:
    operator.call("taskbus.job.submit", ECHO, [1], idempotency_key=mark)
    with pytest.raises(ApplicationError) as caught:
        operator.call("taskbus.job.submit", ECHO, [1], {"a": 1}, idempotency_key=mark)
    about = caught.value.kwargs
    assert (about["field"], about["value"]) == ("idempotency_key", mark)
    assert "another key" in about["remedy"]


def test_at_the_same_moment(operator: Session, gate: Gate, mark: str) -> None:
    """In one call, in calls that share a commit, and in two processes: backend and control."""
    before = jobs(operator)
    request = {"uri": UNIQUE_GATED, "args": [mark], "idempotency_key": mark}
    many = [
        operator.begin("taskbus.job.submit_many", [request] * 20, on_progress=print)
        for _ in range(10)
    ]
    direct = [operator.begin(UNIQUE_GATED, mark, on_progress=print) for _ in range(10)]
    [job] = {job for answer in many for job in answer()} | {answer() for answer in direct}
    assert jobs(operator) == before + 1
    gate.let_one_pass()
    operator.call("taskbus.job.wait", job)


def test_a_mismatch_refuses_its_whole_call_and_no_other(operator: Session, mark: str) -> None:
    operator.call("taskbus.job.submit", ECHO, [1], idempotency_key=mark)
    before = jobs(operator)
    wrong = [{"uri": ECHO}, {"uri": ECHO, "args": [2], "idempotency_key": mark}]
    first, second, third = (
        operator.begin("taskbus.job.submit_many", requests, on_progress=print)
        for requests in ([{"uri": ECHO}], wrong, [{"uri": ECHO}])
    )
    assert len(first()) == len(third()) == 1
    with pytest.raises(ApplicationError) as caught:
        second()
    assert caught.value.error == MISMATCH
    assert jobs(operator) == before + 2


# Unique jobs


def test_a_unique_job_is_found_while_it_waits_and_runs(
    submit: Submit, operator: Session, gate: Gate, mark: str
) -> None:
    first = submit(GATED, [mark], unique=True)
    assert submit(GATED, [mark], unique=True) == first
    eventually(lambda: operator.call("taskbus.job.get", first)["state"] == "running")
    assert submit(GATED, [mark], unique=True) == first
    gate.let_one_pass()
    operator.call("taskbus.job.wait", first)
    assert submit(GATED, [mark], unique=True, delay=3600) != first


def test_unique_by_a_name(submit: Submit, mark: str) -> None:
    first = submit(ECHO, [1], unique=mark, delay=3600)
    assert submit(ECHO, [2], unique=mark) == first
    assert submit(ECHO, [1], unique=True) != first


def test_the_map_can_ask_for_it(site: Site, submit: Submit, mark: str) -> None:
    first = submit(UNIQUE, [mark], delay=3600)
    for principal in ("operator", "browser"):
        with site.joined(principal) as joined:
            assert joined.call(UNIQUE, mark) == first
            assert joined.call(UNIQUE, mark, "other") != first
    assert site.taskbus("call", UNIQUE, f'"{mark}"').stdout.strip() == first
    assert submit(UNIQUE, [mark], unique=False, delay=3600) != first


def test_an_ended_unique_job_is_replayed_unless_another_one_has_its_place(
    site: Site, operator: Session, mark: str
) -> None:
    request = {"uri": ECHO, "args": [mark], "unique": True, "delay": 3600, "tags": [mark]}
    ended = operator.call("taskbus.job.submit", **request)
    operator.call("taskbus.job.cancel", ended)
    other = operator.call("taskbus.job.submit", **request)
    assert other != ended
    with pytest.raises(ApplicationError) as caught:
        operator.call("taskbus.job.replay", ended)
    assert caught.value.error == "taskbus.error.not_unique"
    assert other in caught.value.args[0]
    assert caught.value.kwargs["field"] == "job"
    done = site.taskbus("replay", ended)
    assert done.returncode == 2
    assert other in done.stderr
    assert operator.call("taskbus.job.replay_many", state="cancelled", tag=mark) == []
    operator.call("taskbus.job.cancel", other)
    assert operator.call("taskbus.job.replay", ended) == ended
    assert operator.call("taskbus.job.wait", ended).results == (ECHO, mark)


# Retention


def test_an_ended_job_is_kept_as_long_as_the_settings_say(operator: Session) -> None:
    done = operator.call("taskbus.job.submit", ECHO)
    operator.call("taskbus.job.wait", done)
    failed = operator.call("taskbus.job.submit", FAIL)
    with pytest.raises(ApplicationError):
        operator.call("taskbus.job.wait", failed)
    stopped = operator.call("taskbus.job.submit", ECHO, delay=3600)
    assert operator.call("taskbus.job.get", stopped)["expires"] is None
    operator.call("taskbus.job.cancel", stopped)
    for job, seconds in ((done, 1000), (failed, 2000), (stopped, 2000)):
        told = operator.call("taskbus.job.get", job)
        assert told["expires"] == told["finished"] + seconds


def test_a_job_is_kept_as_long_as_it_says(operator: Session, submit: Submit, mark: str) -> None:
    job = submit(ECHO, [mark], retention=500)
    assert operator.call("taskbus.job.wait", job).results == (ECHO, mark)
    told = operator.call("taskbus.job.get", job)
    assert told["expires"] == told["finished"] + 500


def test_a_job_that_is_not_kept_is_forgotten(operator: Session, mark: str) -> None:
    job = operator.call("taskbus.job.submit", ECHO, [mark], retention=0, tags=[mark])
    assert operator.call("taskbus.job.wait", job).results == (ECHO, mark)

    def is_gone() -> bool:
        try:
            operator.call("taskbus.job.get", job)
        except ApplicationError as error:
            return bool(error.error == "taskbus.error.job_not_found")
        return False

    eventually(is_gone)
    assert operator.call("taskbus.job.list", tag=mark) == []


# Tags, context, run_at


def test_tags_find_jobs(site: Site, operator: Session, submit: Submit, mark: str) -> None:
    mark = f"ordér {mark}"
    first = submit(ECHO, [1], tags=[mark, "b"])
    second = submit(ECHO, [2], tags=[mark])
    for job in (first, second):
        operator.call("taskbus.job.wait", job)
    found = operator.call("taskbus.job.list", tag=mark)
    assert [(job["id"], job["tags"]) for job in found] == [(second, [mark]), (first, [mark, "b"])]
    assert operator.call("taskbus.job.get", first)["tags"] == [mark, "b"]
    assert operator.call("taskbus.job.list", tag=mark, state="failed") == []
    listed = site.taskbus("jobs", "--tag", mark)
    assert [line.split()[0] for line in listed.stdout.splitlines()[1:]] == [second, first]
    assert f'"{mark}"' in site.taskbus("job", first).stdout


def test_tags_choose_dead_letters(site: Site, operator: Session, mark: str) -> None:
    ids = [
        operator.call("taskbus.job.submit", ECHO, [], delay=3600, tags=tags)
        for tags in ([mark], [mark, "x"], [])
    ]
    for job in ids:
        operator.call("taskbus.job.cancel", job)
    chosen = ["--tag", mark, "--state", "cancelled"]
    replayed = site.taskbus("replay", *chosen, "--dry-run").stdout.split()
    assert sorted(replayed) == sorted(ids[:2])
    assert sorted(site.taskbus("discard", *chosen).stdout.split()) == sorted(ids[:2])


def test_a_tag_may_be_given_as_a_word(site: Site, operator: Session) -> None:
    words = ["submit", ECHO, "--tag", "one", "--tag", "two", "--idempotency-key", "2026"]
    job = site.taskbus(*words).stdout.strip()
    assert operator.call("taskbus.job.get", job)["tags"] == ["one", "two"]
    assert site.taskbus(*words).stdout.strip() == job
    one = site.taskbus("submit", ECHO, "--tag", "7").stdout.strip()
    assert operator.call("taskbus.job.get", one)["tags"] == ["7"]


def test_the_context_arrives_and_is_shown(site: Site, operator: Session, submit: Submit) -> None:
    context = {"order": 7, "customer": {"name": "Zoë"}}
    job = submit(ECHO, [], context=context)
    assert operator.call("taskbus.job.wait", job).kwresults["details"]["context"] == context
    assert operator.call("taskbus.job.get", job)["details"]["context"] == context
    assert '"Zoë"' in site.taskbus("job", job).stdout


@pytest.mark.parametrize("form", [LATER.isoformat(), LATER.timestamp()], ids=["iso", "epoch"])
def test_run_at(operator: Session, submit: Submit, form: str | float) -> None:
    job = submit(ECHO, [], run_at=form)
    told = operator.call("taskbus.job.get", job)
    assert (told["state"], told["due"]) == ("scheduled", LATER.timestamp())


def test_a_time_that_has_passed_is_now(operator: Session, submit: Submit) -> None:
    job = submit(ECHO, [], run_at="2020-01-01T00:00:00+00:00")
    operator.call("taskbus.job.wait", job)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("idempotency_key", ""),
        ("idempotency_key", 5),
        ("idempotency_window", 60),
        ("unique", 5),
        ("tags", "x"),
        ("context", "x"),
        ("run_at", "tomorrow"),
        ("run_at", "2030-01-01T00:00:00"),
        ("queue", "no such"),
        ("retention", -1),
    ],
)
def test_what_is_wrong_is_named(operator: Session, field: str, value: Any) -> None:
    with pytest.raises(ApplicationError) as caught:
        operator.call("taskbus.job.submit", ECHO, **{field: value})
    assert caught.value.error == "taskbus.error.invalid_argument"
    assert caught.value.kwargs["field"] == field
    assert caught.value.kwargs["remedy"]


def test_every_option_is_an_option_of_the_command(site: Site, operator: Session) -> None:
    words = [
        "--priority", "high", "--timeout", "5", "--retries", "2", "--delay", "3600",
        "--backoff", '{"first": 2}', "--retry-on", "com.x.busy", "--retry-on", "com.y.*",
        "--retention", "3600", "--context", '{"a": 1}', "--unique", "name",
        "--idempotency-key", "5", "--idempotency-window", "60",
    ]  # fmt: skip
    job = site.taskbus("submit", ECHO, *words).stdout.strip()
    told = operator.call("taskbus.job.get", job)
    assert (told["priority"], told["timeout"], told["retries"]) == (750, 5.0, 2)
    assert told["due"] == told["created"] + 3600
    operator.call("taskbus.job.cancel", job)
    done = site.taskbus("submit", ECHO, "--retries", "many")
    assert done.returncode == 2
    assert "retries: not a count (got 'many')" in done.stderr
