"""supervisord's configuration, as supervisor itself reads it."""

import shlex
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from supervisor.options import ServerOptions

from taskbus.model.apimap import ApiMap, Entry
from taskbus.model.php import PhpTarget
from taskbus.model.settings import parse_settings
from taskbus.site.programs import render_programs
from tests.support.processes import REPOSITORY

API = ApiMap(
    [
        Entry("com.example.shop.buy", "python", "tasks.shop:buy"),
        Entry("com.example.widget.show", "php", PhpTarget("php", "call.php", "php", "Show")),
    ]
)


@pytest.fixture
def folder() -> Iterator[Path]:
    """Whose path is short: sockets are below it."""
    with tempfile.TemporaryDirectory(prefix="tb", dir="/tmp") as name:
        yield Path(name)


def test_paths_arrive_as_they_are(folder: Path) -> None:
    site = folder / "a b's 100%;$x"
    settings = parse_settings("", site / "taskbus.toml")
    for folder in (settings.logs, settings.run):
        folder.mkdir(parents=True)
    template = (REPOSITORY / "supervisor/taskbus.conf").read_text()
    settings.supervisor_file.write_text(render_programs(template, settings, API))
    options = ServerOptions()
    options.realize(["--configuration", str(settings.supervisor_file)])
    programs = {
        one.name: one for group in options.process_group_configs for one in group.process_configs
    }
    words = {name: shlex.split(one.command) for name, one in programs.items()}
    socket, queue = f"unix:{settings.queue_socket}", str(settings.data / "queue")
    assert words["beanstalkd"][-4:] == ["-l", socket, "-b", queue]
    router = [site / "crossbar/start", settings.router_node, settings.router_socket]
    assert words["router"] == list(map(str, router))
    for name in ("control", "gateway", "worker-00", "backend-com.example.shop"):
        assert words[name][4:6] == ["--settings", str(settings.file)]
    php = words["php-com.example.widget-01"]
    assert str(site / "clients/php/wamp.php") in php
    assert str(settings.run / "php-com.example.widget-01.ready") in php
    for name, one in programs.items():
        assert one.directory == str(site)
        log = name.rpartition("-")[0] if name[-1].isdecimal() else name
        assert one.stdout_logfile == str(settings.logs / f"{log}.log")
