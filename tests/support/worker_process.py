"""A worker in a process of its own: ``python -m tests.support.worker_process URL MAP TASKS``.

Its queue holds the job ids that come line by line on stdin; what it logs goes to stdout.
"""

import logging
import sys
import threading
import time
from pathlib import Path

from taskbus.adapter.memory import MemoryBroker, MemoryQueue
from taskbus.adapter.process import ProcessLiveness
from taskbus.adapter.sql import SqlStore
from taskbus.adapter.sql_limits import SqlLimits
from taskbus.adapter.sql_links import SqlLinks
from taskbus.core.follow import FollowUps
from taskbus.model.apimap import parse_api_map
from taskbus.model.job import Placement
from taskbus.worker.parent import Worker


class Silence:
    """A bell that nobody hears."""

    def ring(self) -> None:
        """See Bell."""


def main() -> None:
    """Serve until a signal ends it."""
    url, api_map, tasks = sys.argv[1:]
    logging.basicConfig(level=logging.INFO, format="log %(message)s", stream=sys.stdout)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    broker = MemoryBroker()

    def feed() -> None:
        queue = MemoryQueue(broker)
        for line in sys.stdin:
            queue.put([Placement(line.strip(), 500)])
            print("queued")

    store = SqlStore(url)
    worker = Worker(
        store=store,
        limits=SqlLimits(store),
        queues=[MemoryQueue(broker)],
        liveness=ProcessLiveness(),
        bell=Silence(),
        clock=time.time,
        timer=time.monotonic,
        follow_ups=FollowUps(store, SqlLinks(store), time.time),
        load_map=lambda: parse_api_map(Path(api_map).read_text(encoding="utf-8"), api_map),
        task_path=[tasks],
        ttr=60,
        on_ready=lambda: print("ready"),
    )
    threading.Thread(target=feed, daemon=True).start()
    worker.serve()


if __name__ == "__main__":
    main()
