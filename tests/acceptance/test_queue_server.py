"""The queue server: unchanged clients of another one, over HTTP."""

import json
import os
import re
import subprocess
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from taskbus.model.identity import new_job_id
from tests.support.access_keys import new_key
from tests.support.gate import Gate, a_gate
from tests.support.http_server import Request, serving
from tests.support.processes import PATIENCE, REPOSITORY
from tests.support.router import Session
from tests.support.site import Site, eventually, make_site, running_site
from tests.support.terminal import CTRL_C, at_terminal

pytestmark = pytest.mark.acceptance

WAITS, WORKS, GOOD, FAILED = 0, 1, 3, 99
TIME = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"
# What a client of the other queue server does in PHP: streams, JSON, and forms.
CLIENT = r"""<?php
[, $base, $as, $job] = $argv;
$job = json_decode($job, true);
$body = $as === 'form' ? http_build_query($job) : json_encode($job);
$type = $as === 'form' ? 'application/x-www-form-urlencoded' : 'application/json';
$http = ['method' => 'POST', 'header' => "Content-Type: $type\r\n", 'content' => $body];
$added = json_decode(file_get_contents("$base/jobs/add", false,
    stream_context_create(['http' => $http])), true);
do {
    usleep(20000);
    $found = json_decode(file_get_contents("$base/jobs/status/" . $added['job_id']), true);
} while ($found['data']['worker_status'] < 3);
$all = json_decode(file_get_contents("$base/jobs/status"), true);
echo json_encode([$added, $found, $all]);
"""


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="tb", dir="/tmp") as name:
        yield Path(name)


@pytest.fixture(scope="module")
def gate(folder: Path) -> Iterator[Gate]:
    with a_gate(folder) as made:
        yield made


@pytest.fixture(scope="module")
def site(folder: Path) -> Iterator[Site]:
    settings = f"""
[queue_server]
enabled = true
open_to = "loopback"
allow = ["127.0.0.0/8"]
exec = [
  ["echo", "*"],
  ["false"],
  ["sh", "-c", "read line <{folder}/gate; echo $TASKBUS_JOB passed"],
  ["sh", "-c", "echo begun; sleep {PATIENCE}"],
]
"""
    with running_site(folder, settings) as running:
        yield running


@pytest.fixture
def session(site: Site) -> Iterator[Session]:
    with site.joined() as joined:
        yield joined


def ask(
    site: Site, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
) -> tuple[int, Any]:
    """Status and JSON of a plain request; a body is posted."""
    url = f"http://127.0.0.1:{site.port}{path}"
    request = urllib.request.Request(url, body, dict(headers or {}))
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def add(site: Site, **job: Any) -> str:
    """The id of a job that was accepted, as its client knows it."""
    status, told = ask(
        site, "/jobs/add", json.dumps(job).encode(), {"Content-Type": "application/json"}
    )
    assert (status, told["status"]) == (200, "OK"), told
    assert isinstance(told["job_id"], str)
    return str(told["job_id"])


def look(site: Site, job: str) -> dict[str, Any]:
    status, told = ask(site, f"/jobs/status/{job}")
    assert (status, told["status"]) == (200, 200)
    data: dict[str, Any] = told["data"]
    return data


def ended(site: Site, job: str) -> int:
    """Its worker_status once it has ended."""
    return int(
        eventually(lambda: status if (status := look(site, job)["worker_status"]) > 1 else 0)
    )


def own_id(session: Session, job: str) -> str:
    [found] = session.call("taskbus.job.list", tag=f"queue-server:{job}")
    return str(found["id"])


def output(session: Session, job: str) -> str:
    events = session.call("taskbus.job.events", job)
    return "".join(one["data"]["text"] for one in events if one["kind"] == "output")


def http(url: str, **more: Any) -> dict[str, Any]:
    return {"type": "http", "url": url, **more}


def shell(script: str) -> dict[str, Any]:
    return {"type": "exec", "cmd": ["sh", "-c", script]}


# Unchanged clients


@pytest.mark.parametrize("way", ["json", "form"])
def test_a_client_in_php(site: Site, session: Session, folder: Path, way: str) -> None:
    (folder / "client.php").write_text(CLIENT)
    with serving(lambda r: r.reply(200, "grüße".encode())) as (url, requests):
        job = {
            "priority": 800,
            "context": "MyCoolApp",
            "command": http(url + "?id=__JOBID__", method="POST", params={"a": {"b": ["é", 2]}}),
            "callback_done": http(url + "?done=__JOBID__"),
        }
        command = ["php", str(folder / "client.php"), f"http://127.0.0.1:{site.port}", way]
        told = subprocess.run(
            [*command, json.dumps(job)], capture_output=True, check=True, timeout=PATIENCE
        )
        added, found, everything = json.loads(told.stdout)
        eventually(lambda: len(requests) == 2)
    number = added["job_id"]
    assert added == {"status": "OK", "job_id": number}
    data = found["data"]
    assert data == {
        "id": int(number), "worker_status": GOOD, "time_added": data["time_added"],
        "time_completed": data["time_completed"], "priority": 800,
    }  # fmt: skip
    assert re.fullmatch(TIME, data["time_added"])
    assert re.fullmatch(TIME, data["time_completed"])
    assert everything["status"] == 200
    assert everything["data"].keys() == {"waiting", "working", "max_threads", "free_threads"}
    first, done = requests
    assert (first.command, first.path) == ("POST", f"/rpc?id={number}")
    assert first.body == b"a%5Bb%5D%5B0%5D=%C3%A9&a%5Bb%5D%5B1%5D=2"
    assert first.headers["Taskbus-Job"] == number
    assert (done.command, done.path) == ("GET", f"/rpc?done={number}")
    assert output(session, own_id(session, number)) == "grüße"
    assert session.call("taskbus.job.list", tag="context:MyCoolApp")


def test_json_that_is_called_a_form(site: Site) -> None:
    # As curl -d and PHP's streams do where they are not told otherwise.
    status, told = ask(site, "/jobs/add", b'{"command": {"type": "exec", "cmd": "echo a"}}')
    assert (status, told["status"]) == (200, "OK")
    assert ended(site, told["job_id"]) == GOOD


def test_states_and_counts(site: Site, gate: Gate) -> None:
    gated = shell(f"read line <{site.folder}/gate; echo $TASKBUS_JOB passed")
    jobs = [add(site, command=gated) for _ in range(4)]
    for job in jobs:
        eventually(lambda job=job: look(site, job)["worker_status"] == WORKS)  # type: ignore[misc]
    late, early = add(site, command=gated, priority=1), add(site, command=gated, priority=5000)
    assert ask(site, "/jobs/status")[1]["data"] == {
        "waiting": 2, "working": 4, "max_threads": 4, "free_threads": 0,
    }  # fmt: skip
    assert look(site, early) | {"time_added": ""} == {
        "id": int(early), "worker_status": WAITS, "time_added": "", "time_completed": None,
        "priority": 5000,
    }  # fmt: skip
    gate.let_one_pass()
    eventually(lambda: look(site, early)["worker_status"] == WORKS)
    assert look(site, late)["worker_status"] == WAITS
    for _ in range(5):
        gate.let_one_pass()
    assert {ended(site, job) for job in (*jobs, early, late)} == {GOOD}
    assert ask(site, "/jobs/status")[1]["data"] == {
        "waiting": 0, "working": 0, "max_threads": 4, "free_threads": 4,
    }  # fmt: skip


def test_numbers_grow(site: Site) -> None:
    jobs = [int(add(site, command={"type": "exec", "cmd": "echo x"})) for _ in range(3)]
    assert jobs == sorted(set(jobs))


@pytest.mark.parametrize("job", ["999999999", "0", "x", "-1", "9" * 40, "1%2F..%2F2"])
def test_an_unknown_job(site: Site, job: str) -> None:
    if "%2F" in job:
        assert ask(site, f"/jobs/status/{job}")[0] == 400
    else:
        found = ask(site, f"/jobs/status/{job}")
        assert found == (404, {"status": 404, "data": "Job not found"})


@pytest.mark.parametrize(
    ("body", "kind", "field"),
    [
        (b"", "application/json", "body"),
        (b"null", "application/json", "body"),
        (b'{"command": ', "application/json", "body"),
        (b"[]", "application/json", "body"),
        (b"{}", "application/json", "command"),
        (b'{"command": {"type": "http"}}', "application/json", "command.url"),
        (b'{"command": {"type": "exec", "cmd": "id"}}', "application/json", "command.cmd"),
        (b'{"command": {"type": "exec", "cmd": "echo `id`; ls | sh"}}', "application/json",
         "command.cmd"),
        (b"command=x", "application/x-www-form-urlencoded", "command"),
        (b"nonsense", "application/x-www-form-urlencoded", "body"),
        (b"[" * 100_000, "application/json", "body"),
    ],
)  # fmt: skip
def test_a_bad_body_is_refused(site: Site, body: bytes, kind: str, field: str) -> None:
    status, told = ask(site, "/jobs/add", body, {"Content-Type": kind})
    assert (status, told["status"], told["field"]) == (400, 400, field)
    assert told["data"].startswith(field)
    assert told["remedy"]


# Ends


def test_callbacks_after_a_failure(site: Site, session: Session) -> None:
    with serving(lambda r: r.reply(500 if "command" in r.path else 200, b"broken")) as (url, asked):
        job = add(
            site,
            command=http(url + "?command"),
            retries=1,
            callback_done=http(url + "?done"),
            callback_error=http(url + "?error=__JOBID__"),
        )
        assert ended(site, job) == FAILED
        eventually(lambda: len(asked) == 4)
    paths = [one.path for one in asked]
    assert paths[:2] == ["/rpc?command", "/rpc?command"]
    assert sorted(paths[2:]) == ["/rpc?done", f"/rpc?error={job}"]
    assert output(session, own_id(session, job)) == "brokenbroken"
    callbacks = session.call("taskbus.job.list", tag=f"callback-of:{job}")
    eventually(lambda: {state(session, one["id"]) for one in callbacks} == {"succeeded"})


def state(session: Session, job: str) -> str:
    return str(session.call("taskbus.job.get", job)["state"])


def test_no_callback_error_after_a_success(site: Site, session: Session) -> None:
    job = add(
        site,
        command={"type": "exec", "cmd": "echo 'a  b' $HOME"},
        callback_error={"type": "exec", "cmd": "echo error"},
        callback_done={"type": "exec", "cmd": "echo done"},
    )
    assert ended(site, job) == GOOD
    callbacks = [one["id"] for one in session.call("taskbus.job.list", tag=f"callback-of:{job}")]
    eventually(lambda: {state(session, one) for one in callbacks} == {"succeeded", "cancelled"})
    said = [output(session, one) for one in callbacks if state(session, one) == "succeeded"]
    assert said == ["done\n"]
    assert output(session, own_id(session, job)) == "a  b $HOME\n"


def test_a_command_belongs_to_the_trace_of_its_request(site: Site, session: Session) -> None:
    body = b'{"command": {"type": "exec", "cmd": "echo x"}}'
    parent = f"00-{'1' * 32}-{'2' * 16}-01"
    status, told = ask(site, "/jobs/add", body, {"traceparent": parent})
    assert status == 200
    job = session.call("taskbus.job.get", own_id(session, told["job_id"]))
    assert job["details"]["trace"] == {"traceparent": parent}


def test_an_exit_status_counts(site: Site) -> None:
    assert ended(site, add(site, command={"type": "exec", "cmd": "false"})) == FAILED


def test_addresses_that_are_not_allowed(site: Site, session: Session) -> None:
    job = add(site, command=http("http://[::1]:9/"))
    assert ended(site, job) == FAILED
    found = session.call("taskbus.job.get", own_id(session, job))
    assert found["error"]["error"] == "taskbus.error.address_forbidden"


# Progress


def test_the_target_reports_progress(site: Site, session: Session) -> None:
    answers: list[Any] = []

    def work(request: Request) -> None:
        job, token = request.headers["Taskbus-Job"], request.headers["Taskbus-Token"]

        def report(token: str | None, body: bytes, kind: str = "application/json") -> None:
            headers = {"Content-Type": kind} | ({"Taskbus-Token": token} if token else {})
            answers.append(ask(site, f"/jobs/progress/{job}", body, headers))

        report(token, b'{"progress": 0.25, "message": "a quarter"}')
        report(token, b"progress=0.5", "application/x-www-form-urlencoded")
        report(token[:-1] + "!", b'{"progress": 0.75}')
        report(None, b'{"progress": 0.75}')
        report(token, b'{"progress": 75}')
        tokens.append(token)
        request.reply(200, b"")

    tokens: list[str] = []
    with serving(work) as (url, _):
        job = add(site, command=http(url))
        assert ended(site, job) == GOOD
    assert [status for status, _ in answers] == [200, 200, 401, 401, 400]
    assert answers[0][1] == {"status": "OK"}
    events = session.call("taskbus.job.events", own_id(session, job))
    told = [one["data"] for one in events if one["kind"] == "progress"]
    # Of two that come at once the journal keeps the newest.
    assert told[-1] == {"fraction": 0.5, "message": ""}
    late = ask(site, f"/jobs/progress/{job}", b'{"progress": 1}', {"Taskbus-Token": tokens[0]})
    assert late[0] == 409
    nobody = ask(site, "/jobs/progress/999999", b'{"progress": 1}', {"Taskbus-Token": tokens[0]})
    assert nobody == (404, {"status": 404, "data": "Job not found"})


# Access


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://127.0.0.1:9080"},
        {"Origin": "null"},
        {"Host": "rebound.example.com"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Host": "rebound.example.com", "X-Forwarded-Host": "localhost"},
        {"X-Forwarded-For": "127.0.0.1"},
    ],
)
def test_neither_a_web_page_nor_who_is_behind_another_proxy_comes_in(
    site: Site, headers: Mapping[str, str]
) -> None:
    status, told = ask(
        site, "/jobs/add", b'{"command": {"type": "exec", "cmd": "echo x"}}', headers
    )
    assert (status, told["status"]) == (401, 401)
    assert ask(site, "/jobs/status", None, headers)[0] == 401


def a_key(site: Site, *scopes: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {new_key(site, *scopes).token}", "Host": "bus.example.com"}


def test_keys(site: Site) -> None:
    body = b'{"command": {"type": "exec", "cmd": "echo x"}}'
    may_add = a_key(site, "submit:taskbus.task.command.exec")
    may_look = a_key(site, "read:taskbus.task.command.*")
    other = a_key(site, "submit:com.example.*", "read:com.example.*")
    status, told = ask(site, "/jobs/add", body, may_add)
    assert (status, told["status"]) == (200, "OK")
    job = f"/jobs/status/{told['job_id']}"
    assert ask(site, job, None, may_look)[0] == 200
    assert ask(site, "/jobs/status", None, may_look)[0] == 200
    assert ask(site, "/jobs/add", body, may_look)[0] == 403
    assert ask(site, "/jobs/add", body, other)[0] == 403
    by_http = b'{"command": {"type": "http", "url": "http://127.0.0.1/"}}'
    assert ask(site, "/jobs/add", by_http, may_add)[0] == 403
    with_callback = json.loads(body) | {"callback_done": http("http://127.0.0.1/")}
    assert ask(site, "/jobs/add", json.dumps(with_callback).encode(), may_add)[0] == 403
    assert ask(site, job, None, may_add)[0] == 403
    assert ask(site, job, None, other)[0] == 404
    assert ask(site, "/jobs/status", None, other)[0] == 403
    assert ask(site, "/jobs/status", None, {"Authorization": "Bearer tb_x_y"})[0] == 401


def test_nobody_submits_a_command_but_the_bus_itself(site: Site, session: Session) -> None:
    refused = site.taskbus("submit", "taskbus.task.command.exec", "-k", 'argv=["id"]')
    assert "taskbus.error.unknown_uri" in refused.stderr


def test_a_replay_cannot_change_what_runs(site: Site, session: Session) -> None:
    job = own_id(session, done := add(site, command={"type": "exec", "cmd": "false"}))
    assert ended(site, done) == FAILED
    refused = site.taskbus("replay", job, "-k", 'argv=["id"]')
    assert "a task of the bus itself" in refused.stderr
    assert site.taskbus("replay", job).returncode == 0


# In the terminal


def test_run_job(site: Site, session: Session) -> None:
    job = add(site, command={"type": "exec", "cmd": "false"}, retries=0)
    assert ended(site, job) == FAILED
    once = site.taskbus("run-job", f"-j{job}")
    assert once.returncode == 2
    assert "add --again" in once.stderr
    again = site.taskbus("run-job", f"-j{job}", "--again")
    assert again.returncode == 1
    assert "false exited with status 1" in again.stderr
    assert look(site, job)["worker_status"] == FAILED
    assert session.call("taskbus.job.get", own_id(session, job))["attempt"] == 2
    assert site.taskbus("run-job", "-j", "999999").returncode == 2
    assert "not a job id" in site.taskbus("run-job", "-j", "x").stderr


def test_run_job_shows_the_output_as_it_comes(site: Site, session: Session, gate: Gate) -> None:
    # Of any task: one that is not due for long.
    job = session.call("taskbus.job.submit", "com.example.dante.chatty", delay=3600)
    with at_terminal(_run_job(site, job), {"PATH": "/usr/bin:/bin"}) as terminal:
        terminal.read_until("succeeded")
        assert terminal.process.wait(PATIENCE) == 0
    assert terminal.shown.index("running (claimed)") < terminal.shown.index("succeeded")
    assert output(session, job) in terminal.shown.replace("\r", "")
    assert state(session, job) == "succeeded"


def test_ctrl_c_ends_the_job(site: Site, session: Session) -> None:
    job = session.call("taskbus.job.submit", "com.example.dante.sleeper", [PATIENCE], delay=3600)
    with at_terminal(_run_job(site, job), {"PATH": "/usr/bin:/bin"}) as terminal:
        terminal.read_until("running (claimed)")
        terminal.type(CTRL_C)
        terminal.read_until("cancelled")
        assert terminal.process.wait(PATIENCE) == 1
    assert state(session, job) == "cancelled"


def test_run_job_takes_no_job_from_another_worker(site: Site, session: Session, gate: Gate) -> None:
    number = add(site, command=shell(f"read line <{site.folder}/gate; echo $TASKBUS_JOB passed"))
    eventually(lambda: look(site, number)["worker_status"] == WORKS)
    refused = site.taskbus("run-job", "-j", number)
    assert refused.returncode == 2
    assert "another worker has it" in refused.stderr
    gate.let_one_pass()
    assert ended(site, number) == GOOD
    assert output(session, own_id(session, number)) == f"{number} passed\n"


def _run_job(site: Site, job: str) -> list[str]:
    program = str(REPOSITORY / ".venv/bin/taskbus")
    return [program, "--settings", str(site.settings), "run-job", "-j", job]


def test_run_job_without_a_bus_or_as_another_user(folder: Path) -> None:
    alone = folder / "alone"
    alone.mkdir()
    other = "nobody" if os.geteuid() == 0 else "root"
    site = make_site(alone, f'[user]\nworker = "{other}"\n')
    job = new_job_id()
    never = site.taskbus("run-job", "-j", job)
    assert never.returncode == 2
    assert "has never been up" in never.stderr
    (site.var / "data").mkdir(parents=True)
    refused = site.taskbus("run-job", "-j", job)
    assert refused.returncode == 2
    assert f"its workers run as {other}" in refused.stderr
    assert list((site.var / "data").iterdir()) == []


def test_programs_that_the_settings_allow_are_looked_for(folder: Path) -> None:
    checked = folder / "checked"
    checked.mkdir()
    site = make_site(checked, '[queue_server]\nexec = [["echo"], ["no-such-program", "*"]]\n')
    done = site.taskbus("check")
    line = site.settings.read_text().split("\n").index("[queue_server]") + 2
    assert done.returncode == 4
    assert f"taskbus.toml:{line}: queue_server.exec: there is no program no-such" in done.stderr
