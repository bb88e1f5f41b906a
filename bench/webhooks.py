"""Webhooks to a hundred endpoints: deliveries a second, all well, and with ten that hang.

    python -m bench.webhooks [--events 20]

Events are posted to the gateway as fast as it takes them; what counts is when the last endpoint
that answers has the last one. Given a folder, it is the receiver.
"""

import argparse
import asyncio
import http.client
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

from bench.environment import REPO
from bench.measure import started
from bench.process import cpu_seconds, spawn, stop, wait_until
from bench.report import machine, table
from bench.taskbus_peer import Taskbus
from bench.taskbus_site import Site

RESULTS = REPO / "bench" / "webhooks.md"
ENDPOINTS, HANGING = 100, 10
TOPIC = "com.example.bench.news"
SETTINGS = f"""
[webhooks]
exposed = ["{TOPIC}"]
allow = ["127.0.0.0/8"]
"""
_PATIENCE = 300.0


class Figures(NamedTuple):
    """Events accepted and deliveries made a second, and the bus' CPU seconds for a thousand."""

    posted: float
    delivered: float
    cpu: float


def main() -> None:
    """Measure, write, print."""
    parser = argparse.ArgumentParser(prog="python -m bench.webhooks", description=__doc__)
    parser.add_argument("--events", type=int, default=20, help="each to a hundred endpoints")
    options = parser.parse_args()
    found = {}
    for title, hanging in (("all answer", 0), (f"{HANGING} of them hang", HANGING)):
        bus = Taskbus(more=SETTINGS)
        with started(bus) as folder:
            found[title] = measure(bus, folder, options.events, hanging)
    text = report(found, options.events)
    RESULTS.write_text(text)
    print(text)


def measure(bus: Taskbus, folder: Path, events: int, hanging: int) -> Figures:
    """One bus, one receiver."""
    receiver = spawn([sys.executable, "-m", "bench.webhooks", str(folder)], folder / "log", {})
    try:
        there = folder / "port"
        wait_until(there.exists, "the receiver", 30)
        port = int(there.read_text())
        ask = Gateway(Site(folder / "site"))
        for nth in range(ENDPOINTS):
            path = f"hang/{nth}" if nth < hanging else f"{nth}"
            url = f"http://127.0.0.1:{port}/{path}"
            ask("PUT", f"/hooks/bench-{nth}", {"url": url, "topics": [TOPIC]})
        before, began = cpu_seconds(bus.processes()), time.monotonic()
        for number in range(events):
            ask("POST", f"/v1/events/{TOPIC}", {"data": {"number": number}})
        posted = time.monotonic() - began
        wanted = events * (ENDPOINTS - hanging)
        wait_until(lambda: _count(port) >= wanted, "the deliveries", _PATIENCE, 0.05)
        seconds = time.monotonic() - began
        cpu = cpu_seconds(bus.processes()) - before
        return Figures(events / posted, wanted / seconds, 1000 * cpu / wanted)
    finally:
        stop([receiver])


class Gateway:
    """A client with one connection."""

    def __init__(self, site: Site) -> None:
        program = str(REPO / ".venv" / "bin" / "taskbus")
        argv = [program, "--settings", str(site.settings), "key", "create", "bench", "--scope", "*"]
        done = subprocess.run(argv, check=True, stdout=subprocess.PIPE, text=True)
        self._headers = {
            "Authorization": f"Bearer {done.stdout.strip()}",
            "Content-Type": "application/json",
        }
        self._connection = http.client.HTTPConnection("127.0.0.1", site.port(), timeout=60)

    def __call__(self, method: str, target: str, body: Any) -> None:
        self._connection.request(method, target, json.dumps(body), self._headers)
        answer = self._connection.getresponse()
        text = answer.read().decode()
        if answer.status >= 300:
            raise RuntimeError(f"{method} {target}: {answer.status} {text}")


def _count(port: int) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", "/")
    return int(connection.getresponse().read())


class Receiver:
    """Counts what it answers."""

    def __init__(self) -> None:
        self._count = 0

    async def serve(self, folder: Path) -> None:
        """Until the end."""
        server = await asyncio.start_server(self._talk, "127.0.0.1", 0, backlog=1024)
        told = folder / "told"
        told.write_text(str(server.sockets[0].getsockname()[1]))
        told.rename(folder / "port")
        await server.serve_forever()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            body = b""
            if head.startswith(b"GET "):
                body = str(self._count).encode()
            elif b" /hang/" in head.split(b"\r\n")[0]:
                await reader.read()  # Until the other side has had enough.
            else:
                self._count += 1
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


def report(found: dict[str, Figures], events: int) -> str:
    """The page."""
    rows = [
        ["events posted/s", *(f"{one.posted:,.1f}" for one in found.values())],
        ["deliveries/s to those that answer", *(f"{one.delivered:,.0f}" for one in found.values())],
        ["CPU (s per 1000 deliveries)", *(f"{one.cpu:.1f}" for one in found.values())],
    ]
    return (
        f"# Webhooks to {ENDPOINTS} endpoints\n\n{time.strftime('%Y-%m-%d', time.gmtime())}; "
        f"{machine()}; {events} events in a row, each to all endpoints, of which each gets two "
        f"deliveries at a time; the receiver on the same machine, http without TLS; a process for "
        f"each delivery.\n\n{table(['', *found], rows)}\n"
    )


if __name__ == "__main__":
    if sys.argv[1:2] and not sys.argv[1].startswith("-"):
        asyncio.run(Receiver().serve(Path(sys.argv[1])))
    else:
        main()
