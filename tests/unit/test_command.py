"""What clients of the queue server ask for."""

from datetime import datetime
from typing import Any

import pytest

from taskbus.core.command import request, status, tag
from taskbus.core.plan import Plan
from taskbus.model.apimap import ApiMap
from taskbus.model.builtin import EXEC_COMMAND as EXEC
from taskbus.model.builtin import HTTP_COMMAND as HTTP
from taskbus.model.builtin import own_entry
from taskbus.model.errors import InvalidArgument
from taskbus.model.job import Job, State
from taskbus.model.options import LONGEST_TIMEOUT
from taskbus.model.program import is_allowed, words

AT = datetime(2026, 11, 21, 13, 5, 9).astimezone().timestamp()
GET = {"type": "http", "url": "http://h/x"}
PROGRAMS = [["/opt/thumbs.sh"], ["php", "resize.php", "*"]]
API = ApiMap([], built_in=[own_entry(HTTP, "x:y"), own_entry(EXEC, "x:y")])


def http(**fields: Any) -> dict[str, Any]:
    """The keyword arguments of a job whose command has these fields."""
    found = request({"command": {**GET, **fields}}, 7, [])["kwargs"]
    assert isinstance(found, dict)
    return found


def submitted(body: dict[str, Any], number: int = 7) -> Job:
    plan = Plan(API, lambda: AT, {}, is_own=True)
    plan.add(request(body, number, PROGRAMS))
    return plan.submissions[0].job


def test_the_least() -> None:
    assert request({"command": GET}, 7, []) == {
        "uri": HTTP,
        "kwargs": {
            "number": 7, "priority": 500, "context": "default",
            "url": "http://h/x", "method": "GET", "timeout": 10.0, "params": {},
        },
        "priority": 500, "timeout": 15.0, "retries": 0,
        "tags": ["queue-server:7", "context:default"],
    }  # fmt: skip


def test_everything() -> None:
    body = {
        "priority": 800, "context": "MyCoolApp", "retries": 2, "unheard_of": {"x": 1},
        "command": {**GET, "method": "post", "timeout": 20, "params": {"name": "ann"}},
        "callback_done": {"type": "http", "url": "http://h/done?job=__JOBID__"},
        "callback_error": {"type": "exec", "cmd": "php resize.php -v 'a b'"},
    }  # fmt: skip
    found = request(body, 12, PROGRAMS)
    assert found["kwargs"]["method"] == "POST"
    assert found["kwargs"]["params"] == {"name": "ann"}
    assert (found["priority"], found["timeout"], found["retries"]) == (800, 25.0, 2)
    assert found["tags"] == ["queue-server:12", "context:MyCoolApp"]
    [done], [error] = found["on_end"], found["on_failure"]
    assert done["kwargs"]["url"] == "http://h/done?job=12"
    assert done["tags"] == error["tags"] == ["callback-of:12"]
    assert error["kwargs"]["argv"] == ["php", "resize.php", "-v", "a b"]
    plan = Plan(API, lambda: AT, {}, is_own=True)
    plan.add(found)
    assert len(plan.submissions) == 3


def test_numbers_of_a_form_are_texts() -> None:
    form = {"priority": "800", "retries": "1", "command": {**GET, "timeout": "2.5"}}
    found = request(form, 7, [])
    assert (found["priority"], found["retries"], found["timeout"]) == (800, 1, 7.5)


def test_what_is_empty_is_not_there() -> None:
    found = request(
        {"command": {**GET, "params": [], "method": "", "timeout": ""}, "priority": "",
         "context": "", "callback_done": [], "callback_error": None}, 7, [],
    )  # fmt: skip
    assert found == request({"command": GET}, 7, []) | {"kwargs": {**http(), "params": []}}


@pytest.mark.parametrize(("theirs", "ours"), [(-5, 0), (0, 0), (1000, 1000), (5000, 1000)])
def test_priorities_beyond_ours_run_first_or_last(theirs: int, ours: int) -> None:
    found = request({"command": GET, "priority": theirs}, 7, [])
    assert found["priority"] == ours
    assert status(submitted({"command": GET, "priority": theirs}))["priority"] == theirs


def test_urls() -> None:
    assert http(url="http://h:81/__JOBID__?a=__JOBID__")["url"] == "http://h:81/7?a=7"
    assert http(url=" https://h/a b/é?x=%20[] ")["url"] == "https://h/a%20b/%C3%A9?x=%20[]"


def test_no_timeout_is_the_longest() -> None:
    found = request({"command": {**GET, "timeout": 0}}, 7, [])
    assert found["kwargs"]["timeout"] == found["timeout"] == LONGEST_TIMEOUT


def test_a_context_cannot_be_taken_for_another_job() -> None:
    assert (
        "queue-server:8"
        not in request({"command": GET, "context": "queue-server:8"}, 7, [])["tags"]
    )
    long = request({"command": GET, "context": "c" * 255}, 7, [])
    assert long["tags"] == ["queue-server:7"]
    assert long["kwargs"]["context"] == "c" * 255


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (None, "body"),
        ([], "body"),
        ("x", "body"),
        ({}, "command"),
        ({"command": None}, "command"),
        ({"command": "ls"}, "command"),
        ({"command": {"url": "http://h"}}, "command.type"),
        ({"command": {"type": "php"}}, "command.type"),
        ({"command": {"type": "http"}}, "command.url"),
        ({"command": {**GET, "url": "ftp://h/"}}, "command.url"),
        ({"command": {**GET, "url": "http://"}}, "command.url"),
        ({"command": {**GET, "url": "http://h:99999/"}}, "command.url"),
        ({"command": {**GET, "url": "http://h/\r\nX: y"}}, "command.url"),
        ({"command": {**GET, "url": "http://h/" + "x" * 9000}}, "command.url"),
        ({"command": {**GET, "method": "GET /x"}}, "command.method"),
        ({"command": {**GET, "method": "CONNECT"}}, "command.method"),
        ({"command": {**GET, "method": 1}}, "command.method"),
        ({"command": {**GET, "timeout": -1}}, "command.timeout"),
        ({"command": {**GET, "timeout": "soon"}}, "command.timeout"),
        ({"command": {**GET, "timeout": True}}, "command.timeout"),
        ({"command": {**GET, "params": "a=b"}}, "command.params"),
        ({"command": {"type": "exec"}}, "command.cmd"),
        ({"command": {"type": "exec", "cmd": ""}}, "command.cmd"),
        ({"command": {"type": "exec", "cmd": "rm -rf /"}}, "command.cmd"),
        ({"command": {"type": "exec", "cmd": "/opt/thumbs.sh now"}}, "command.cmd"),
        ({"command": {"type": "exec", "cmd": "/opt/thumbs.sh; id"}}, "command.cmd"),
        ({"command": {"type": "exec", "cmd": "php resize.php | sh"}}, "command.cmd"),
        ({"command": {"type": "exec", "cmd": "php 'resize.php"}}, "command.cmd"),
        ({"command": {"type": "exec", "cmd": ["php", 1]}}, "command.cmd"),
        ({"command": GET, "priority": "high"}, "priority"),
        ({"command": GET, "priority": 1.5}, "priority"),
        ({"command": GET, "priority": 1e300}, "priority"),
        ({"command": GET, "priority": float("nan")}, "body.priority"),
        ({"command": GET, "retries": 1000}, "retries"),
        ({"command": GET, "context": 5}, "context"),
        ({"command": GET, "context": "c" * 256}, "context"),
        ({"command": GET, "callback_done": {"type": "http"}}, "callback_done.url"),
        ({"command": GET, "callback_error": "http://h/"}, "callback_error"),
    ],
)
def test_what_is_wrong_is_named(body: Any, field: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        request(body, 7, PROGRAMS)
    assert caught.value.about["field"] == field
    assert caught.value.about["remedy"]


def test_exec_is_off_where_nothing_is_allowed() -> None:
    with pytest.raises(InvalidArgument) as caught:
        request({"command": {"type": "exec", "cmd": "/opt/thumbs.sh"}}, 7, [])
    assert "no exec command runs" in caught.value.about["remedy"]
    found = request({"command": {"type": "exec", "cmd": "/opt/thumbs.sh"}}, 7, PROGRAMS)
    assert (found["uri"], found["kwargs"]["argv"]) == (EXEC, ["/opt/thumbs.sh"])
    assert found["timeout"] == 300.0


def test_status() -> None:
    job = submitted({"command": GET, "priority": 800}, 11)
    assert tag(11) in job.tags
    assert status(job) == {
        "id": 11, "worker_status": 0,
        "time_added": "2026-11-21 13:05:09", "time_completed": None, "priority": 800,
    }  # fmt: skip
    ended = job._replace(state=State.SUCCEEDED, finished=AT + 61)
    assert status(ended) == {
        "id": 11, "worker_status": 3, "time_added": "2026-11-21 13:05:09",
        "time_completed": "2026-11-21 13:06:10", "priority": 800,
    }  # fmt: skip


def test_every_state_has_a_worker_status() -> None:
    job = submitted({"command": GET})
    found = {state: status(job._replace(state=state, finished=AT))["worker_status"]
             for state in State}  # fmt: skip
    waits = {State.SCHEDULED, State.WAITING, State.QUEUED, State.RETRYING}
    failed = {State.FAILED, State.DEAD, State.CANCELLED}
    assert found == {
        **dict.fromkeys(waits, 0), State.RUNNING: 1, State.SUCCEEDED: 3,
        **dict.fromkeys(failed, 99),
    }  # fmt: skip


def test_words_are_those_of_a_shell_without_its_powers() -> None:
    assert words(r"a 'b c' "
                 r'"d \" e" f\ g $HOME *.txt a;b') == [
        "a", "b c", 'd " e', "f g", "$HOME", "*.txt", "a;b",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["/opt/thumbs.sh"], True),
        (["/opt/thumbs.sh", "x"], False),
        (["/opt/thumbs.sh2"], False),
        (["php"], False),
        (["php", "resize.php"], True),
        (["php", "resize.php", "a", "b"], True),
        (["php", "other.php"], False),
        ([], False),
    ],
)
def test_what_the_settings_allow(argv: list[str], expected: bool) -> None:
    assert is_allowed(argv, PROGRAMS) is expected
    assert not is_allowed(argv, [])
