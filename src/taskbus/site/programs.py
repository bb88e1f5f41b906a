"""supervisord's configuration: its template, filled in for one site."""

import os
import pwd
import re
import sys
from pathlib import Path
from string import Template

from taskbus.model.apimap import ApiMap, longest_call
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


def render_programs(template: str, settings: Settings, api: ApiMap) -> str:
    """The configuration; supervisor reads ``%`` itself, so one in a path is doubled."""
    namespaces = api.namespaces()
    longest = max((entry.timeout for entry in api.entries.values()), default=0.0)
    # Its end must be theirs: a left-over control would go on beside the next start's.
    taskbus = f"setpriv --pdeathsig KILL {Path(sys.executable).parent / 'taskbus'}"
    values = {
        "site": settings.site,
        "run": settings.run,
        "logs": settings.logs,
        "data": settings.data,
        "router_node": settings.router_node,
        "router_start": settings.router_config.parent / "start",
        "taskbus": f"{taskbus} --settings {settings.file}",
        "worker_count": settings.worker_count,
        "longest_job": int(longest) + _GRACE_SECONDS,
        "longest_call": int(longest_call(api.entries.values())) + _GRACE_SECONDS,
        "umask": "007" if settings.users else "077",
        # Without it supervisord warns that it runs as root and does not say so.
        "supervisord_user": "user = root" if os.geteuid() == 0 else "",
        **{f"as_user_{program}": _as_user(settings, program) for program in PROGRAMS},
    }
    filled = {key: str(value).replace("%", "%%") for key, value in values.items()}
    filled["common"] = _COMMON.format_map(filled)
    return Template(_repeated(template, namespaces)).substitute(filled)


def _repeated(template: str, namespaces: list[str]) -> str:
    """Each section whose header names ``${namespace}``, once for every namespace."""
    sections = re.split(r"(?m)^(?=\[)", template)
    copies = [
        section.replace("${namespace}", namespace)
        for section in sections
        for namespace in (namespaces if "${namespace}" in section.split("\n")[0] else [""])
    ]
    return "".join(copies)


def _as_user(settings: Settings, program: str) -> str:
    """supervisord changes the user, but not what a shell would set for it."""
    name = settings.users.get(program)
    environment = f'TASKBUS_CROSSBAR="{settings.router_command}"' if program == "router" else ""
    if name is None:
        return f"environment = {environment}" if environment else ""
    home = pwd.getpwnam(name).pw_dir
    named = f'HOME="{home}",USER="{name}",LOGNAME="{name}"'
    return f"user = {name}\nenvironment = {named}{',' + environment if environment else ''}"
