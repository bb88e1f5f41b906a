"""What becomes of jobs, asked as an operator over the router's Unix socket.

    python -m bench.taskbus_life settled
    python -m bench.taskbus_life cancel COUNT FOLDER
    python -m bench.taskbus_life log LINES

The last line printed is the answer in JSON.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from autobahn.wamp.exception import ApplicationError
from twisted.internet.threads import deferToThread

from bench.measure import Probe
from bench.taskbus_site import NAMESPACE, Site
from taskbus.bus.session import REALM
from taskbus.edge.client import visit


async def settled(session: Any) -> int:
    """How many jobs have succeeded."""
    status = await session.call("taskbus.bus.status")
    return int(status["jobs"]["succeeded"])


async def cancels(session: Any, count: int, folder: Path) -> list[float]:
    """Seconds from asking a running job to end until it has."""
    probe = Probe(folder / "cancel.sock")
    taken = []
    for _ in range(count):
        job = await session.call("taskbus.job.submit", f"{NAMESPACE}.hold", [probe.address])
        await deferToThread(probe.wait)
        called = time.perf_counter()
        await session.call("taskbus.job.cancel", job)
        try:
            await session.call("taskbus.job.wait", job)
        except ApplicationError as error:
            if error.error != "taskbus.error.cancelled":
                raise
        taken.append(time.perf_counter() - called)
    probe.close()
    return taken


async def log_lines(session: Any, lines: int) -> float:
    """Lines per second of one job's life; raises where the journal does not have them all."""
    job = await session.call("taskbus.job.submit", f"{NAMESPACE}.chatter", [lines])
    await session.call("taskbus.job.wait", job)
    found, after = 0, 0
    while events := await session.call("taskbus.job.events", job, after=after):
        after = events[-1]["seq"]
        outputs = [event["data"] for event in events if event["kind"] == "output"]
        found += sum(data["text"].count("\n") for data in outputs)
    if found != lines:
        raise RuntimeError(f"the journal has {found} of {lines} lines")
    told = await session.call("taskbus.job.get", job)
    return lines / float(told["finished"] - told["started"])


def main(command: str, *args: str) -> None:
    """Do one command and print its answer."""
    site = Site(Path(os.environ["BENCH_TASKBUS"]))

    async def work(session: Any) -> Any:
        if command == "cancel":
            return await cancels(session, int(args[0]), Path(args[1]))
        if command == "log":
            return await log_lines(session, int(args[0]))
        return await settled(session)

    print(json.dumps(visit(site.socket(), "operator", site.ticket("operator"), work, REALM)))


if __name__ == "__main__":
    main(*sys.argv[1:])
