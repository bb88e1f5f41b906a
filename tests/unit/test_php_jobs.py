"""PHP jobs, each in a process of its own: forked from a warm PHP, or started cold."""

import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from taskbus.model.apimap import ApiMap, Entry
from taskbus.model.job import Note
from taskbus.model.php import PhpSite
from taskbus.worker.attempt import Attempt
from taskbus.worker.channel import wait_readable
from taskbus.worker.forkers import Forkers
from taskbus.worker.spares import ForkerGone, Spares
from tests.support.attempts import (
    PATH,
    PHP,
    TIMEOUT,
    Watch,
    begin,
    finish,
    job_in_hand_outlives_a_shortage,
    php_spares,
    printed,
    step,
    take,
    text_of,
)
from tests.support.processes import PATIENCE, REPOSITORY, line, python
from tests.support.site import alive, eventually

CLASSES = {
    "com.t.does": "Jobs\\Does",
    "com.t.syntax": "Broken\\Syntax",
    "com.t.fatal": "Broken\\Fatal",
    "com.t.leaving": "Broken\\Leaving",
    "com.t.drawing": "Broken\\Drawing",
    "com.t.nothing": "Broken\\Nothing",
}


def made(variant: str) -> Spares:
    if variant == "warm":
        return php_spares(CLASSES, 2)
    handlers = {uri: {"kind": "php", "target": PHP.target(name)} for uri, name in CLASSES.items()}
    return Spares(handlers, PATH, 2)


@pytest.fixture(scope="module", params=["warm", "cold"])
def spares(request: pytest.FixtureRequest) -> Iterator[Spares]:
    """For the tests that leave it as it was, in both variants."""
    found = made(request.param)
    yield found
    found.close()


@pytest.fixture
def warm() -> Iterator[Spares]:
    """For one test."""
    found = made("warm")
    yield found
    found.close()


def run(spares: Spares, *args: Any, name: str = "does") -> tuple[Attempt, list[Note]]:
    attempt = begin(spares, name, *args)
    notes = finish(spares, attempt)
    return attempt, notes


def told(attempt: Attempt, ok: bool) -> dict[str, Any]:
    assert attempt.outcome is not None
    assert attempt.outcome.ok is ok, attempt.outcome.body
    found: dict[str, Any] = json.loads(attempt.outcome.body)
    return found


def result(spares: Spares, *args: Any) -> Any:
    """The positional results of a task that has to succeed."""
    return told(run(spares, *args)[0], True)["args"]


def test_a_result(spares: Spares) -> None:
    odd = [{}, [], {"": {}}, "é\0🚀", 1.0, 1, None, 9007199254740993]
    attempt = begin(spares, "does", "echo", *odd, a={"b": [1.5]})
    notes = finish(spares, attempt)
    assert told(attempt, True) == {
        "args": ["com.t.does", *odd],
        "kwargs": {
            "a": {"b": [1.5]},
            "details": {"caller_authid": "ann", "job": attempt.job.id, "attempt": 1},
        },
    }
    assert attempt.outcome is not None
    assert "1.0" in attempt.outcome.body
    assert notes == []


def test_much_goes_both_ways(spares: Spares) -> None:
    text = "é" * 3_000_000
    assert result(spares, "echo", text) == ["com.t.does", text]
    assert result(spares, "blob", 6_000_000) == [text]


def test_a_failure(spares: Spares) -> None:
    found = told(run(spares, "fail")[0], False)
    assert (found["error"], found["message"]) == ("com.example.error.asked", "as asked")
    assert found["about"] == {"value": "x", "remedy": "do not ask"}
    assert "Does.php" in found["traceback"]


def test_an_exception(spares: Spares) -> None:
    attempt, notes = run(spares, "crash")
    found = told(attempt, False)
    assert found["error"] == "taskbus.error.task_failed"
    assert found["message"] == "DomainException: of all things"
    assert found["about"] == {"type": "DomainException"}
    assert "crash()" in found["traceback"]
    assert "DomainException: of all things in" in text_of(notes, "stderr")


def test_an_error_of_php(spares: Spares) -> None:
    found = told(run(spares, "undefined")[0], False)
    assert found["message"] == "Error: Call to undefined function Jobs\\no_such_function()"


@pytest.mark.parametrize("status", [0, 3])
def test_leaving_is_a_failure(spares: Spares, status: int) -> None:
    attempt, notes = run(spares, "leave", status)
    found = told(attempt, False)
    assert (found["error"], found["message"]) == (
        "taskbus.error.task_failed",
        "the task called exit()",
    )
    assert text_of(notes) == "held back\nthe last word\n"


def test_a_process_that_the_task_forks_does_not_answer(spares: Spares) -> None:
    assert result(spares, "fork") == [7]


def test_memory_that_php_refuses(spares: Spares) -> None:
    attempt, notes = run(spares, "exhaust")
    found = told(attempt, False)
    assert found["message"].startswith("Allowed memory size of 33554432 bytes exhausted")
    assert found["about"] == {"type": "fatal error"}
    assert text_of(notes, "stderr").count("Allowed memory size") == 1


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("syntax", "ParseError: syntax error"),
        ("fatal", "Class Broken\\Fatal contains 1 abstract method"),
        ("leaving", "the task called exit()"),
        ("nothing", "there is no file"),
    ],
)
def test_a_class_that_cannot_be_loaded_fails_its_own_jobs_only(
    spares: Spares, name: str, said: str
) -> None:
    assert said in told(run(spares, name=name)[0], False)["message"]
    assert result(spares, "echo") == ["com.t.does"]


def test_a_request_that_php_cannot_read(spares: Spares) -> None:
    found = told(run(spares, "echo", {"\0a": 1})[0], False)
    assert (found["error"], found["message"]) == (
        "taskbus.error.invalid_argument",
        "the request is not a JSON object",
    )


def test_output(spares: Spares) -> None:
    attempt, notes = run(spares, "say")
    assert told(attempt, True)["args"] == [None]
    assert text_of(notes) == "echoed\nwritten\nput\npassed\ntold by a program\n"
    complaints = text_of(notes, "stderr").splitlines()
    assert complaints[:2] == ["complained", "noted"]
    assert "Warning" in complaints[2]
    assert "warned in" in complaints[2]
    assert len(complaints) == 3


def test_a_task_ends_with_its_job(spares: Spares) -> None:
    attempt, notes = run(spares, "regret")
    assert told(attempt, True)["args"] == [1]
    assert text_of(notes) == "destructed\n"
    assert "DomainException: regretted" in text_of(notes, "stderr")


def test_progress(spares: Spares) -> None:
    _, notes = run(spares, "progress")
    assert notes == [("progress", {"fraction": 1.0, "message": "zażółć"})]


def test_stdin_is_empty_and_the_standard_streams_are_open(spares: Spares) -> None:
    assert result(spares, "input") == [["", True, True]]


def test_each_job_has_a_process_a_group_and_a_session_of_its_own(warm: Spares) -> None:
    [first], [second] = result(warm, "identity"), result(warm, "identity")
    for pid, group, session, parent in (first, second):
        assert pid == group == session
        assert parent == warm._process.pid
    assert first[0] != second[0]


def test_programs_inherit_nothing_of_a_warm_child(warm: Spares) -> None:
    [found] = result(warm, "inherited")
    assert not [one for one in found if one.startswith("socket:")]
    # Its stdout and its stderr.
    assert len([one for one in found if one.startswith("pipe:")]) == 2


def test_children_draw_lots_for_themselves(spares: Spares) -> None:
    drawn = [told(run(spares, name="drawing")[0], True)["args"][0] for _ in range(2)]
    assert drawn[0] != drawn[1]


def test_a_program_in_the_background_is_not_waited_for(spares: Spares) -> None:
    [pid] = result(spares, "background")
    eventually(lambda: not alive({pid}))


@pytest.mark.parametrize("what", ["sleep", "wait"])
def test_a_job_over_its_time_ends_with_its_programs(spares: Spares, what: str) -> None:
    attempt = begin(spares, "does", what)
    with Watch(int(printed(spares, attempt))) as watch:
        attempt.enforce(TIMEOUT)
        finish(spares, attempt)
        assert told(attempt, False)["error"] == "taskbus.error.timeout"
        assert watch.ended()


def test_a_task_may_clean_up_after_its_timeout(spares: Spares) -> None:
    attempt = begin(spares, "does", "tidy")
    printed(spares, attempt)
    attempt.enforce(TIMEOUT)
    assert text_of(finish(spares, attempt)) == "tidied\n"
    assert told(attempt, False)["error"] == "taskbus.error.timeout"


def test_one_call_by_hand() -> None:
    program = [*PHP._replace(tasks=str(REPOSITORY / "workers/php")).target("Example\\GetFreeSpace")]
    request = '{"uri": "com.example.x", "args": ["/"]}'
    done = subprocess.run(program, input=request, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["kwargs"].keys() == {"total", "used"}
    done = subprocess.run(program[:-1], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("usage: php task.php FOLDER CLASS")


def test_a_killed_child(warm: Spares) -> None:
    found = told(run(warm, "suicide")[0], False)
    assert found["error"] == "taskbus.error.killed"
    assert found["about"] == {"signal": "SIGKILL"}
    assert result(warm, "echo") == ["com.t.does"]


def test_a_killed_spare_is_replaced(warm: Spares) -> None:
    take(warm).close()
    killed = warm._idle[0].pid
    os.kill(killed, signal.SIGKILL)
    while killed in [one.pid for one in warm._idle]:
        assert wait_readable([warm.fileno()], PATIENCE)
        warm.hear()
    assert result(warm, "echo") == ["com.t.does"]


def test_many_jobs_leave_nothing_behind(warm: Spares) -> None:
    result(warm, "echo")
    files = len(os.listdir("/proc/self/fd"))
    theirs = len(os.listdir(f"/proc/{warm._process.pid}/fd"))
    for number in range(50):
        assert result(warm, "echo", number) == ["com.t.does", number]
    assert len(os.listdir("/proc/self/fd")) <= files + 6
    eventually(lambda: len(os.listdir(f"/proc/{warm._process.pid}/fd")) <= theirs + 6)


def hear_to_the_end(spares: Spares, attempt: Attempt) -> None:
    while True:
        step(spares, attempt)


def test_a_machine_short_of_processes_costs_no_job_in_hand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    short = tmp_path / "short"
    monkeypatch.setenv("TASKBUS_TEST_NO_FORK", str(short))
    first = f"auto_prepend_file={REPOSITORY}/tests/support/php/forkless.php"
    own = Spares(CLASSES, [PHP.tasks], 2, ["php", "-d", first, *PHP.forker[1:]])
    job_in_hand_outlives_a_shortage(own, short, capfd, "does", "sleep")


def test_a_killed_forker_takes_its_children_along(warm: Spares) -> None:
    attempt = begin(warm, "does", "sleep")
    pid = int(printed(warm, attempt))
    with ExitStack() as stack:
        watches = [
            stack.enter_context(Watch(one)) for one in (pid, *(one.pid for one in warm._idle))
        ]
        os.kill(warm._process.pid, signal.SIGKILL)
        assert all(watch.ended() for watch in watches)
    with pytest.raises(ForkerGone):
        hear_to_the_end(warm, attempt)
    attempt.abandoned(0.0)
    assert told(attempt, False)["error"] == "taskbus.error.killed"
    attempt.child.close()


def test_a_class_that_never_loads_does_not_outlive_the_forker(tmp_path: Path) -> None:
    began = tmp_path / "began"
    endless = f"<?php file_put_contents('{began}', getmypid()); sleep(100);"
    (tmp_path / "Endless.php").write_text(endless)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    command = [*PHP.forker, str(theirs.fileno())]
    with (
        ours, theirs,
        subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=[theirs.fileno()]) as forker,
    ):  # fmt: skip
        config = {"handlers": {"com.t.endless": "Endless"}, "path": [str(tmp_path)]}
        assert forker.stdin
        forker.stdin.write(json.dumps(config).encode())
        forker.stdin.close()
        try:
            child = int(eventually(lambda: began.exists() and began.read_text()))
        finally:
            forker.kill()
    eventually(lambda: not alive({child}))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_outlives_the_parent(number: int) -> None:
    with python("-m", "tests.support.forker_parent", "php") as parent, ExitStack() as stack:
        pids = [int(word) for word in line(parent).split()]
        assert len(pids) == 3
        watches = [stack.enter_context(Watch(pid)) for pid in pids]
        parent.send_signal(number)
        # The program that the task waits for has its group from the child, and goes with that.
        assert all(watch.ended() for watch in watches)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["/nowhere/php"], "cannot start /nowhere/php: No such file or directory"),
        (["php", "-d", "ffi.enable=0"], "the forker is gone (exit status 1)"),
        (["php", "-n", "-d", "extension=pcntl"], "the forker is gone (exit status 1)"),
    ],
)
def test_a_php_that_cannot_be_a_forker(
    command: list[str], said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ForkerGone) as caught:
        Spares(CLASSES, [PHP.tasks], 1, [*command, *PHP.forker[1:]])
    assert said in str(caught.value)
    if len(command) > 1:
        assert "warm PHP processes" in capfd.readouterr().err


def a_map(*kinds: str) -> ApiMap:
    targets: dict[str, Any] = {"php": PHP.target("Jobs\\Does"), "python": "tests.support.tasks:add"}
    return ApiMap([Entry(f"com.t.{kind}", kind, targets[kind]) for kind in kinds])


@contextmanager
def forkers(api: ApiMap, php: PhpSite | None) -> Iterator[Forkers]:
    found = Forkers(api, PATH, 6, php)
    yield found
    for spares in found:
        spares.close()


def test_each_kind_has_its_forker() -> None:
    api = a_map("php", "python")
    with forkers(api, PHP) as found:
        python, php = found
        assert found.of(api.entry("com.t.python")) is python
        assert found.of(api.entry("com.t.php")) is php
        assert (python._low, php._low) == (6, 4)
        attempt = begin(php, "php", "echo")
        finish(php, attempt)
        assert told(attempt, True)["args"] == ["com.t.php"]


@pytest.mark.parametrize(
    ("kinds", "php"),
    [(["python"], PHP), (["php"], None), (["php"], PHP._replace(command="/nowhere/php"))],
)
def test_there_is_no_warm_php(
    kinds: list[str], php: PhpSite | None, caplog: pytest.LogCaptureFixture
) -> None:
    """None is needed, or wanted; or there cannot be one, and jobs start cold."""
    api = a_map(*kinds)
    with forkers(api, php) as found:
        [python] = found
        assert found.of(api.entry(f"com.t.{kinds[0]}")) is python
        if kinds == ["php"]:
            attempt = begin(python, "php", "echo")
            finish(python, attempt)
            assert told(attempt, True)["args"] == ["com.t.php"]
    assert caplog.messages == (
        []
        if php in (PHP, None)
        else [
            "each PHP job starts a PHP of its own, which takes longer: "
            "cannot start /nowhere/php: No such file or directory"
        ]
    )


def test_where_our_php_is() -> None:
    site = PhpSite("php", "/x", "/y")
    assert site.forker == ("php", "/x/warm.php")
    assert Path(site.target("A").script).parent == Path("/x")
