"""PHP tasks behind a real web server: nginx with php-fpm, or PHP's own."""

import json
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tests.support.processes import REPOSITORY
from tests.support.site import eventually

TASKBUS_PHP = REPOSITORY / "clients/php/taskbus.php"
_DOC = REPOSITORY / "docs/php.md"
_CHILDREN = 4


@contextmanager
def nginx(folder: Path, variables: Mapping[str, str], root: Path) -> Iterator[str]:
    """The URL of ``root``/taskbus.php as docs/php.md serves it, with these variables. Logs and
    sockets are in ``folder``, whose path is short.
    """
    port = _free_port()
    (folder / "fpm.conf").write_text(_fpm(folder))
    (folder / "nginx.conf").write_text(_nginx(folder, port, _location(folder, variables, root)))
    (folder / "fastcgi_params").symlink_to("/etc/nginx/fastcgi_params")
    fpm = [_program("php-fpm*"), "--nodaemonize", "--fpm-config", folder / "fpm.conf"]
    if os.geteuid() == 0:
        fpm.append("--allow-to-run-as-root")
    web = [_program("nginx"), "-p", folder, "-e", folder / "error.log", "-c", folder / "nginx.conf"]
    with ExitStack() as stack:
        stack.enter_context(_running(fpm, folder / "fpm.out", folder / "fpm.sock"))
        stack.enter_context(_running(web, folder / "nginx.out", ("127.0.0.1", port)))
        yield f"http://127.0.0.1:{port}/taskbus.php"


@contextmanager
def php_server(folder: Path, variables: Mapping[str, str], root: Path) -> Iterator[str]:
    """The same by ``php -S``, which serves one request after the other."""
    port = _free_port()
    # Debian's command line has no such limit.
    command = ["php", "-d", "memory_limit=128M", "-S", f"127.0.0.1:{port}", root / "taskbus.php"]
    with _running(command, folder / "error.log", ("127.0.0.1", port), variables):
        yield f"http://127.0.0.1:{port}/taskbus.php"


def _location(folder: Path, variables: Mapping[str, str], root: Path) -> str:
    """That of the documentation, with other values; raises where it has none for a variable."""
    [found] = re.findall(r"```nginx\n(.*?)```", _DOC.read_text(), re.DOTALL)
    values = {
        "fastcgi_pass": f"unix:{folder}/fpm.sock",
        "fastcgi_param SCRIPT_FILENAME": str(root / "taskbus.php"),
        "fastcgi_param TASKBUS_SECRET_FILE": "",
    } | {f"fastcgi_param {name}": value for name, value in variables.items()}
    for name, value in values.items():
        line = f"{name} {json.dumps(value)};"
        found, count = re.subn(rf"{name} [^;]*;", line.replace("\\", r"\\"), found)
        if not count:
            found = found.replace("{\n", f"{{\n    {line}\n", 1)
    return str(found)


def _fpm(folder: Path) -> str:
    user = "user = root" if os.geteuid() == 0 else ""
    return f"""\
[global]
error_log = {folder}/fpm.log
[www]
{user}
listen = {folder}/fpm.sock
pm = static
pm.max_children = {_CHILDREN}
"""


def _nginx(folder: Path, port: int, location: str) -> str:
    temporary = "".join(
        f"    {kind}_temp_path {folder}/{kind};\n"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    return f"""\
daemon off;
master_process off;
pid {folder}/nginx.pid;
events {{}}
http {{
    access_log off;
{temporary}
    server {{
        listen 127.0.0.1:{port};
{location}
    }}
}}
"""


def _program(name: str) -> str:
    """Where daemons are, but not on every user's path; the newest of those that Debian has."""
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin", "/sbin"])
    if found := shutil.which(name, path=path):
        return found
    folders = (Path(folder) for folder in path.split(os.pathsep))
    return str(max(one for folder in folders for one in folder.glob(name)))


@contextmanager
def _running(
    command: list[Any], output: Path, address: Any, variables: Mapping[str, str] | None = None
) -> Iterator[None]:
    with (
        output.open("wb") as out,
        subprocess.Popen(
            [str(word) for word in command],
            stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
            env={**os.environ, **(variables or {})},
        ) as process,
    ):  # fmt: skip
        try:
            eventually(lambda: process.poll() is not None or _listens(address))
            assert process.poll() is None, output.read_text()
            yield
        finally:
            process.terminate()


def _listens(address: Any) -> bool:
    family = socket.AF_INET if isinstance(address, tuple) else socket.AF_UNIX
    with socket.socket(family) as probe:
        try:
            probe.connect(address if isinstance(address, tuple) else str(address))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
    return True


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
