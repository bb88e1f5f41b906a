"""What the commands print: tables and colours for people, JSON for scripts."""

import base64
import json
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from taskbus.model.apimap import ApiMap
from taskbus.model.errors import TaskbusError
from taskbus.model.http_target import HttpTarget
from taskbus.model.php import PhpTarget
from taskbus.model.settings import Settings
from taskbus.model.uri import is_pattern

if TYPE_CHECKING:
    from taskbus.launch import Program

_SCRIPT = "cron/call.sh"
_COLOURS = {"red": 31, "green": 32, "yellow": 33, "blue": 34, "grey": 90, "bold": 1}
_STATE_COLOURS = {
    "scheduled": "blue", "waiting": "blue", "queued": "blue",
    "running": "yellow", "retrying": "yellow",
    "succeeded": "green", "failed": "red", "dead": "red", "cancelled": "grey",
}  # fmt: skip


def as_json(value: Any) -> None:
    """One JSON document."""
    print(json.dumps(value, indent=2, ensure_ascii=False, default=str), flush=True)


def as_json_line(value: Any) -> None:
    """One JSON document in one line."""
    print(json.dumps(value, ensure_ascii=False), flush=True)


def progress(text: str) -> None:
    """What is going on, apart from the result."""
    print(f"{_paint('taskbus:', 'grey', sys.stderr)} {text}", file=sys.stderr, flush=True)


def note(body: Any) -> None:
    """A progressive result."""
    if isinstance(body, dict) and "fraction" in body:
        progress(f"{body['fraction']:4.0%} {body.get('message', '')}")
    else:
        progress(json.dumps(body, ensure_ascii=False, default=str))


def error(failure: TaskbusError, json_wanted: bool) -> None:
    """An error: its URI, what is wrong, what to do."""
    if json_wanted:
        told = {"error": failure.uri, "message": failure.message, **failure.about}
        print(json.dumps(told, ensure_ascii=False, default=str), file=sys.stderr)
        return
    print(f"{_paint('error', 'red', sys.stderr)} {failure.uri}: {failure.message}", file=sys.stderr)
    for key in ("remedy", "log"):
        if key in failure.about:
            print(f"  {key}: {failure.about[key]}", file=sys.stderr)


def result(value: Any, json_wanted: bool) -> None:
    """The result of a call: a bare value where it is one, args and kwargs where it is more."""
    if hasattr(value, "results"):
        value = {"args": list(value.results), "kwargs": dict(value.kwresults or {})}
    if json_wanted:
        as_json(value)
    elif isinstance(value, str):
        print(value)
    else:
        print(json.dumps(value, ensure_ascii=False, default=str))


def lines(texts: Sequence[str]) -> None:
    """One a line."""
    for text in texts:
        print(text)


def greeting(
    settings: Settings, api: ApiMap, seconds: float, detached: bool, token: str | None
) -> None:
    """What a newcomer does next: lines for the shell, to be run as they are.

    ``token`` logs in at the page; None where what is printed here is kept.
    """
    uri = next((uri for uri in api.entries if not is_pattern(uri)), "URI")
    command = [os.path.relpath(os.path.join(os.path.dirname(sys.executable), "taskbus"))]
    if settings.file != Path("taskbus.toml").resolve():
        command += ["--settings", os.path.relpath(settings.file)]
    rows = {
        "page": settings.url if token is None else f"{settings.url}#token={quote(token)}",
        "token": shlex.join(["cat", os.path.relpath(settings.secrets / "browser")]),
        "call": shlex.join([*command, "call", uri]),
        "curl": shlex.join([*_bridge_script(settings), uri]),
        "queue": shlex.join([*command, "submit", uri]),
        "watch": shlex.join([*command, "jobs"]),
        "stop": shlex.join([*command, "down"]) if detached else "Ctrl-C",
    }
    if token is not None:
        del rows["token"]
    if not (settings.site / _SCRIPT).exists():
        del rows["curl"]
    print("\n" + _paint(f"The bus is up ({seconds:.1f} s).", "green") + "\n")
    for name, line in rows.items():
        print(f"  {name:6}  {line}")
    # Read by who waits for it in a pipe, long before this process ends.
    print(flush=True)


def _bridge_script(settings: Settings) -> list[str]:
    """The call over HTTP, up to the URI; the script finds secrets beside its own folder itself."""
    secrets = settings.secrets / "bridge"
    words = [os.path.relpath(settings.site / _SCRIPT), "-u", f"{settings.url}call"]
    beside = settings.site / "var/secrets/bridge"
    return words if secrets == beside else [*words, "-s", os.path.relpath(secrets)]


def status(programs: Sequence["Program"], counts: Mapping[str, Any] | None) -> None:
    """The programs, and the jobs."""
    rows = [
        (one.name, one.state.lower(), "ready" if one.ready else "not ready",
         str(one.pid or ""), one.note)
        for one in programs
    ]  # fmt: skip
    colours = [("", "", "green" if one.ready else "red", "grey", "grey") for one in programs]
    _table(("PROGRAM", "PROCESS", "SERVICE", "PID", ""), rows, colours)
    if counts:
        print()
        shown = [f"{count} {_paint(state, _STATE_COLOURS[state])}"
                 for state, count in counts["jobs"].items()]  # fmt: skip
        print("jobs   " + ", ".join(shown))
        queues = counts["queues"] or {"": None}
        width = max(map(len, queues)) if len(queues) > 1 else 0
        for name, queue in sorted(queues.items()):
            told = ", ".join(f"{n} {what}" for what, n in queue.items()) if queue else "?"
            print("queue  " + (f"{name:{width}}  {told}" if width else told))


def api_map(settings: Settings, api: ApiMap) -> None:
    """What every URI does."""
    rows = [(one.pattern, one.mode, one.kind, _target(one.target)) for one in api.entries.values()]
    _table(("URI", "MODE", "KIND", "TARGET"), rows, [("", "", "grey", "grey")] * len(rows))
    print(f"\n{settings.file} and {settings.api_map} are fine")


def _target(target: str | tuple[str, ...] | HttpTarget | PhpTarget) -> str:
    if isinstance(target, HttpTarget):
        return f"{target.method} {target.url}"
    if isinstance(target, PhpTarget):
        return target.name
    return target if isinstance(target, str) else " ".join(target)


def jobs(found: Sequence[Mapping[str, Any]]) -> None:
    """One line a job."""
    rows = [
        (one["id"], one["state"], one["uri"], _when(one["created"]), _took(one),
         _why(one)[:60])
        for one in found
    ]  # fmt: skip
    colours = [
        ("", _STATE_COLOURS[one["state"]], "", "grey", "grey", "red" if one["error"] else "grey")
        for one in found
    ]
    _table(("JOB", "STATE", "URI", "CREATED", "TOOK", ""), rows, colours)


def job(one: Mapping[str, Any], events: Sequence[Mapping[str, Any]]) -> None:
    """Everything about one job."""
    print(f"{_paint(one['id'], 'bold')}  {_paint(one['state'], _STATE_COLOURS[one['state']])}")
    shown = (
        "uri",
        "args",
        "kwargs",
        "queue",
        "priority",
        "timeout",
        "retries",
        "attempt",
        "worker",
    )
    rows = {key: one[key] for key in shown}
    rows |= {"tags": one["tags"]} if one["tags"] else {}
    rows |= {"context": one["details"]["context"]} if "context" in one["details"] else {}
    rows |= {"lane": one["lane"]} if one["lane"] else {}
    for key, value in rows.items():
        print(f"  {key:9} {json.dumps(value, ensure_ascii=False)}")
    if one["error"]:
        print(f"  {_paint('error    ', 'red')} {one['error']['error']}: {one['error']['message']}")
        # Where no code has raised it, this is one line, the error again.
        if len(trace := one["error"].get("traceback", "").splitlines()) > 1:
            print(_paint("\n".join(f"            {line}" for line in trace), "grey"))
    if one["result"]:
        text = json.dumps(one["result"], ensure_ascii=False)
        print(f"  result    {text if len(text) <= 500 else text[:500] + '...'}")
    print()
    for event in events:
        data = {key: value for key, value in event["data"].items() if value not in (None, "")}
        told = json.dumps(data, ensure_ascii=False)
        print(f"  {event['seq']:4} {_when(event['at'])} {event['kind']:10} {told[:200]}")


def job_error(text: str | None) -> None:
    """Why a job has not succeeded: its error, a JSON text."""
    if text is not None:
        told = json.loads(text)
        failure = TaskbusError(told["message"])
        failure.uri = told["error"]
        error(failure, False)


def output(event: Mapping[str, Any]) -> None:
    """What a task wrote, as it wrote it; the rest of the journal on stderr."""
    data = event["data"]
    if event["kind"] == "output":
        stream = sys.stderr if data["stream"] == "stderr" else sys.stdout
        chunk = base64.b64decode(data["base64"]) if "base64" in data else data["text"].encode()
        stream.buffer.write(chunk)
        stream.flush()
        if "dropped" in data:
            progress(f"{data['dropped']} bytes more on {data['stream']} were not kept")
    elif event["kind"] == "progress":
        note(data)
    else:
        progress(f"{event['kind']} ({data.get('reason') or data['actor']})")


def keys(found: Sequence[Mapping[str, Any]]) -> None:
    """One line an access key."""
    now = datetime.now().astimezone().timestamp()
    rows, colours = [], []
    for one in found:
        is_over = one["expires"] is not None and one["expires"] <= now
        until = "" if one["expires"] is None else _when(one["expires"])
        name = f"{one['name']} (signs)" if one["signing"] else one["name"]
        rows.append((one["id"], name, one["rate"] or "", until, " ".join(one["scopes"])))
        colours.append(("", "", "grey", "red" if is_over else "grey", ""))
    _table(("KEY", "NAME", "RATE", "UNTIL", "SCOPES"), rows, colours)


def _table(
    head: Sequence[str], rows: Sequence[Sequence[str]], colours: Sequence[Sequence[str]]
) -> None:
    widths = [max(len(row[n]) for row in [head, *rows]) for n in range(len(head))]
    print("  ".join(_paint(f"{text:{w}}", "grey") for text, w in zip(head, widths, strict=True)))
    for row, paints in zip(rows, colours, strict=True):
        cells = zip(row, widths, paints, strict=True)
        print("  ".join(_paint(f"{text:{width}}", paint) for text, width, paint in cells).rstrip())


def _when(at: float) -> str:
    return datetime.fromtimestamp(at).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _why(one: Mapping[str, Any]) -> str:
    """What keeps it from success."""
    if one["state"] == "waiting":
        return f"limit of {one['lane']}" if one["lane"] else "other jobs"
    return str((one["error"] or {}).get("message", ""))


def _took(one: Mapping[str, Any]) -> str:
    if one["started"] is None or one["finished"] is None:
        return ""
    return f"{one['finished'] - one['started']:.3f} s"


def _paint(text: str, colour: str, stream: Any = None) -> str:
    target = stream or sys.stdout
    if not colour or "NO_COLOR" in os.environ or not target.isatty():
        return text
    return f"\033[{_COLOURS[colour]}m{text}\033[0m"
