"""What has to hold before the bus can start: each check says which setting to change, and how."""

import errno
import os
import pwd
import shutil
import socket
import subprocess
import sys

from taskbus.model.errors import TaskbusError
from taskbus.model.settings import Settings


class NotReady(TaskbusError):
    """The bus cannot start, or did not become ready."""

    uri = "taskbus.error.not_ready"


def check_port(settings: Settings) -> None:
    """Nobody else listens where the router will."""
    host, port = settings.http_host, settings.http_port
    try:
        [(family, *_, address), *_] = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except (OSError, UnicodeError) as error:
        number = error.errno if isinstance(error, OSError) else None
        taken = number == errno.EADDRINUSE
        of_port = taken or number == errno.EACCES
        field, value = ("http.port", port) if of_port else ("http.host", host)
        raise NotReady(
            f"cannot listen on {host}:{port}: {getattr(error, 'strerror', error)}",
            field=field,
            value=value,
            remedy=f"{'stop what uses it, or ' if taken else ''}choose another {field} "
            f"in {settings.file}",
        ) from None


def check_programs(settings: Settings) -> None:
    """What supervisord will start is installed."""
    installer = settings.site / "setup.sh"
    install = f"run '{installer} run'" if installer.exists() else "install it"
    if shutil.which(settings.router_command) is None:
        raise NotReady(
            f"there is no program {settings.router_command}",
            field="router.command",
            value=settings.router_command,
            remedy=f"{install}, or choose another router.command in {settings.file}",
        )
    for name in ("beanstalkd", "setpriv"):
        if shutil.which(name) is None:
            raise NotReady(f"there is no program {name} in the PATH", value=name, remedy=install)


def check_users(settings: Settings) -> None:
    """The programs' users exist, can be taken on, and can run this Python and this code."""
    if not settings.users:
        return
    if os.geteuid() != 0:
        raise NotReady(
            "the settings give programs users of their own, which only root can do",
            field="user",
            remedy=f"start as root, or remove [user] from {settings.file}",
        )
    for program, name in settings.users.items():
        if problem := _cannot_run(name, settings):
            raise NotReady(
                f"user {name!r} of {program} {problem}",
                field=f"user.{program}",
                value=name,
                remedy="choose a user that exists, and a place for the project that it can read",
            )


def _cannot_run(name: str, settings: Settings) -> str:
    try:
        user = pwd.getpwnam(name)
    except KeyError:
        return "does not exist"
    done = subprocess.run(
        ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--init-groups",
         sys.executable, "-c", "import taskbus"],
        capture_output=True, text=True, errors="replace", check=False, cwd=settings.site,
    )  # fmt: skip
    if done.returncode == 0:
        return ""
    why = done.stderr.strip().rpartition("\n")[2]
    return f"cannot run {sys.executable} in {settings.site}: {why}"
