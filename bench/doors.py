"""The HTTP doors: the gateway beside the router's bare bridge, and beside Celery's REST front.

python -m bench.doors [--rounds 2] [--count 2000]
"""

import argparse
import base64
import json
import os
import secrets
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.environment import REPO, peer_python
from bench.load import CONNECTIONS, Load, load
from bench.measure import started
from bench.process import spawn, stop, wait_until
from bench.redis_peer import RedisPeer
from bench.report import latency_row, machine, table
from bench.taskbus_bridge import post_calls
from bench.taskbus_peer import Taskbus
from bench.taskbus_site import NAMESPACE, Site

RESULTS = REPO / "bench" / "doors.md"
_TASK = f"{NAMESPACE}.noop"
# How many jobs the requests for one ask for in turn.
_MOST_JOBS = 100

Doors = Mapping[str, Callable[[int], Load]]


def main() -> None:
    """Measure, write, print."""
    parser = argparse.ArgumentParser(prog="python -m bench.doors", description=__doc__)
    parser.add_argument("--rounds", type=int, default=2, help="figures are medians over these")
    parser.add_argument("--count", type=int, default=2000, help="requests to each door")
    options = parser.parse_args()
    found: dict[str, list[Load]] = {}
    for number in range(1, options.rounds + 1):
        for serve in (_taskbus, _celery):
            print(f"round {number} of {options.rounds}: {serve.__name__[1:]}", flush=True)
            with serve() as doors:
                for name, knock in doors.items():
                    knock(options.count // 10)
                    found.setdefault(name, []).append(knock(options.count))
    text = _report(found)
    RESULTS.write_text(text)
    print(text)


@contextmanager
def _taskbus() -> Iterator[Doors]:
    """Without workers: what is measured is the way in."""
    with started(Taskbus()) as folder:
        site = Site(folder / "site")
        key = _key(site)
        submit = _request("POST", "/v1/jobs", f"Bearer {key}", {"uri": _TASK})

        def get(count: int) -> Load:
            made = load(site.port(), [submit] * _MOST_JOBS, keep=True)
            ids = [json.loads(body)["id"] for body in made.bodies]
            asked = [_request("GET", f"/v1/jobs/{one}", f"Bearer {key}") for one in ids]
            return load(site.port(), (asked[nth % len(asked)] for nth in range(count)))

        yield {
            "taskbus: POST /call to job id, the router's bridge": lambda count: post_calls(
                site, _TASK, count
            ),
            "taskbus: POST /v1/jobs": lambda count: load(site.port(), [submit] * count),
            "taskbus: GET /v1/jobs/{id}": get,
        }


def _key(site: Site) -> str:
    """A new access key."""
    command = [str(REPO / ".venv/bin/taskbus"), "--settings", str(site.settings)]
    command += ["key", "create", "bench"]
    command += ["--scope", f"submit:{NAMESPACE}.*", "--scope", f"read:{NAMESPACE}.*"]
    made = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return next(word for word in made.split() if word.startswith("tb_"))


class _Flower(RedisPeer):
    """Celery's tasks behind Flower, whose REST API is the one that Celery's users have."""

    name = "Celery, Flower"

    @contextmanager
    def serving(self) -> Iterator[tuple[int, str]]:
        """Its port, and the credential."""
        secret = secrets.token_hex()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        command = ["celery", "--app", "bench.celery_app", "flower", "--address=127.0.0.1"]
        # As a variable: others may read a command line.
        env = {**self._env, "FLOWER_BASIC_AUTH": f"bench:{secret}"}
        log = self._folder / "flower.log"
        program = spawn([self._python, "-m", *command, f"--port={port}"], log, env)
        try:
            wait_until(lambda: _listens(port), "Flower up", 30)
            yield port, "Basic " + base64.b64encode(f"bench:{secret}".encode()).decode()
        finally:
            stop([program])


@contextmanager
def _celery() -> Iterator[Doors]:
    with TemporaryDirectory(prefix="bench-") as folder:
        peer = _Flower(peer_python())
        peer.start(Path(folder))
        try:
            with peer.serving() as (port, credential):
                path = "/api/task/async-apply/bench.noop"
                submit = _request("POST", path, credential, {"args": []})

                def get(count: int) -> Load:
                    made = load(port, [submit] * _MOST_JOBS, keep=True)
                    ids = [json.loads(body)["task-id"] for body in made.bodies]
                    asked = [_request("GET", f"/api/task/result/{one}", credential) for one in ids]
                    return load(port, (asked[nth % len(asked)] for nth in range(count)))

                yield {
                    "Celery, Flower: POST /api/task/async-apply": lambda count: load(
                        port, [submit] * count
                    ),
                    "Celery, Flower: GET /api/task/result/{id}": get,
                }
        finally:
            peer.stop()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _request(method: str, path: str, credential: str, body: object = None) -> bytes:
    content = b"" if body is None else json.dumps(body).encode()
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: {credential}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


def _report(found: Mapping[str, Sequence[Load]]) -> str:
    rows = [
        latency_row(name, [one.rate for one in loads], [one.latencies for one in loads], digits=1)
        for name, loads in found.items()
    ]
    today = time.strftime("%Y-%m-%d", time.gmtime())
    return (
        f"# The HTTP doors\n\n{today}; {machine()}; load average {os.getloadavg()[0]:.1f}; "
        f"{CONNECTIONS} connections, no workers; medians of {len(next(iter(found.values())))} "
        f"round(s). taskbus stores a job on the disk before it answers, Redis with its defaults "
        f"does not.\n\n{table(['', 'requests/s', 'p50 (ms)', 'p99 (ms)'], rows)}\n"
    )


if __name__ == "__main__":
    main()
