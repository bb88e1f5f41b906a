"""A whole site for tests: its own folder, port and processes, brought up by the command itself."""

import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

from tests.support.processes import PATIENCE, REPOSITORY
from tests.support.router import Router, Session, Via, joined

_LOOK_SECONDS = 0.05
_COMMAND_SECONDS = 180

# Of a site whose settings say nothing of PHP.
_PHP = f"""\
[php]
tasks = "{REPOSITORY}/workers/php"
client = "{REPOSITORY}/clients/php"
"""

T = TypeVar("T")
Done = subprocess.CompletedProcess[str]


@dataclass(frozen=True)
class Site:
    """A site that is up."""

    folder: Path
    port: int
    within: tuple[str, ...] = ()

    @property
    def settings(self) -> Path:
        """The settings file."""
        return self.folder / "taskbus.toml"

    @property
    def var(self) -> Path:
        """What the site made at run time."""
        return self.folder / "var"

    @property
    def socket(self) -> Path:
        """RawSocket of the router."""
        return self.var / "run/router.sock"

    @property
    def bridge(self) -> str:
        """The URL that takes signed calls."""
        return f"http://127.0.0.1:{self.port}/call"

    def taskbus(self, *arguments: object) -> Done:
        """Run a command of the CLI to its end."""
        program = REPOSITORY / ".venv/bin/taskbus"
        return _run(*self.within, program, "--settings", self.settings, *arguments)

    def supervisorctl(self, *arguments: object) -> Done:
        """Run a command of supervisorctl to its end."""
        program = REPOSITORY / ".venv/bin/supervisorctl"
        return _run(*self.within, program, "-c", self.var / "supervisord.conf", *arguments)

    def ticket(self, principal: str) -> str:
        """What this principal joins with."""
        return (self.var / "secrets" / principal).read_text().strip()

    def bridge_secret(self) -> dict[str, Any]:
        """What signs calls over HTTP: ``key`` and ``secret``."""
        lines = self.ticket("bridge").split("\n")
        return dict(line.split("=", 1) for line in lines)

    @contextmanager
    def joined(self, principal: str = "operator") -> Iterator[Session]:
        """A WAMP session with the site's own secret."""
        ticket = self.ticket(principal)
        via: Via = "websocket" if principal == "browser" else "socket"
        # Where it is, is all that a session wants to know of a router.
        with joined(cast("Router", self), principal, ticket, via) as session:
            yield session

    def status(self) -> dict[str, Any]:
        """What ``status --json`` tells, whatever its exit code."""
        told: dict[str, Any] = json.loads(self.taskbus("status", "--json").stdout)
        return told

    def pid(self, program: str) -> int:
        """The process of a program, as ``status`` names it."""
        [found] = [one["pid"] for one in self.status()["programs"] if one["name"] == program]
        return int(found)

    def kill(self) -> None:
        """End it at once, if it is up: what supervisord started dies with it."""
        for pid, line in command_lines():
            if "supervisord" in line and str(self.folder) in line:
                os.kill(pid, signal.SIGKILL)

    def await_ready(self) -> None:
        """Wait until every part does its job."""
        eventually(lambda: self.taskbus("status").returncode == 0)

    def processes(self) -> list[str]:
        """Command lines of the processes that name this site."""
        return [line for _, line in command_lines() if str(self.folder) in line]


@contextmanager
def running_site(
    folder: Path, settings: str = "", entries: str = "", within: tuple[str, ...] = ()
) -> Iterator[Site]:
    """A site in ``folder`` (whose path is short: it holds sockets) that is up and ready.

    ``settings`` and ``entries`` are added to its settings and to its API map; ``within`` are words
    in front of each of its commands.
    """
    site = make_site(folder, settings, entries, within)
    try:
        up = site.taskbus("up", "--detach")
        assert up.returncode == 0, up.stderr
        yield site
    finally:
        if site.taskbus("down").returncode != 0:
            site.kill()


def make_site(
    folder: Path, settings: str = "", entries: str = "", within: tuple[str, ...] = ()
) -> Site:
    """The files of a site that has not been up yet; see ``running_site``."""
    site = Site(folder, _free_port(), within)
    _write_files(site, settings, entries)
    return site


def eventually(look: Callable[[], T], seconds: float = PATIENCE) -> T:
    """What ``look`` returns once that is true; AssertionError when it never is."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, f"not within {seconds:g} seconds"
        time.sleep(_LOOK_SECONDS)
    return found


def children(pid: int) -> list[int]:
    """The processes whose parent is this one."""
    return [
        child for child, stat in _of_each("stat") if int(stat.rpartition(")")[2].split()[1]) == pid
    ]


def descendants(pid: int) -> set[int]:
    """All processes below this one."""
    return {one for child in children(pid) for one in (child, *descendants(child))}


def alive(pids: set[int]) -> set[int]:
    """Those that still run: a zombie has no command line any more."""
    return {pid for pid, line in command_lines() if line and pid in pids}


def command_lines() -> Iterator[tuple[int, str]]:
    """Every process and its words, a blank after each."""
    return ((pid, words.replace("\0", " ")) for pid, words in _of_each("cmdline"))


def _of_each(name: str) -> Iterator[tuple[int, str]]:
    # Not by a pattern: looking whether a file is there fails for a process that has just ended.
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        try:
            yield int(pid), Path(f"/proc/{pid}/{name}").read_text(errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            continue


def _write_files(site: Site, settings: str, entries: str) -> None:
    api = (REPOSITORY / "api.toml").read_text()
    programs = '"workers/'
    assert programs in api
    (site.folder / "api.toml").write_text(
        api.replace(programs, f'"{REPOSITORY}/workers/') + entries
    )
    # Copied, not linked: the scripts look for the secrets beside their folder.
    shutil.copytree(REPOSITORY / "cron", site.folder / "cron")
    site.settings.write_text(f"""\
[site]
tasks = "{REPOSITORY}/workers"
[http]
port = {site.port}
[worker]
count = 2
slots = 2
ttr = 3
[router]
command = "{REPOSITORY}/.venv-router/bin/crossbar"
config = "{REPOSITORY}/crossbar/config.json"
web = "{REPOSITORY}/crossbar/web"
[supervisor]
config = "{REPOSITORY}/supervisor/taskbus.conf"
{"" if "[php]" in settings else _PHP}
{settings}""")


def _run(*command: object) -> Done:
    """What it starts can import the tests' tasks."""
    return subprocess.run(
        [str(word) for word in command],
        capture_output=True, text=True, check=False, timeout=_COMMAND_SECONDS,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )  # fmt: skip


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
