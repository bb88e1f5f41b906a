"""PHP tasks behind a real web server: nginx or Apache with php-fpm, or PHP's own."""

import json
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.processes import REPOSITORY
from tests.support.site import eventually

TASKBUS_PHP = REPOSITORY / "clients/php/taskbus.php"
DOC = REPOSITORY / "docs/php.md"
_CHILDREN = 4


@contextmanager
def nginx(folder: Path, variables: Mapping[str, str], root: Path) -> Iterator[str]:
    """The URL of ``root``/taskbus.php as docs/php.md serves it, with these variables. Logs and
    sockets are in ``folder``, whose path is short.
    """
    port = _free_port()
    (folder / "nginx.conf").write_text(_nginx(folder, port, _location(folder, variables, root)))
    (folder / "fastcgi_params").symlink_to("/etc/nginx/fastcgi_params")
    web = [_program("nginx"), "-p", folder, "-e", folder / "error.log", "-c", folder / "nginx.conf"]
    with _fpm(folder), _running(web, folder / "nginx.out", ("127.0.0.1", port)):
        yield f"http://127.0.0.1:{port}/taskbus.php"


@contextmanager
def apache(folder: Path, variables: Mapping[str, str], root: Path) -> Iterator[str]:
    """The same by Apache."""
    port = _free_port()
    (folder / "apache.conf").write_text(_apache(folder, port, _files(folder, variables), root))
    web = [_program("apache2"), "-X", "-d", folder, "-f", folder / "apache.conf"]
    with _fpm(folder), _running(web, folder / "apache.out", ("127.0.0.1", port)):
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
    found = documented("nginx")
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
    return found


def _files(folder: Path, variables: Mapping[str, str]) -> str:
    """That of the documentation, with other values."""
    found = documented("apache").replace("/run/php/php-fpm.sock", f"{folder}/fpm.sock")
    for name, value in variables.items():
        found, count = re.subn(rf"SetEnv {name} .*", f"SetEnv {name} {value}", found)
        assert count == 1
    return found


def documented(language: str) -> str:
    """The example of docs/php.md in this language, the one under PHP over HTTP."""
    _, _, section = DOC.read_text().partition("# PHP over HTTP\n")
    found = re.search(rf"```{language}\n(.*?)```", section, re.DOTALL)
    assert found, f"no {language} in {DOC}"
    return found[1]


@contextmanager
def _fpm(folder: Path) -> Iterator[None]:
    user = "user = root" if os.geteuid() == 0 else ""
    (folder / "fpm.conf").write_text(f"""\
[global]
error_log = {folder}/fpm.log
[www]
{user}
listen = {folder}/fpm.sock
listen.mode = 0666
pm = static
pm.max_children = {_CHILDREN}
""")
    fpm = [_program("php-fpm*"), "--nodaemonize", "--fpm-config", folder / "fpm.conf"]
    if os.geteuid() == 0:
        fpm.append("--allow-to-run-as-root")
    with _running(fpm, folder / "fpm.out", folder / "fpm.sock"):
        yield


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


def _apache(folder: Path, port: int, files: str, root: Path) -> str:
    # It does not serve as root.
    folder.chmod(0o755)
    modules = "".join(
        f"LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n"
        for name in ("mpm_event", "authz_core", "env", "proxy", "proxy_fcgi")
    )
    return f"""\
ServerRoot {folder}
ServerName localhost
PidFile {folder}/apache.pid
Listen 127.0.0.1:{port}
{modules}
User www-data
Group www-data
ErrorLog {folder}/error.log
DocumentRoot {root}
{files}
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
