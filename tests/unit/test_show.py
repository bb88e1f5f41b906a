"""What commands print."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from taskbus import show
from taskbus.model.apimap import parse_api_map
from taskbus.model.settings import parse_settings

MAP = """
[api."com.example.shop.*"]
http = "http://127.0.0.1:8000/rpc"
[api."com.example.dante.add"]
python = "tasks.examples:add"
"""


def greeted(
    folder: Path, capsys: pytest.CaptureFixture[str], detached: bool, token: str | None = None
) -> dict[str, str]:
    settings = parse_settings('[site]\nvar = "state"\n', folder / "taskbus.toml")
    show.greeting(settings, parse_api_map(MAP, "api.toml"), 1.0, detached, token)
    return dict(re.findall(r"^  (\w+) +(.+)$", capsys.readouterr().out, re.MULTILINE))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A site whose path the shell would take apart; the terminal is beside it."""
    site = tmp_path / "my site"
    (site / "cron").mkdir(parents=True)
    (site / "cron/call.sh").touch()
    monkeypatch.chdir(tmp_path)
    return site


def test_the_lines_are_the_shells_whatever_the_site(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = greeted(folder, capsys, detached=True)
    assert shlex.split(told["curl"]) == [
        "my site/cron/call.sh", "-u", "http://127.0.0.1:9080/call",
        "-s", "my site/state/secrets/bridge", "com.example.dante.add",
    ]  # fmt: skip
    settings = ["--settings", "my site/taskbus.toml"]
    assert shlex.split(told["call"])[1:] == [*settings, "call", "com.example.dante.add"]
    assert shlex.split(told["stop"])[1:] == [*settings, "down"]


def test_what_is_not_there_is_not_shown(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "cron/call.sh").unlink()
    assert "curl" not in greeted(folder, capsys, detached=False)


def test_who_may_see_the_token_gets_the_address_that_logs_in(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = greeted(folder, capsys, detached=False, token="a-b_c&d")
    assert told["page"] == "http://127.0.0.1:9080/#token=a-b_c%26d"
    assert "token" not in told


def test_who_may_not_learns_where_it_is(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = greeted(folder, capsys, detached=False)
    assert told["page"] == "http://127.0.0.1:9080/"
    assert shlex.split(told["token"]) == ["cat", "my site/state/secrets/browser"]


def test_a_list_says_what_a_job_waits_for(capsys: pytest.CaptureFixture[str]) -> None:
    job = {
        "id": "1", "uri": "com.x.y", "state": "waiting", "lane": "rate com.x.y#ann", "error": None,
        "created": 0.0, "started": None, "finished": None,
    }  # fmt: skip
    show.jobs([job, job | {"lane": None}, job | {"state": "queued"}])
    first, second, third = capsys.readouterr().out.splitlines()[1:]
    assert first.endswith("limit of rate com.x.y#ann")
    assert second.endswith("other jobs")
    assert "com.x.y#ann" not in third


def test_a_job_shows_where_its_code_has_failed(capsys: pytest.CaptureFixture[str]) -> None:
    error = {"error": "com.x.error", "message": "no"}
    job: dict[str, Any] = {
        **dict.fromkeys(("id", "uri", "queue", "worker", "lane"), ""),
        **dict.fromkeys(("priority", "timeout", "retries", "attempt"), 0),
        "args": [], "kwargs": {}, "tags": [], "details": {}, "state": "failed", "result": None,
    }  # fmt: skip
    show.job(job | {"error": error | {"traceback": "Traceback:\n  in fail\nTooBad: no\n"}}, [])
    assert "com.x.error: no\n            Traceback:\n" in capsys.readouterr().out
    show.job(job | {"error": error | {"traceback": "TaskTimeout: no\n"}}, [])
    assert "TaskTimeout" not in capsys.readouterr().out
