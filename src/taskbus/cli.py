"""The command ``taskbus``.

Exit codes: 0 done; 1 the task or the call failed; 2 the command or its input is wrong; 3 the bus
is not up or cannot be reached; 4 the settings or the API map are wrong; 130 interrupted.
"""

import argparse
import json
import os
import signal
import stat
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

from taskbus import show
from taskbus.command import key, run_job
from taskbus.command.visit import UNSERVED, calling, visit
from taskbus.model.errors import ConfigError, InvalidArgument, TaskbusError
from taskbus.model.json import check_field
from taskbus.model.options import FOLLOW_UPS, PER_CALL, SHARED
from taskbus.model.settings import WORKER, Settings
from taskbus.model.uri import is_loose_uri
from taskbus.wire import (
    check_incoming,
    check_targets,
    read_api_map,
    read_settings,
    start_logging,
)

FAILED, WRONG, UNREACHABLE, CONFIG, INTERRUPTED = 1, 2, 3, 4, 130
_OPTIONS = SHARED | PER_CALL
# Parameters of Autobahn's own call.
_TAKEN = frozenset({"self", "procedure", "options"})


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, run, and turn errors into a message and an exit code."""
    _open_streams()
    options = _parser().parse_args(argv)
    try:
        for word in sys.argv[1:] if argv is None else argv:
            check_field("argument", word)
        settings = read_settings(Path(options.settings))
        code: int = options.run(settings, options)
        return code
    except ConfigError as error:
        return _fail(options, error, CONFIG)
    except InvalidArgument as error:
        return _fail(options, error, WRONG)
    except TaskbusError as error:
        unreachable = error.uri in ("taskbus.error.not_ready", "taskbus.error.unreachable")
        return _fail(options, error, UNREACHABLE if unreachable else FAILED)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our output has left, as "| head" does.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _open_streams() -> None:
    """Where whoever starts us has closed them, as ``>&-`` does, nobody wants to read."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115


def _up(settings: Settings, options: argparse.Namespace) -> int:
    from taskbus import launch
    from taskbus.site.checks import NotReady

    began = time.monotonic()
    api = launch.prepare(settings)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    pid = launch.start(settings, api, not options.detach, show.progress)
    if options.json:
        show.as_json({"url": settings.url, "pid": pid})
    else:
        token = launch.page_token(settings) if _is_read_now(sys.stdout.fileno()) else None
        show.greeting(settings, api, time.monotonic() - began, options.detach, token)
    if options.detach:
        return 0
    try:
        if launch.await_end(pid):
            show.progress("the bus was stopped")
            return 0
        raise NotReady("supervisord died", remedy=f"see {settings.logs}/supervisord.log")
    except KeyboardInterrupt:
        pass
    try:
        show.progress("stopping; jobs in hand finish first (Ctrl-C again: at once)")
        launch.stop(settings)
    except KeyboardInterrupt:
        launch.kill(pid)
        launch.await_end(pid)
    return 0


def _is_read_now(fd: int) -> bool:
    """Whether what is written there goes to a person or a program, and not into a log."""
    return os.isatty(fd) or stat.S_ISFIFO(os.fstat(fd).st_mode)


def _down(settings: Settings, _options: argparse.Namespace) -> int:
    from taskbus import launch

    launch.stop(settings)
    show.progress("the bus is down")
    return 0


def _status(settings: Settings, options: argparse.Namespace) -> int:
    from taskbus import launch

    programs = launch.programs(settings)
    ready = all(program.ready for program in programs)
    # Who counts the jobs; that others do not run is no reason to keep silent about them.
    answers = {"router", "control"} <= {program.name for program in programs if program.ready}
    counts = visit(settings, calling("taskbus.bus.status")) if answers else None
    if options.json:
        show.as_json(
            {"ready": ready, "programs": [one._asdict() for one in programs], "bus": counts}
        )
    else:
        show.status(programs, counts)
    return 0 if ready else UNREACHABLE


def _check(settings: Settings, options: argparse.Namespace) -> int:
    api = read_api_map(settings)
    check_targets(settings, api)
    check_incoming(settings, api)
    if options.json:
        show.as_json({"settings": str(settings.file), "uris": sorted(api.entries)})
    else:
        show.api_map(settings, api)
    return 0


def _call(settings: Settings, options: argparse.Namespace) -> int:
    args, kwargs = _arguments(options)
    if not is_loose_uri(options.uri):
        raise InvalidArgument("uri", options.uri, "not a URI", "write com.example.some.uri")
    for name in _TAKEN & kwargs.keys():
        raise InvalidArgument(
            "--keyword", name, "not a name that 'call' can send", "use 'submit', or a position"
        )

    async def call(session: Any) -> Any:
        from autobahn.wamp.types import CallOptions

        told = CallOptions(on_progress=show.note)
        return await session.call(options.uri, *args, options=told, **kwargs)

    show.result(visit(settings, call), options.json)
    return 0


def _submit(settings: Settings, options: argparse.Namespace) -> int:
    args, kwargs = _arguments(options)
    chosen = {name: _option(name, texts) for name, texts in _given(options, *_OPTIONS).items()}
    for name, texts in _given(options, *FOLLOW_UPS).items():
        chosen[name] = [_request(name, text) for text in texts]
    job = visit(
        settings, calling("taskbus.job.submit", options.uri, args=args, kwargs=kwargs, **chosen)
    )
    show.result(job, options.json)
    return 0


def _chain(settings: Settings, options: argparse.Namespace) -> int:
    ids = visit(settings, calling("taskbus.job.chain", _flow(options)))
    show.as_json(ids) if options.json else show.lines(ids)
    return 0


def _group(settings: Settings, options: argparse.Namespace) -> int:
    flow = _flow(options)
    if not isinstance(flow, dict) or not flow.keys() <= {"jobs", "then", "on"}:
        raise InvalidArgument(
            "file", flow, "no group", 'write {"jobs": [{"uri": ...}, ...], "then": {"uri": ...}}'
        )
    told = visit(settings, calling("taskbus.job.group", **flow))
    show.as_json(told) if options.json else show.lines([*told["jobs"], told["then"]])
    return 0


def _jobs(settings: Settings, options: argparse.Namespace) -> int:
    given = _given(options, "state", "uri", "tag", "limit")
    found = visit(settings, calling("taskbus.job.list", **given))
    show.as_json(found) if options.json else show.jobs(found)
    return 0


def _job(settings: Settings, options: argparse.Namespace) -> int:
    if options.wait:
        result = visit(settings, calling("taskbus.job.wait", options.id))
        show.result(result, options.json)
        return 0

    async def both(session: Any) -> Any:
        job = await session.call("taskbus.job.get", options.id)
        return job, [event async for page in _journal(session, options.id) for event in page]

    job, events = visit(settings, both)
    show.as_json({**job, "events": events}) if options.json else show.job(job, events)
    return 0


async def _journal(session: Any, job: str) -> AsyncIterator[Any]:
    """All of a job's journal, page by page."""
    after = 0
    while events := await session.call("taskbus.job.events", job, after=after):
        after = events[-1]["seq"]
        yield events


def _cancel(settings: Settings, options: argparse.Namespace) -> int:
    show.result(visit(settings, calling("taskbus.job.cancel", options.id)), options.json)
    return 0


def _replay(settings: Settings, options: argparse.Namespace) -> int:
    args, kwargs = _arguments(options)
    if options.id is not None:
        edited = {name: value for name, value in (("args", args), ("kwargs", kwargs)) if value}
        again = calling("taskbus.job.replay", options.id, **edited)
        show.result(visit(settings, again), options.json)
        return 0
    return _each_dead(settings, options, "taskbus.job.replay_many")


def _discard(settings: Settings, options: argparse.Namespace) -> int:
    return _each_dead(settings, options, "taskbus.job.discard_many")


def _each_dead(settings: Settings, options: argparse.Namespace, procedure: str) -> int:
    if not (options.all or options.state or options.uri or options.tag):
        raise InvalidArgument(
            "id",
            None,
            "nothing is chosen",
            "name --state, --uri, --tag, or --all failed and dead jobs",
        )
    given = _given(options, "state", "uri", "tag", "limit", "dry_run")
    ids = visit(settings, calling(procedure, **given))
    show.as_json(ids) if options.json else show.lines(ids)
    return 0


def _logs(settings: Settings, options: argparse.Namespace) -> int:
    write: Callable[[Any], None] = show.as_json_line if options.json else show.output

    def write_all(events: Any) -> None:
        for event in events:
            write(event)

    async def history(session: Any) -> None:
        async for events in _journal(session, options.id):
            write_all(events)

    async def follow(session: Any) -> None:
        from autobahn.wamp.types import CallOptions

        told, at = CallOptions(on_progress=write_all), {"seq": 0, "ended": False}
        while not at["ended"]:
            at = await session.call("taskbus.job.follow", options.id, after=at["seq"], options=told)

    visit(settings, follow if options.follow else history)
    return 0


def _backend(settings: Settings, options: argparse.Namespace) -> int:
    from taskbus.wire.backend import run_backend

    start_logging()
    run_backend(settings, options.namespace)
    return 0


def _control(settings: Settings, _options: argparse.Namespace) -> int:
    from taskbus.wire.control import run_control

    start_logging()
    run_control(settings)
    return 0


def _gateway(settings: Settings, _options: argparse.Namespace) -> int:
    from taskbus.wire.gateway import run_gateway

    start_logging()
    run_gateway(settings)
    return 0


def _worker(settings: Settings, options: argparse.Namespace) -> int:
    from taskbus.wire.worker import run_worker

    start_logging()
    for pool in settings.pools:
        if pool.name == options.pool:
            run_worker(settings, pool, options.name, 1 if options.once else None)
            return 0
    known = ", ".join(pool.name for pool in settings.pools)
    raise InvalidArgument("--pool", options.pool, "no such pool", f"use one of {known}")


def _given(options: argparse.Namespace, *names: str) -> dict[str, Any]:
    """Those of the options that were used."""
    asked = {name: getattr(options, name) for name in names}
    return {name: value for name, value in asked.items() if value is not None}


def _arguments(options: argparse.Namespace) -> tuple[list[Any], dict[str, Any]]:
    kwargs = {}
    for pair in options.keyword or ():
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise InvalidArgument("--keyword", pair, "not NAME=VALUE", "write --keyword size=3")
        kwargs[name] = _value(value)
    args = [_value(text) for text in options.args]
    check_field("args", args)
    check_field("kwargs", kwargs)
    return args, kwargs


def _request(name: str, text: str) -> Any:
    """A URI, or a whole request as JSON."""
    request = _value(text) if text.startswith("{") else {"uri": text}
    check_field(name, request)
    return request


def _flow(options: argparse.Namespace) -> Any:
    """The JSON in a file, or on stdin."""
    try:
        text = sys.stdin.read() if options.file == "-" else Path(options.file).read_text("utf-8")
        flow = json.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidArgument("file", options.file, str(error), "write JSON, in UTF-8") from None
    check_field("jobs", flow)
    return flow


def _value(text: str) -> Any:
    """JSON where it is JSON, else the text itself: 3, true, [1], hello."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _option(name: str, texts: list[str]) -> Any:
    """An option of a job, in the first form that it takes: JSON, the text itself, a list of texts.

    What it does not take at all is for the bus to refuse.
    """
    forms = [_value(texts[0]), texts[0], texts] if len(texts) == 1 else [texts]
    for form in forms:
        try:
            _OPTIONS[name](form)
        except InvalidArgument:
            continue
        return form
    return forms[0]


def _fail(options: argparse.Namespace, error: TaskbusError, code: int) -> int:
    show.error(error, options.json)
    # What the API map does not know, or a wrong field, is the caller's mistake.
    wrong = error.uri in (
        "taskbus.error.invalid_argument",
        "taskbus.error.unknown_uri",
        "taskbus.error.job_not_found",
        "taskbus.error.job_ended",
        "taskbus.error.not_replayable",
        "taskbus.error.not_runnable",
        "taskbus.error.not_unique",
        "taskbus.error.idempotency_mismatch",
        "taskbus.error.key_not_found",
        "wamp.error.invalid_uri",
        *UNSERVED,
    )
    return WRONG if wrong and code == FAILED else code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="taskbus",
        description="Any call on the bus can run now or later.",
        epilog=(__doc__ or "").split("\n\n", 1)[1],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--settings",
        default=os.environ.get("TASKBUS_SETTINGS", "taskbus.toml"),
        metavar="FILE",
        help="the settings file (default: $TASKBUS_SETTINGS, or ./taskbus.toml)",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Callable[..., int], help_: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=help_, description=help_)
        sub.add_argument("--json", action="store_true", help="print JSON, for scripts")
        sub.set_defaults(run=run)
        return sub

    up = command("up", _up, "start everything and wait until it is ready; Ctrl-C stops it")
    up.add_argument("--detach", action="store_true", help="return when it is ready")
    command("down", _down, "stop everything; jobs in hand finish first")
    command("status", _status, "what runs, what is ready, how many jobs there are")
    command("check", _check, "validate the settings and the API map, load the tasks")

    call = command("call", _call, "call a URI and print its result, or the job id if it is queued")
    submit = command("submit", _submit, "queue a URI, whatever its mode, and print the job id")
    for sub in (call, submit):
        sub.add_argument("uri")
        sub.add_argument("args", nargs="*", help="JSON values; what is not JSON is a text")
        sub.add_argument(
            "-k", "--keyword", action="append", metavar="NAME=VALUE", help="a keyword argument"
        )
    for name, check in _OPTIONS.items():
        help_ = (check.__doc__ or "").partition("\n")[0]
        submit.add_argument(
            f"--{name.replace('_', '-')}", action="append", metavar="VALUE", help=help_
        )
    _add_flows(submit, command)

    jobs = command("jobs", _jobs, "list jobs, the newest first")
    jobs.add_argument("--state", action="append", help="only those in this state; repeatable")
    jobs.add_argument("--uri", help="only those of this URI, or of com.example.*")
    jobs.add_argument("--tag", help="only those with this tag")
    jobs.add_argument("--limit", type=int, default=20)
    job = command("job", _job, "everything about one job")
    job.add_argument("id")
    job.add_argument("--wait", action="store_true", help="wait for it and print its result")
    cancel = command("cancel", _cancel, "end a job; 'running' until its worker has done so")
    cancel.add_argument("id")
    replay = command("replay", _replay, "queue a job that failed, or many of them, once more")
    replay.add_argument("id", nargs="?", help="without it, those that the options choose")
    replay.add_argument("args", nargs="*", help="other arguments than the job had; JSON values")
    replay.add_argument("-k", "--keyword", action="append", metavar="NAME=VALUE")
    discard = command("discard", _discard, "forget failed and dead jobs, with their journals")
    for sub in (replay, discard):
        sub.add_argument("--state", action="append", help="failed, dead or cancelled; repeatable")
        sub.add_argument("--uri", help="only those of this URI, or of com.example.*")
        sub.add_argument("--tag", help="only those with this tag")
        sub.add_argument("--limit", type=int, help="at most so many (default: 1000), newest first")
        sub.add_argument("--all", action="store_true", help="all that have failed or are dead")
        sub.add_argument("--dry-run", action="store_true", help="print the ids, change nothing")
    logs = command("logs", _logs, "what a job has written")
    logs.add_argument("id")
    logs.add_argument("-f", "--follow", action="store_true", help="until the job has ended")

    key.add(commands)
    run_job.add(commands)
    _add_programs(command)
    return parser


def _add_flows(
    submit: argparse.ArgumentParser, command: Callable[..., argparse.ArgumentParser]
) -> None:
    for end in ("success", "failure", "end"):
        submit.add_argument(
            f"--on-{end}", action="append", metavar="REQUEST",
            help=f"a URI to run after its {end}, or a request as JSON; repeatable",
        )  # fmt: skip

    chain = command("chain", _chain, "queue jobs, each after the success of the one before")
    chain.add_argument("file", nargs="?", default="-", help='JSON (default: stdin): [{"uri": ...}]')
    group = command("group", _group, "queue jobs, and one that runs once they have all ended")
    group.add_argument(
        "file", nargs="?", default="-", help='JSON: {"jobs": [{"uri": ...}], "then": {"uri": ...}}'
    )


def _add_programs(command: Callable[..., argparse.ArgumentParser]) -> None:
    backend = command("backend", _backend, "serve the URIs of one namespace (supervisord does)")
    backend.add_argument("namespace")
    command("control", _control, "serve taskbus.job.* (supervisord does)")
    command("gateway", _gateway, "serve HTTP behind the router (supervisord does)")
    worker = command("worker", _worker, "run queued jobs (supervisord does)")
    worker.add_argument("--name", default=f"worker-{os.getpid()}", help="its name in 'status'")
    worker.add_argument("--pool", default=WORKER, help="whose queues it serves (default: worker)")
    worker.add_argument("--once", action="store_true", help="run one job, then exit")
