"""What cannot start says why: the field, its value, what to do, and the documented exit code."""

import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.processes import REPOSITORY
from tests.support.site import Done, Site, make_site

NOT_READY, CONFIG = 3, 4


@pytest.fixture
def site() -> Iterator[Site]:
    # Short: the paths of sockets are limited.
    with tempfile.TemporaryDirectory(prefix="tb") as name:
        yield make_site(Path(name))


def change(site: Site, old: str, new: str) -> None:
    text = site.settings.read_text()
    assert old in text
    site.settings.write_text(text.replace(old, new))


def crossbar(site: Site) -> str:
    [line] = [one for one in site.settings.read_text().split("\n") if one.startswith("command")]
    return line


def refused(site: Site, *words: str) -> None:
    """``up`` is refused, in words that a person can act on, and leaves no process."""
    done: Done = site.taskbus("up", "--detach")
    assert done.returncode == NOT_READY
    assert done.stderr.startswith("error taskbus.error.not_ready: ")
    assert "remedy: " in done.stderr
    for word in words:
        assert word in done.stderr
    assert site.processes() == []


def test_a_port_in_use(site: Site) -> None:
    with socket.create_server(("127.0.0.1", site.port)):
        refused(site, "http.port", f"127.0.0.1:{site.port}", "in use", str(site.settings))


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid", "no..host"])
def test_a_host_that_is_not_this_one(site: Site, host: str) -> None:
    change(site, "[http]", f'[http]\nhost = "{host}"')
    refused(site, "http.host", host)


def test_a_missing_crossbar(site: Site) -> None:
    change(site, crossbar(site), 'command = "nowhere/crossbar"')
    refused(site, "router.command", f"{site.folder}/nowhere/crossbar", "install it")


def test_a_router_that_ends_at_once_is_told_with_what_it_said_this_time(site: Site) -> None:
    change(site, crossbar(site), 'command = "false"')
    (site.var / "log").mkdir(parents=True)
    (site.var / "log/router.log").write_text("what an earlier start said\n")
    done = site.taskbus("up", "--detach")
    assert done.returncode == NOT_READY
    assert "router does not start" in done.stderr
    assert str(site.var / "log/router.log") in done.stderr
    assert "earlier" not in done.stderr


def test_a_program_that_ends_only_after_a_while(site: Site) -> None:
    task = 'import time\ntime.sleep(2)\nraise ValueError("not today")\n'
    (site.folder / "late.py").write_text(task)
    change(site, f'tasks = "{REPOSITORY}/workers"', f'tasks = "{site.folder}"')
    (site.folder / "api.toml").write_text('[api."com.example.a.b"]\npython = "late:task"\n')
    done = site.taskbus("up", "--detach")
    assert done.returncode == NOT_READY
    assert "backend-com.example.a does not start" in done.stderr
    assert done.stderr.count("not today") == 1


def test_a_place_that_cannot_be_written(site: Site) -> None:
    change(site, "[site]", '[site]\nvar = "taskbus.toml/var"')
    refused(site, "cannot write", "taskbus.toml/var", "site.var")


def test_data_that_cannot_be_written(site: Site) -> None:
    (site.var / "data/taskbus.db").mkdir(parents=True)
    refused(site, "taskbus.db", "store.url")


def test_a_user_that_does_not_exist(site: Site) -> None:
    change(site, "[http]", '[user]\nworker = "nobody-of-that-name"\n[http]')
    refused(site, "user")


def test_a_template_that_is_missing(site: Site) -> None:
    change(site, "crossbar/config.json", "crossbar/nowhere.json")
    done = site.taskbus("up", "--detach")
    assert done.returncode == CONFIG
    assert "crossbar/nowhere.json: cannot be read" in done.stderr


@pytest.mark.parametrize(
    ("target", "problem"),
    [
        ('python = "tasks.nowhere:Task"', "No module named"),
        ('python = "tasks.dante:Nothing"', "no attribute 'Nothing'"),
        ('python = "tasks:__name__"', "neither a function nor a class with run"),
        ('python = "pathlib:Path"', "neither a function nor a class with run"),
        ('exec = ["no-such-program"]', "no-such-program"),
    ],
)
def test_check_names_the_line_whose_target_is_not_there(
    site: Site, target: str, problem: str
) -> None:
    with (site.folder / "api.toml").open("a") as api:
        api.write(f'\n[api."com.example.test.x"]\n{target}\n')
    line = len((site.folder / "api.toml").read_text().splitlines())
    done = site.taskbus("check")
    assert done.returncode == CONFIG
    assert f"api.toml:{line}: com.example.test.x: " in done.stderr
    assert problem in done.stderr
