"""What a foreground call of an http entry costs, with and without a kept connection.

python -m bench.callee [--rounds 3] [--count 2000]

The handler alone, in threads as a backend has them, without the router, whose rate is in
bench/results.md. Given a folder, it is the service that is called.
"""

import argparse
import asyncio
import os
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.environment import REPO
from bench.process import spawn, stop, wait_until
from bench.report import latency_row, machine, table
from taskbus.handler import Handler, build
from taskbus.model.http_target import HttpTarget
from taskbus.model.task import TaskInput

RESULTS = REPO / "bench" / "callee.md"
_THREADS = 8
_SECONDS = 60.0
_ANSWER = b'HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n{"args":[1]}'
_CALL = TaskInput("com.example.bench.stock", ["apple"])


def main() -> None:
    """Measure, write, print."""
    parser = argparse.ArgumentParser(prog="python -m bench.callee", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="figures are medians over these")
    parser.add_argument("--count", type=int, default=2000, help="calls in each round")
    options = parser.parse_args()
    found: dict[str, list[tuple[float, list[float]]]] = {}
    with TemporaryDirectory(prefix="bench-") as name, _services(Path(name)) as (plain, secured):
        authority = str(Path(name) / "certificate.pem")
        targets = {
            "http, a connection for each call": HttpTarget(plain, keep_alive=0.0),
            "http, kept connections": HttpTarget(plain),
            "https, a connection for each call": HttpTarget(secured, ca=authority, keep_alive=0.0),
            "https, kept connections": HttpTarget(secured, ca=authority),
        }
        for _ in range(options.rounds):
            for title, target in targets.items():
                run = build({"kind": "http", "target": target}, _SECONDS)
                _calls(run, options.count // 10)
                found.setdefault(title, []).append(_calls(run, options.count))
    text = _report(found)
    RESULTS.write_text(text)
    print(text)


def _calls(run: Handler, count: int) -> tuple[float, list[float]]:
    """Calls a second, and how long each took."""

    def call(_: int) -> float:
        begun = time.perf_counter()
        run(_CALL)
        return time.perf_counter() - begun

    with ThreadPoolExecutor(_THREADS) as threads:
        begun = time.perf_counter()
        latencies = list(threads.map(call, range(count)))
        return count / (time.perf_counter() - begun), latencies


@contextmanager
def _services(folder: Path) -> Iterator[tuple[str, str]]:
    """Their URLs, without and with TLS."""
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
         "-nodes", "-days", "2", "-subj", "/CN=bench", "-addext", "subjectAltName=IP:127.0.0.1",
         "-keyout", folder / "key.pem", "-out", folder / "certificate.pem"],
        check=True, capture_output=True,
    )  # fmt: skip
    program = spawn([sys.executable, "-m", "bench.callee", str(folder)], folder / "log", {})
    try:
        ports = folder / "ports"
        wait_until(ports.exists, "the services", 30)
        plain, secured = ports.read_text().split()
        yield f"http://127.0.0.1:{plain}/", f"https://127.0.0.1:{secured}/"
    finally:
        stop([program])


async def _serve(folder: Path) -> None:
    """Both services, until the end."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(folder / "certificate.pem", folder / "key.pem")
    servers = [await asyncio.start_server(_talk, "127.0.0.1", 0, ssl=one) for one in (None, tls)]
    told = folder / "told"
    told.write_text(" ".join(str(one.sockets[0].getsockname()[1]) for one in servers))
    told.rename(folder / "ports")
    await asyncio.gather(*(one.serve_forever() for one in servers))


async def _talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer what comes, as long as it does."""
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            _, _, size = head.partition(b"content-length:")
            await reader.readexactly(int(size.split(b"\r\n")[0]))
            writer.write(_ANSWER)
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


def _report(found: dict[str, list[tuple[float, list[float]]]]) -> str:
    rows = [
        latency_row(title, [rate for rate, _ in rounds], [one for _, one in rounds], digits=2)
        for title, rounds in found.items()
    ]
    today = time.strftime("%Y-%m-%d", time.gmtime())
    return (
        f"# Calls of http entries\n\n{today}; {machine()}; load average {os.getloadavg()[0]:.1f}; "
        f"{_THREADS} threads, a service on the same machine; medians of "
        f"{len(next(iter(found.values())))} round(s).\n\n"
        f"{table(['', 'calls/s', 'p50 (ms)', 'p99 (ms)'], rows)}\n"
    )


if __name__ == "__main__":
    if sys.argv[1:2] and not sys.argv[1].startswith("-"):
        asyncio.run(_serve(Path(sys.argv[1])))
    else:
        main()
