"""supervisord's configuration: its template, filled in for one site."""

import os
import pwd
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Template

from taskbus.model import php
from taskbus.model.apimap import SERVED, ApiMap, longest_call
from taskbus.model.settings import PROGRAMS, Settings

_COMMON = """\
directory = {site}
umask = {umask}
autostart = true
autorestart = true
startsecs = 1
startretries = 100000
stopsignal = TERM
killasgroup = true
redirect_stderr = true
stdout_logfile = {logs}/%(program_name)s.log
stdout_logfile_maxbytes = 10MB
stdout_logfile_backups = 3"""
_GRACE_SECONDS = 30


def backend_processes(settings: Settings, api: ApiMap) -> list[str]:
    """The names of all processes that serve the API map's URIs."""
    return [
        *(f"backend-{namespace}" for namespace in api.namespaces(SERVED)),
        *(
            f"php-{namespace}-{number:02d}"
            for namespace in api.namespaces([php.KIND])
            for number in range(settings.php_processes)
        ),
    ]


def render_programs(template: str, settings: Settings, api: ApiMap) -> str:
    """The configuration; supervisor reads ``%`` itself, so one in a path is doubled. Commands it
    splits as a shell does: what comes from here is quoted, in the template paths have their quotes.
    """
    longest = max((entry.timeout for entry in api.for_workers()), default=0.0)
    # Its end must be theirs: a left-over control would go on beside the next start's.
    taskbus = Path(sys.executable).parent / "taskbus"
    command = ["setpriv", "--pdeathsig", "KILL", str(taskbus), "--settings", str(settings.file)]
    values = {
        "site": settings.site,
        "run": settings.run,
        "logs": settings.logs,
        "data": settings.data,
        "router_node": settings.router_node,
        "router_start": shlex.quote(str(settings.router_config.parent / "start")),
        "taskbus": shlex.join(command),
        "php": _php(settings),
        "php_processes": settings.php_processes,
        "longest_job": int(longest) + _GRACE_SECONDS,
        "longest_call": int(longest_call(api.entries.values())) + _GRACE_SECONDS,
        "umask": "007" if settings.users else "077",
        # Without it supervisord warns that it runs as root and does not say so.
        "supervisord_user": "user = root" if os.geteuid() == 0 else "",
        **{f"as_user_{program}": _as_user(settings, program) for program in PROGRAMS},
    }
    filled = {key: str(value).replace("%", "%%") for key, value in values.items()}
    # The names of logs it reads twice.
    filled["common"] = _COMMON.format_map(filled | {"logs": filled["logs"].replace("%", "%%")})
    namespaces = [{"namespace": namespace} for namespace in api.namespaces(SERVED)]
    of_php = [{"php_namespace": namespace} for namespace in api.namespaces([php.KIND])]
    pools = [
        {"pool_program": pool.program, "pool": pool.name, "pool_count": str(pool.count)}
        for pool in settings.pools
    ]
    template = _repeated(template, "${namespace}", namespaces)
    template = _repeated(template, "${php_namespace}", of_php)
    return Template(_repeated(template, "${pool_program}", pools)).substitute(filled)


def _php(settings: Settings) -> str:
    """What starts a backend of PHP, up to the name of its namespace."""
    words = [
        "setpriv", "--pdeathsig", "KILL", settings.php_command, settings.php_client / "wamp.php",
        "--router", f"unix:{settings.router_socket}",
        "--secret-file", settings.secrets / "php",
        "--tasks", settings.php_tasks,
    ]  # fmt: skip
    return shlex.join(str(word) for word in words)


def _repeated(template: str, mark: str, each: Sequence[Mapping[str, str]]) -> str:
    """Each section whose header has the mark, once for each of these sets of values."""
    copies = [
        _filled(section, values)
        for section in re.split(r"(?m)^(?=\[)", template)
        for values in (each if mark in section.split("\n")[0] else [{}])
    ]
    return "".join(copies)


def _filled(section: str, values: Mapping[str, str]) -> str:
    for name, value in values.items():
        section = section.replace(f"${{{name}}}", value)
    return section


def _as_user(settings: Settings, program: str) -> str:
    """supervisord changes the user, but not what a shell would set for it."""
    name = settings.users.get(program)
    environment = f'TASKBUS_CROSSBAR="{settings.router_command}"' if program == "router" else ""
    if name is None:
        return f"environment = {environment}" if environment else ""
    home = pwd.getpwnam(name).pw_dir
    named = f'HOME="{home}",USER="{name}",LOGNAME="{name}"'
    return f"user = {name}\nenvironment = {named}{',' + environment if environment else ''}"
