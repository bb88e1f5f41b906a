"""The bus' own tasks, as a child runs them."""

import os
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from taskbus.handler.egress import AddressForbidden
from taskbus.model.errors import HandlerUnreachable, TaskFailure, TaskKilled, TaskTimeout
from taskbus.model.identity import new_job_id
from taskbus.model.task import TaskInput, TaskResult
from taskbus.task import exec_command, http_command
from taskbus.task.http_command import form
from taskbus.task.reports import Reports, report
from tests.support.http_server import Request, serving
from tests.support.processes import PATIENCE

LOOPBACK = ["127.0.0.0/8"]


def asked(url: str, **kwargs: Any) -> TaskInput:
    told = {"url": url, "method": "GET", "params": {}, "timeout": PATIENCE, "number": 7} | kwargs
    return TaskInput("x.y", [], told, {"job": new_job_id()})


def send(url: str, allow: list[str] = LOOPBACK, **kwargs: Any) -> TaskResult:
    return http_command.run(asked(url, **kwargs), allow)


# http


def test_the_answer_is_the_output(capfd: pytest.CaptureFixture[str]) -> None:
    with serving(lambda r: r.reply(200, "größe\n".encode())) as (url, requests):
        assert send(url + "?a=b%20c").kwargs == {"status": 200}
    assert capfd.readouterr().out == "größe\n"
    [request] = requests
    assert (request.command, request.path, request.body) == ("GET", "/rpc?a=b%20c", b"")
    assert request.headers["Taskbus-Job"] == "7"
    assert "Content-Type" not in request.headers


def test_params_are_a_form() -> None:
    with serving(lambda r: r.reply(204, b"")) as (url, requests):
        send(url, method="PUT", params={"name": "Ann & Bob", "x": {"y": [1, None, True]}})
    [request] = requests
    assert request.command == "PUT"
    assert request.headers["Content-Type"] == "application/x-www-form-urlencoded"
    assert request.body == b"name=Ann+%26+Bob&x%5By%5D%5B0%5D=1&x%5By%5D%5B2%5D=1"


@pytest.mark.parametrize(
    ("params", "text"), [({}, ""), ([], ""), (["a", "b"], "0=a&1=b"), ({"a": False}, "a=0")]
)
def test_forms(params: Any, text: str) -> None:
    assert form(params) == text


@pytest.mark.parametrize("status", [400, 404, 500, 503])
def test_an_error_is_a_failure_with_its_output(
    status: int, capfd: pytest.CaptureFixture[str]
) -> None:
    answering = serving(lambda r: r.reply(status, b"why"))
    failing = pytest.raises(TaskFailure, match=f"/rpc answered HTTP {status}")
    with answering as (url, _), failing:
        send(url + "?password=x")
    assert capfd.readouterr().out == "why"


@pytest.mark.parametrize(
    ("status", "method", "body"),
    [(301, "GET", b""), (302, "GET", b""), (303, "GET", b""),
     (307, "POST", b"a=b"), (308, "POST", b"a=b")],
)  # fmt: skip
def test_redirects_are_followed_as_browsers_do(status: int, method: str, body: bytes) -> None:
    def answer(request: Request) -> None:
        if request.path == "/rpc":
            request.reply(status, b"", Location="/there?x=1")
        else:
            request.reply(200, b"")

    with serving(answer) as (url, requests):
        send(url, method="POST", params={"a": "b"})
    _, last = requests
    assert (last.command, last.path, last.body) == (method, "/there?x=1", body)
    assert last.headers["Taskbus-Token"]


def test_another_origin_learns_no_token() -> None:
    with (
        serving(lambda r: r.reply(200, b"")) as (other, requests),
        serving(lambda r: r.reply(302, b"", Location=other)) as (url, _),
    ):
        send(url.replace("//", "//ann:secret@"))
    [request] = requests
    for name in ("Taskbus-Token", "Taskbus-Job", "Authorization"):
        assert name not in request.headers


def test_a_circle_of_redirects_ends() -> None:
    circling = serving(lambda r: r.reply(302, b"", Location="/rpc"))
    with circling as (url, requests), pytest.raises(TaskFailure, match="more than 5 redirects"):
        send(url)
    assert len(requests) == 6


def test_a_login_in_the_url() -> None:
    failing = serving(lambda r: r.reply(500, b""))
    with failing as (url, requests), pytest.raises(TaskFailure) as caught:
        send(url.replace("//", "//ann:s%20c@"))
    assert requests[0].headers["Authorization"] == "Basic YW5uOnMgYw=="
    assert "s%20c" not in caught.value.message


def test_it_goes_nowhere_that_is_not_allowed() -> None:
    answering = serving(lambda r: r.reply(200, b""))
    with answering as (url, requests), pytest.raises(AddressForbidden) as caught:
        send(url, allow=[])
    assert not requests
    assert "queue_server.allow" in caught.value.about["remedy"]


@pytest.mark.parametrize(
    ("location", "error"),
    [("http://169.254.1.1/", AddressForbidden), ("file:///etc/passwd", TaskFailure)],
)
def test_nor_by_a_redirect(location: str, error: type[Exception]) -> None:
    leading = serving(lambda r: r.reply(302, b"", Location=location))
    with leading as (url, _), pytest.raises(error):
        send(url)


def test_a_server_that_drips_meets_the_timeout() -> None:
    gone = threading.Event()

    def drip(request: Request) -> None:
        request.send_response(200)
        request.end_headers()
        while not gone.wait(0.02):
            request.wfile.write(b".")

    with serving(drip) as (url, _):
        try:
            with pytest.raises(TaskTimeout, match=r"did not answer within 0\.2 seconds"):
                send(url, timeout=0.2)
        finally:
            gone.set()


def test_nobody_there() -> None:
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        with pytest.raises(HandlerUnreachable, match="Connection refused"):
            send(f"http://127.0.0.1:{unheard.getsockname()[1]}/")


def test_an_answer_that_breaks_off() -> None:
    def cut(request: Request) -> None:
        request.send_response(200)
        request.send_header("Content-Length", "10")
        request.end_headers()
        request.wfile.write(b"half")
        request.close_connection = True

    with serving(cut) as (url, _), pytest.raises(HandlerUnreachable, match="IncompleteRead"):
        send(url)


def test_the_target_reports_progress() -> None:
    told: list[tuple[float, str]] = []
    heard: list[Any] = []
    task = asked("")

    def answer(request: Request) -> None:
        job, token = task.details["job"], request.headers["Taskbus-Token"]
        heard.append(report(job, token, 0.5, "half"))
        heard.append(report(job, token[:-1], 0.9, "not mine"))
        heard.append(report(new_job_id(), token, 0.9, "another job's"))
        request.reply(200, b"")

    with serving(answer) as (url, requests):
        task = TaskInput("x.y", [], {**task.kwargs, "url": url}, task.details,
                         lambda *words: told.append(words))  # fmt: skip
        http_command.run(task, LOOPBACK)
    assert heard == [True, False, None]
    assert told == [(0.5, "half")]
    assert report(task.details["job"], requests[0].headers["Taskbus-Token"], 1.0, "") is None


# Reports


@pytest.fixture
def reports() -> Iterator[tuple[Reports, str, list[Any]]]:
    told: list[Any] = []
    task = TaskInput("x.y", details={"job": new_job_id()},
                     progress=lambda *words: told.append(words),
                     warn=told.append)  # fmt: skip
    with Reports(task) as listening:
        yield listening, task.details["job"], told


@pytest.mark.parametrize("line", [b"", b"x\n", b"[]\n", b"{}\n", b'{"token":1}\n', b"x" * 16_384])
def test_nonsense_is_not_heard_and_ends_nothing(
    reports: tuple[Reports, str, list[Any]], line: bytes
) -> None:
    listening, job, told = reports
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as talk:
        talk.connect(f"\0taskbus-progress-{job}")
        talk.sendall(line)
        talk.shutdown(socket.SHUT_WR)
        assert talk.recv(100) in (b"", b"false\n")
    assert report(job, listening.token, 1.0, "done") is True
    assert told == [(1.0, "done")]


def test_a_second_attempt_beside_the_first_goes_unheard(
    reports: tuple[Reports, str, list[Any]],
) -> None:
    listening, job, _ = reports
    warned: list[str] = []
    with Reports(TaskInput("x.y", details={"job": job}, warn=warned.append)) as second:
        assert report(job, second.token, 1.0, "") is False
    assert "Address already in use" in warned[0]
    assert report(job, listening.token, 1.0, "") is True


# exec


def execute(*argv: str, programs: list[list[str]] | None = None) -> TaskResult:
    allowed = [[*argv]] if programs is None else programs
    return exec_command.run(TaskInput("x.y", [], {"argv": [*argv], "number": 7}), allowed)


def test_a_program_and_its_output(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    script = "import os, sys; print(sys.argv[1:], os.environ['TASKBUS_JOB'], sys.stdin.read())"
    found = execute(sys.executable, "-c", script, "$HOME; id", "*")
    assert found.kwargs == {"status": 0}
    assert capfd.readouterr().out == "['$HOME; id', '*'] 7 \n"


def test_a_program_that_fails() -> None:
    with pytest.raises(TaskFailure, match="false exited with status 1"):
        execute("false")
    with pytest.raises(TaskKilled, match="SIGKILL"):
        execute(sys.executable, "-c", "import os; os.kill(os.getpid(), 9)")
    with pytest.raises(HandlerUnreachable, match="No such file"):
        execute("/no/such/program")


def test_what_the_settings_do_not_allow_any_more(tmp_path: Path) -> None:
    with pytest.raises(TaskFailure) as caught:
        execute("touch", str(tmp_path / "made"), programs=[["touch"]])
    assert "queue_server.exec" in caught.value.about["remedy"]
    assert os.listdir(tmp_path) == []
