"""How a task's code is called."""

import json
import os
import select
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from taskbus.handler import Handler, build
from taskbus.handler import contract as contract_module
from taskbus.handler import exec as exec_module
from taskbus.handler import http as http_module
from taskbus.handler.perform import Outcome, perform
from taskbus.model.builtin import own_entry
from taskbus.model.errors import (
    HandlerUnreachable,
    InvalidResult,
    TaskFailure,
    TaskKilled,
    TaskTimeout,
)
from taskbus.model.leash import Leash
from taskbus.model.task import TaskInput, TaskResult
from tests.support.http_server import Answer, Request, serving
from tests.support.processes import PATIENCE

CALL = TaskInput("com.x.y", [1, "é"], {"a": None}, {"caller_authid": "ann"})
AS_JSON = {
    "uri": "com.x.y",
    "args": [1, "é"],
    "kwargs": {"a": None},
    "details": {"caller_authid": "ann"},
}


# Python


def python(name: str, *args: Any, **kwargs: Any) -> TaskResult:
    handler = build({"kind": "python", "target": f"tests.support.tasks:{name}"}, None)
    return handler(TaskInput("com.x.y", args, kwargs, {"caller_authid": "ann"}))


def test_a_class() -> None:
    result = python("Echo", 1, a=2)
    assert result.args == ["com.x.y", 1]
    assert result.kwargs == {"a": 2, "details": {"caller_authid": "ann"}}


def test_each_call_has_an_object_of_its_own() -> None:
    handler = build({"kind": "python", "target": "tests.support.tasks:Counting"}, None)
    assert [handler(CALL).args for _ in range(2)] == [[1], [1]]


def test_a_function() -> None:
    assert python("add", 1).args == [11]
    assert python("add", 1, right=2).args == [3]
    with pytest.raises(TypeError):
        python("add", 1, 2, 3)


def test_a_function_with_a_task_keyword() -> None:
    assert python("whoami").args == [{"uri": "com.x.y", "caller_authid": "ann"}]
    assert python("greedy").args == [["not a TaskInput", {}]]
    assert python("greedy", "mine", other=1).args == [["mine", {"other": 1}]]


def test_a_task_of_the_bus_own_has_the_call_and_what_the_settings_give() -> None:
    entry = own_entry("taskbus.task.x", "tests.support.tasks:given", {"word": "é", "most": 3})
    made = build(entry.handler, None)
    assert made(CALL).args == [["com.x.y", "é", 3]]


def test_a_result_with_keywords() -> None:
    result = python("pair")
    assert (result.args, result.kwargs) == ([1, 2], {"three": 3})


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("tests.support.nothing:x", "ModuleNotFoundError"),
        ("tests.support.tasks:nothing", "AttributeError"),
        ("broken:x", "ZeroDivisionError"),
        ("syntax:x", "SyntaxError"),
        ("leaving:x", "SystemExit"),
    ],
)
def test_code_that_cannot_be_loaded(
    target: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken.py").write_text("1 / 0\n")
    (tmp_path / "syntax.py").write_text("def :\n")
    (tmp_path / "leaving.py").write_text("raise SystemExit(3)\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(TaskFailure) as caught:
        build({"kind": "python", "target": target}, None)
    assert target in caught.value.message
    assert said in caught.value.message
    assert said in caught.value.about["traceback"]


@pytest.mark.parametrize("name", ["later", "later_one_by_one", "one_by_one", "Later"])
def test_code_that_a_call_would_not_run_is_refused(name: str) -> None:
    with pytest.raises(TaskFailure, match=f"tests.support.tasks:{name}: it is async, or yields"):
        build({"kind": "python", "target": f"tests.support.tasks:{name}"}, None)


# What every caller is told


def told(outcome: Outcome) -> dict[str, Any]:
    assert not outcome.ok
    found: dict[str, Any] = json.loads(outcome.body)
    return found


def performed(name: str, *args: Any) -> Outcome:
    handler = build({"kind": "python", "target": f"tests.support.tasks:{name}"}, None)
    return perform(handler, TaskInput("com.x.y", args))


def test_an_outcome() -> None:
    assert performed("add", 1) == Outcome(True, '{"args":[11],"kwargs":{}}')


def test_a_failure_that_the_task_chose() -> None:
    failure = told(performed("fail"))
    assert failure["error"] == "com.example.error.asked"
    assert failure["message"] == "as asked"
    assert failure["about"] == {"value": "x", "remedy": "do not ask"}
    assert "in fail" in failure["traceback"]


def test_any_other_exception() -> None:
    failure = told(performed("crash"))
    assert failure["error"] == "taskbus.error.task_failed"
    assert failure["message"] == "ZeroDivisionError: of all things"
    assert failure["about"] == {"type": "ZeroDivisionError"}
    assert "in crash" in failure["traceback"]
    assert told(performed("leave"))["message"] == "SystemExit: bye"
    assert told(performed("NoArguments"))["about"] == {"type": "TypeError"}


@pytest.mark.parametrize("name", ["Speechless", "Unmade"])
def test_an_exception_that_cannot_be_shown_is_a_failure_like_any_other(name: str) -> None:
    failure = told(performed("raise_one", name))
    assert failure["error"] == "taskbus.error.task_failed"
    assert failure["message"] == f"{name}: it cannot be shown"
    assert "in raise_one" in failure["traceback"]


@pytest.mark.parametrize("name", ["odd_result", "not_a_number", "bottomless"])
def test_a_result_that_json_cannot_carry(name: str) -> None:
    failure = told(performed(name))
    assert failure["error"] == "taskbus.error.invalid_result"


# The answer of a handler in another language


@pytest.mark.parametrize(
    ("body", "args", "kwargs"),
    [
        (b"{}", [], {}),
        (b'{"args": [1]}', [1], {}),
        (b'{"kwargs": {"a": 1}}', [], {"a": 1}),
        (b' {"args": [], "kwargs": []}\n', [], {}),
        ('{"args": ["é"]}'.encode(), ["é"], {}),
    ],
)
def test_answers(body: bytes, args: list[Any], kwargs: dict[str, Any]) -> None:
    result = contract_module.answer(body, "it")
    assert (result.args, result.kwargs) == (args, kwargs)


@pytest.mark.parametrize(
    "body",
    [b"", b"done", b"\xff", b"[1]", b"null", b'{"result": 1}', b'{"args": {}}', b'{"kwargs": [1]}',
     b'{"args": 1}', b'{"args": [], "kwargs": null}', b'{"error": "x", "args": 3}',
     b'{"args": [1]} x', b'{"args": [NaN]}', b"[" * 100_000],
)  # fmt: skip
def test_no_answers(body: bytes) -> None:
    with pytest.raises(InvalidResult) as caught:
        contract_module.answer(body, "it")
    assert caught.value.message.startswith("the answer of it ")
    assert caught.value.about["remedy"]


def test_error_answers() -> None:
    body = b'{"error": "com.example.error.sold_out", "args": ["no more", 3], "kwargs": {"left": 0}}'
    with pytest.raises(TaskFailure) as caught:
        contract_module.answer(body, "it")
    assert caught.value.uri == "com.example.error.sold_out"
    assert caught.value.message == "no more"
    assert caught.value.about == {"args": [3], "left": 0}
    with pytest.raises(TaskFailure, match="it answered an error"):
        contract_module.answer(b'{"error": "com.example.error.sold_out"}', "it")


# Programs


def program(script: str, *arguments: str, timeout: float | None = PATIENCE) -> TaskResult:
    """What a shell script answers."""
    target = ["sh", "-c", script, "sh", *arguments]
    return build({"kind": "exec", "target": target}, timeout)(CALL)


def python_program(code: str, timeout: float | None = PATIENCE) -> TaskResult:
    return build({"kind": "exec", "target": [sys.executable, "-S", "-c", code]}, timeout)(CALL)


@pytest.mark.parametrize("timeout", [None, PATIENCE])
def test_a_program_gets_json_and_answers_json(timeout: float | None) -> None:
    result = program('printf \'{"args":[\'; cat; printf "]}"', timeout=timeout)
    assert result.args == [AS_JSON]


def test_no_shell_reads_the_arguments() -> None:
    result = program('printf \'{"args":["%s","%s"]}\' "$1" "$2"', "$HOME; *", "")
    assert result.args == ["$HOME; *", ""]


def test_a_programs_stderr_is_passed_on(capfd: pytest.CaptureFixture[str]) -> None:
    assert program('echo to the log >&2; echo "{}"').args == []
    assert capfd.readouterr().err == "to the log\n"


def test_a_program_that_answers_an_error() -> None:
    with pytest.raises(TaskFailure, match="sold out") as caught:
        program('echo \'{"error": "com.x.error", "args": ["sold out"]}\'')
    assert caught.value.uri == "com.x.error"


def test_an_answered_error_says_more_than_a_status() -> None:
    with pytest.raises(TaskFailure, match="sold out"):
        program('echo \'{"error": "com.x.error", "args": ["sold out"]}\'; exit 3')


@pytest.mark.parametrize("output", ["", "{}", "nonsense"])
def test_an_exit_status(output: str) -> None:
    with pytest.raises(TaskFailure, match="sh exited with status 3") as caught:
        program(f"echo reason >&2; printf '%s' '{output}'; exit 3")
    assert caught.value.about == {"stderr": "reason"}
    assert caught.value.uri == "taskbus.error.task_failed"


def test_a_killed_program() -> None:
    with pytest.raises(TaskKilled, match="sh was killed by SIGKILL"):
        program("kill -9 $$")


def test_a_program_killed_by_a_signal_without_a_name() -> None:
    with pytest.raises(TaskKilled, match="sh was killed by signal 40"):
        program("kill -40 $$")


def test_an_answer_that_is_not_json() -> None:
    with pytest.raises(InvalidResult, match="the answer of sh is not JSON"):
        program("echo done")


@pytest.mark.parametrize("name", ["taskbus-no-such-program", "/etc/passwd", "/"])
def test_a_program_that_cannot_be_started(name: str) -> None:
    with pytest.raises(HandlerUnreachable, match=f"cannot start {name}: "):
        build({"kind": "exec", "target": [name]}, 5)(CALL)


def test_a_program_need_not_read() -> None:
    large = TaskInput("com.x.y", ["x" * 1_000_000])
    run = build({"kind": "exec", "target": ["sh", "-c", "echo '{\"args\": [1]}'"]}, PATIENCE)
    assert run(large).args == [1]
    closes = build(
        {"kind": "exec", "target": ["sh", "-c", "exec <&-; echo '{\"args\": [2]}'"]}, PATIENCE
    )
    assert closes(large).args == [2]


def test_a_program_may_answer_while_it_is_still_given_its_input() -> None:
    echo = "import sys, shutil; shutil.copyfileobj(sys.stdin.buffer, sys.stdout.buffer, 1000)"
    run = build({"kind": "exec", "target": [sys.executable, "-S", "-c", echo]}, PATIENCE)
    with pytest.raises(InvalidResult, match="args and kwargs"):
        run(TaskInput("com.x.y", ["x" * 3_000_000]))


def test_much_output(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    size = 1_000_000
    code = (
        f"import json, sys; sys.stderr.write('e' * {size});"
        f" print(json.dumps({{'args': ['x' * {size}]}}))"
    )
    assert python_program(code).args == ["x" * size]
    assert capfd.readouterr().err == "e" * size
    monkeypatch.setattr(exec_module, "LARGEST_ANSWER", size)
    with pytest.raises(InvalidResult, match="larger than 1000000 bytes"):
        python_program(code + "; import time; time.sleep(100000)")


class Listening:
    """A call whose progress and warnings are kept."""

    def __init__(self) -> None:
        self.heard: list[Any] = []
        self.task = TaskInput(
            "com.x.y", progress=lambda *told: self.heard.append(told), warn=self.heard.append
        )

    def run(self, script: str, timeout: float | None = PATIENCE) -> TaskResult:
        return build({"kind": "exec", "target": ["sh", "-c", script]}, timeout)(self.task)


@pytest.mark.parametrize("timeout", [None, PATIENCE])
def test_a_program_tells_its_progress(timeout: float | None) -> None:
    call = Listening()
    script = """
        echo '{"progress": 0.5, "message": "half"}' >&3
        echo '{"progress": 1}' >/dev/fd/$TASKBUS_FD
        printf '{"args":[%s]}' "$TASKBUS_FD"
    """
    assert call.run(script, timeout).args == [3]
    assert call.heard == [(0.5, "half"), (1.0, "")]


def test_progress_arrives_while_the_program_runs(tmp_path: Path) -> None:
    go_on = tmp_path / "go_on"
    os.mkfifo(go_on)

    def let_it_go_on(*_: object) -> None:
        go_on.write_text("go")

    script = f"echo '{{\"progress\": 0.5}}' >&3; read line <{go_on}; echo '{{}}'"
    call = TaskInput("com.x.y", progress=let_it_go_on)
    assert build({"kind": "exec", "target": ["sh", "-c", script]}, PATIENCE)(call).args == []


def test_what_tells_no_progress_is_a_warning_and_no_failure() -> None:
    call = Listening()
    assert call.run(
        """echo oops >&3; echo '{"args": [1]}'; printf '{"progress": 1}' >&3"""
    ).args == [1]
    warning, progress = call.heard
    assert warning.endswith("is not JSON: oops")
    assert progress == (1.0, "")


def test_a_process_in_the_background_may_keep_the_progress_open() -> None:
    result = Listening().run("""sleep 100000 >/dev/null 2>&1 & printf '{"args":[%s]}' $!""")
    os.kill(result.args[0], 9)


@pytest.mark.parametrize(
    "target", [["sh", "-c", "echo '{}'"], ["sh", "-c", "exit 3"], ["taskbus-no-such-program"]]
)
def test_a_program_leaves_no_descriptor_open(target: list[str]) -> None:
    run = build({"kind": "exec", "target": target}, PATIENCE)
    before = os.listdir("/proc/self/fd")
    perform(run, CALL)
    assert os.listdir("/proc/self/fd") == before


def test_a_program_has_its_own_descriptors_only_and_the_usual_signals() -> None:
    held = os.open(os.devnull, os.O_RDONLY)
    os.set_inheritable(held, True)
    code = (
        "import os; fds = [fd for fd in range(256) if os.path.exists(f'/proc/self/fd/{fd}')];"
        " print('{\"args\": [%s]}' % fds)"
    )
    assert python_program(code).args == [[0, 1, 2, 3]]
    with pytest.raises(TaskKilled, match="SIGPIPE"):
        program("kill -PIPE $$")
    os.close(held)


class Lifeline:
    """A FIFO that a process holds open: it ends with the last process that does."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = path
        self.fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)

    def read_to_its_end(self) -> bytes:
        found = b""
        while True:
            assert select.select([self.fd], [], [], PATIENCE)[0], "somebody still holds it"
            chunk = os.read(self.fd, 100)
            if not chunk:
                return found
            found += chunk


@pytest.fixture
def lifeline(tmp_path: Path) -> Iterator[Lifeline]:
    made = Lifeline(tmp_path / "lifeline")
    yield made
    os.close(made.fd)


@pytest.mark.parametrize("ending", ["wait", "exec sleep 100000", "exit 0", "exec >&- 2>&-; wait"])
def test_a_timeout_kills_the_whole_group(ending: str, lifeline: Lifeline) -> None:
    script = f'exec 3>{lifeline.path}; sleep 100000 & echo "begun" >&3; {ending}'
    with pytest.raises(TaskTimeout, match="did not end within 1 seconds"):
        program(script, timeout=1)
    assert lifeline.read_to_its_end() == b"begun\n"


def test_without_a_timeout_the_program_stays_in_the_group_of_its_worker() -> None:
    code = "import os; print('{\"args\": [%d]}' % os.getpgid(0))"
    assert python_program(code, timeout=None).args == [os.getpgid(0)]
    assert python_program(code, timeout=PATIENCE).args != [os.getpgid(0)]


# Ended by another thread


class Leashed:
    """A call in a thread of its own."""

    def __init__(self, kind: str, target: Any) -> None:
        self.leash = Leash()
        self.outcome: Outcome | None = None
        self.begun = threading.Event()
        task = TaskInput("com.x.y", progress=lambda *_: self.begun.set(), leash=self.leash)
        run = build({"kind": kind, "target": target}, PATIENCE)
        self._thread = threading.Thread(target=self._run, args=(run, task), daemon=True)
        self._thread.start()

    def _run(self, run: Handler, task: TaskInput) -> None:
        self.outcome = perform(run, task)

    def failure(self) -> dict[str, Any]:
        self._thread.join(PATIENCE)
        assert self.outcome is not None
        return told(self.outcome)


BEGUN = "echo '{\"progress\": 0}' >&3"


@pytest.mark.parametrize(("hard", "name"), [(False, "SIGTERM"), (True, "SIGKILL")])
def test_a_program_is_ended_with_its_whole_group(hard: bool, name: str, lifeline: Lifeline) -> None:
    script = f"exec 4>{lifeline.path}; sleep 100000 & {BEGUN}; wait"
    call = Leashed("exec", ["sh", "-c", script])
    assert call.begun.wait(PATIENCE)
    assert call.leash.pull(hard)
    assert call.failure()["message"] == f"sh was killed by {name}"
    assert lifeline.read_to_its_end() == b""
    assert not call.leash.pull(hard)


def test_a_program_that_is_ended_before_it_begins() -> None:
    leash = Leash()
    assert not leash.pull(False)
    run = build({"kind": "exec", "target": ["sleep", "100000"]}, PATIENCE)
    with pytest.raises(TaskKilled):
        run(TaskInput("com.x.y", leash=leash))


@pytest.mark.parametrize("begun", [b"", b"HTTP/1.1 200 OK\r\n\r\n{"])
def test_a_connection_is_ended(begun: bytes) -> None:
    asked, over = threading.Event(), threading.Event()

    def answer(request: Request) -> None:
        request.close_connection = True
        request.wfile.write(begun)
        asked.set()
        over.wait(PATIENCE)

    with serving(answer) as (url, _):
        call = Leashed("http", url)
        assert asked.wait(PATIENCE)
        assert call.leash.pull(False)
        assert call.failure()["error"] in (
            "taskbus.error.handler_unreachable",
            "taskbus.error.invalid_result",
        )
        over.set()
        assert not call.leash.pull(False)


# HTTP


def posted(answer: Answer, timeout: float | None = PATIENCE) -> TaskResult:
    with serving(answer) as (url, _):
        return build({"kind": "http", "target": url}, timeout)(CALL)


@pytest.mark.parametrize("timeout", [None, PATIENCE])
def test_a_call_is_posted_as_json(timeout: float | None) -> None:
    with serving(lambda request: request.reply(200, b'{"args": [1], "kwargs": {"a": 2}}')) as (
        url,
        requests,
    ):
        result = build({"kind": "http", "target": f"{url}?a=b"}, timeout)(CALL)
    assert (result.args, result.kwargs) == ([1], {"a": 2})
    [request] = requests
    assert request.path == "/rpc?a=b"
    assert request.headers["Content-Type"] == "application/json"
    assert json.loads(request.body) == AS_JSON


def test_a_chunked_answer() -> None:
    def answer(request: Request) -> None:
        request.send_response(200)
        request.send_header("Transfer-Encoding", "chunked")
        request.end_headers()
        for chunk in (b'{"args": ', b"[1]}"):
            request.wfile.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
        request.wfile.write(b"0\r\n\r\n")

    assert posted(answer).args == [1]


def test_a_path_may_be_missing() -> None:
    with serving(lambda request: request.reply(200, b"{}")) as (url, requests):
        build({"kind": "http", "target": url.removesuffix("/rpc")}, PATIENCE)(CALL)
    assert requests[0].path == "/"


@pytest.mark.parametrize("status", [200, 409, 500])
def test_an_error_is_answered_with_any_status(status: int) -> None:
    body = b'{"error": "com.x.error", "args": ["sold out"]}'
    with pytest.raises(TaskFailure, match="sold out") as caught:
        posted(lambda request: request.reply(status, body))
    assert caught.value.uri == "com.x.error"


@pytest.mark.parametrize("status", [201, 204, 301, 302, 307, 400, 404, 500, 503])
def test_other_statuses_are_failures(status: int) -> None:
    with serving(lambda request: request.reply(200, b'{"args": ["elsewhere"]}')) as (
        elsewhere,
        requests,
    ):
        with pytest.raises(TaskFailure, match=f"answered HTTP {status}") as caught:
            posted(
                lambda request: request.reply(
                    status, b"" if status == 204 else b'{"args": [1]}', Location=elsewhere
                )
            )
        assert requests == []
    assert caught.value.about == {"status": status}


def test_a_status_comes_with_the_beginning_of_what_was_said() -> None:
    with pytest.raises(TaskFailure, match="HTTP 500: <h1>no</h1>"):
        posted(lambda request: request.reply(500, b"<h1>no</h1>"))


def test_an_http_answer_that_is_not_json() -> None:
    with pytest.raises(InvalidResult, match="is not JSON"):
        posted(lambda request: request.reply(200, b"<html>"))


def test_an_oversized_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_module, "LARGEST_ANSWER", 100_000)
    with pytest.raises(InvalidResult, match="larger than 100000 bytes"):
        posted(lambda request: request.reply(200, b" " * 100_001))
    assert posted(lambda request: request.reply(200, b" " * 99_998 + b"{}")).args == []


HEAD = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    ("begun", "drop"),
    [
        (b"", b""),
        (HEAD, b""),
        (HEAD, b"X: y\r\n"),
        (HEAD + b"X: ", b"y"),
        (HEAD + b"Content-Length: 1000000\r\n\r\n", b" "),
        (HEAD + b"\r\n", b" "),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"0"),
    ],
    ids=["silent", "half", "headers", "header", "body", "endless body", "chunks", "chunk size"],
)
def test_a_server_that_takes_its_time(begun: bytes, drop: bytes) -> None:
    """However it drips, the whole answer meets the timeout."""
    over = threading.Event()

    def answer(request: Request) -> None:
        request.close_connection = True
        request.wfile.write(begun)
        while not over.wait(0.02):
            request.wfile.write(drop)

    with serving(answer) as (url, _):
        try:
            with pytest.raises(TaskTimeout, match=f"{url} did not answer within 0.2 seconds"):
                build({"kind": "http", "target": url}, 0.2)(CALL)
        finally:
            over.set()


def test_nobody_listens() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/"
        with pytest.raises(HandlerUnreachable, match="cannot reach http:") as caught:
            build({"kind": "http", "target": url}, PATIENCE)(CALL)
        assert caught.value.about["value"] == url


@pytest.mark.parametrize("said", [b"", b"nonsense\r\n\r\n", HEAD + b"Content-Length: 9\r\n\r\n{}"])
def test_a_server_that_breaks_off(said: bytes) -> None:
    def answer(request: Request) -> None:
        request.close_connection = True
        request.wfile.write(said)

    with pytest.raises(HandlerUnreachable):
        posted(answer)
