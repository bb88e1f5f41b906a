"""Bring the bus up, look at it, take it down: what an operator's commands do."""

import http.client
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from supervisor.xmlrpc import Faults, SupervisorTransport

from taskbus.adapter.process import Presence
from taskbus.model import php
from taskbus.model.apimap import ApiMap
from taskbus.model.errors import StoreUnavailable
from taskbus.model.options import DEFAULT_QUEUE
from taskbus.model.settings import WORKER, Settings
from taskbus.site.checks import NotReady, check_port, check_programs, check_users
from taskbus.site.folders import (
    prepare_folders,
    read_bridge,
    shared_group,
    user_id,
    write_private,
)
from taskbus.site.programs import backend_processes, render_programs
from taskbus.site.router import render_node
from taskbus.wire import check_incoming, make_store, read_api_map, read_text

_LOOK_SECONDS = 0.05
_READY_SECONDS = 120.0
_SPAWN_SECONDS = 10.0
_SHOWN_LOG = 2000
_MOST_FILES = 65536
_FATAL = ("FATAL", "BACKOFF")


class Stopping(NotReady):
    """The bus is on its way down."""


class Program(NamedTuple):
    """One process under supervisord. ``ready``: it does its job, not merely runs."""

    name: str
    state: str
    pid: int
    ready: bool
    note: str


def prepare(settings: Settings) -> ApiMap:
    """Everything that ``up`` writes before it starts anything; raises ConfigError, NotReady."""
    api = read_api_map(settings)
    check_users(settings)
    check_programs(settings)
    check_incoming(settings, api)
    node, programs = read_text(settings.router_config), read_text(settings.supervisor_config)
    # One that is up reads its files again whenever a program of it has to be started again.
    _check_down(settings)
    try:
        _write_site(settings, api, node, programs)
    except OSError as error:
        raise NotReady(
            f"cannot write {error.filename or settings.var}: {error.strerror}",
            field="site.var",
            value=str(settings.var),
            remedy=f"make {settings.var} writable, or choose another site.var in {settings.file}",
        ) from None
    return api


def _write_site(
    settings: Settings, api: ApiMap, node_template: str, programs_template: str
) -> None:
    prepare_folders(settings)
    _make_database(settings)
    key, secret = read_bridge(settings)
    tickets = {
        f"ticket_{name}": (settings.secrets / name).read_text(encoding="utf-8").strip()
        for name in ("control", "backend", "gateway", "php", "operator", "browser")
    }
    node = render_node(
        node_template,
        {
            "http_host": settings.http_host,
            "http_port": settings.http_port,
            "web_dir": str(settings.web),
            "router_socket": str(settings.router_socket),
            "router_python": str(settings.router_config.parent),
            "gateway_socket": str(settings.gateway_socket),
            "gateway_body": settings.gateway_body,
            "notify_topic": settings.notify_topic,
            "bridge_key": key,
            "bridge_secret": secret,
            **tickets,
        },
        api.namespaces(),
    )
    write_private(settings.router_node / "config.json", node, user_id(settings, "router"))
    programs = render_programs(programs_template, settings, api)
    write_private(settings.supervisor_file, programs)


def start(settings: Settings, api: ApiMap, attached: bool, tell: Callable[[str], None]) -> int:
    """Start supervisord and wait until every part does its job; returns supervisord's pid.

    ``attached``: it ends with this process. ``tell`` hears of each part that becomes ready.
    Raises NotReady, with the log of the part that failed, and leaves nothing running.
    """
    check_port(settings)
    settings.supervisor_socket.unlink(missing_ok=True)
    _allow_connections()
    logs = _Logs(settings.logs)
    process = subprocess.Popen(
        [
            *(["setpriv", "--pdeathsig", "TERM"] if attached else []),
            str(Path(sys.executable).parent / "supervisord"),
            "--nodaemon",
            "--configuration",
            str(settings.supervisor_file),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        _await_ready(settings, api, process, logs, tell)
    except BaseException:
        _take_back(settings, process, tell)
        raise
    return process.pid


def _allow_connections() -> None:
    """A shell's usual 1024 open files are too few: a stream over HTTP takes two in the router."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= soft < _MOST_FILES:  # A negative one is none.
        most = min(_MOST_FILES, hard) if hard >= 0 else _MOST_FILES
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def page_token(settings: Settings) -> str:
    """What logs in at the page, as the principal ``browser``."""
    return (settings.secrets / "browser").read_text(encoding="utf-8").strip()


def parts(settings: Settings, api: ApiMap) -> list[str]:
    """The names of all processes that make up the bus."""
    workers = [
        f"{pool.program}-{number:02d}" for pool in settings.pools for number in range(pool.count)
    ]
    return [
        "beanstalkd",
        "router",
        "control",
        "gateway",
        *backend_processes(settings, api),
        *workers,
    ]


def programs(settings: Settings) -> list[Program]:
    """What runs now; raises NotReady when supervisord does not answer."""
    with _supervisor(settings) as proxy:
        found = proxy.getAllProcessInfo()
    answers = _page_answers(settings)
    shown = []
    for info in found:
        name, state = info["name"], info["statename"]
        if name == "router":
            ready, note = answers, settings.url
        elif name == "beanstalkd":
            ready, note = _socket_answers(settings.queue_socket), ""
        else:
            about = Presence.look(settings.run, name)
            ready = about is not None and about["pid"] == info["pid"]
            note = _told(about or {})
        shown.append(Program(name, state, info["pid"], ready and state == "RUNNING", note))
    return shown


def _told(about: Mapping[str, Any]) -> str:
    """What a program serves."""
    if "uris" in about:
        return f"{about['uris']} URI{'' if about['uris'] == 1 else 's'}"
    if "routes" in about:
        return f"{about['routes']} routes"
    queues = about.get("queues", [DEFAULT_QUEUE])
    return "" if queues == [DEFAULT_QUEUE] else f"takes from {', '.join(queues)}"


def stop(settings: Settings) -> None:
    """Ask supervisord to stop everything and wait for its end; jobs in hand finish first."""
    try:
        with _supervisor(settings) as proxy:
            pid = int(proxy.getPID())
            _await_spawned(settings, "STARTING")
            proxy.shutdown()
    except Stopping:
        try:
            pid = int((settings.run / "supervisord.pid").read_text(encoding="ascii"))
        except FileNotFoundError:
            return
    await_end(pid)


def await_end(pid: int) -> bool:
    """Wait until a process is gone. False: it was a child of ours, and ended in failure."""
    try:
        watched = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        ended = os.waitid(os.P_PIDFD, watched, os.WEXITED)
        return ended is not None and ended.si_code == os.CLD_EXITED and ended.si_status == 0
    except ChildProcessError:
        # Not ours to wait for: the descriptor tells.
        select.select([watched], [], [])
        return True
    finally:
        os.close(watched)


def kill(pid: int) -> None:
    """End supervisord at once; everything it started dies with it."""
    os.kill(pid, signal.SIGKILL)


def _await_ready(
    settings: Settings,
    api: ApiMap,
    process: "subprocess.Popen[bytes]",
    logs: "_Logs",
    tell: Callable[[str], None],
) -> None:
    waiting = set(parts(settings, api))
    pids: dict[str, int] = {}
    deadline = time.monotonic() + _READY_SECONDS
    while waiting:
        if process.poll() is not None:
            raise NotReady(
                f"supervisord ended with status {process.returncode}",
                log=logs.tail("supervisord"),
            )
        failed = ""
        for program in _programs_so_far(settings):
            if program.ready and program.name in waiting:
                waiting.discard(program.name)
                tell(f"{program.name} is ready {program.note}".rstrip())
            elif program.state in _FATAL or _has_ended_once(program, pids):
                failed = program.name
        if failed or time.monotonic() > deadline:
            name = failed or min(waiting)
            shares = name.startswith((f"{WORKER}-", f"{php.KIND}-"))
            log = name.rpartition("-")[0] if shares else name
            problem = "does not start" if failed else f"was not ready in {_READY_SECONDS:g} s"
            raise NotReady(
                f"{name} {problem}",
                log=logs.tail(log),
                remedy=f"see {settings.logs / log}.log",
            )
        time.sleep(_LOOK_SECONDS)


def _has_ended_once(program: Program, pids: dict[str, int]) -> bool:
    """Too late for supervisord to call it a failed start; it would end again. ``pids``: its first
    process, and those of others.
    """
    return program.pid != 0 and pids.setdefault(program.name, program.pid) != program.pid


def _programs_so_far(settings: Settings) -> list[Program]:
    """None while supervisord does not answer yet."""
    try:
        return programs(settings)
    except NotReady:
        return []


def _take_back(
    settings: Settings, process: "subprocess.Popen[bytes]", tell: Callable[[str], None]
) -> None:
    """Stop what a start that failed has started."""
    if process.poll() is not None:
        return
    tell("stopping; jobs in hand finish first (Ctrl-C: at once)")
    try:
        _await_spawned(settings, "STOPPED", "STARTING")
        process.terminate()
        process.wait()
    except KeyboardInterrupt:
        process.kill()
        process.wait()


def _await_spawned(settings: Settings, *unsettled: str) -> None:
    """Until no program is in such a state: between fork and exec a stop signal would be lost, and
    supervisord would wait for the program's end as long as for the longest job.
    """
    deadline = time.monotonic() + _SPAWN_SECONDS
    while time.monotonic() < deadline:
        states = {program.state for program in _programs_so_far(settings)}
        if states and states.isdisjoint(unsettled):
            return
        time.sleep(_LOOK_SECONDS)


def _check_down(settings: Settings) -> None:
    try:
        with _supervisor(settings) as proxy:
            proxy.getPID()
    except Stopping:
        raise
    except NotReady:
        return
    raise NotReady("the bus is already up", remedy="see 'taskbus status', or 'taskbus down'")


def _make_database(settings: Settings) -> None:
    try:
        with _umask(0o007 if settings.users else 0o077):
            make_store(settings).close()
    except StoreUnavailable as error:
        # A URL of one's own may have a password in it.
        is_own = settings.store_url or settings.store_url_file
        place = "" if is_own else f" {settings.data / 'taskbus.db'}"
        raise NotReady(
            f"cannot use the store{place}: {error.message}",
            field="store.url",
            remedy=error.about.get("remedy")
            or f"check store.url in {settings.file}, and the rights in {settings.data}",
        ) from None
    _share_database(settings)


def _share_database(settings: Settings) -> None:
    group = shared_group(settings)
    for file in settings.data.glob("taskbus.db*"):
        if group != -1:
            os.chown(file, -1, group)
            os.chmod(file, 0o660)


@contextmanager
def _umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


@contextmanager
def _supervisor(settings: Settings) -> Iterator[Any]:
    transport = SupervisorTransport(None, None, f"unix://{settings.supervisor_socket}")
    try:
        yield xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport).supervisor
    except PermissionError as error:
        raise NotReady(
            f"{settings.supervisor_socket} is another user's",
            remedy="do this as the user who started the bus",
        ) from error
    except (OSError, xmlrpc.client.Error, http.client.HTTPException) as error:
        if isinstance(error, xmlrpc.client.Fault) and error.faultCode == Faults.SHUTDOWN_STATE:
            raise Stopping(
                "the bus is stopping; jobs in hand finish first",
                remedy="wait for it with 'taskbus down'",
            ) from error
        raise NotReady("the bus is not up", remedy="start it with 'taskbus up'") from error
    finally:
        transport.close()


def _page_answers(settings: Settings) -> bool:
    connection = http.client.HTTPConnection(settings.http_host, settings.http_port, timeout=5)
    try:
        connection.request("GET", "/")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _socket_answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
        return True


class _Logs:
    """What the programs have written since this was made."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._before = {log.stem: log.stat().st_size for log in folder.glob("*.log")}

    def tail(self, program: str) -> str:
        try:
            text = (self._folder / f"{program}.log").read_bytes()[self._before.get(program, 0) :]
        except OSError:
            return ""
        return text[-_SHOWN_LOG:].decode(errors="replace").strip()
