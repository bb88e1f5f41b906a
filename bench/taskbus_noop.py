"""A bare Autobahn component with a procedure that does nothing: what the router itself can do."""

import os
import sys
from pathlib import Path
from typing import Any

from autobahn.twisted.component import Component, run
from autobahn.twisted.wamp import Session

from bench.taskbus_site import Site
from taskbus.bus.session import REALM, transport

ANSWER = "01J0000000000000000000NOOP"  # as long as a job's id


def main(namespace: str) -> None:
    """Serve until killed."""
    site = Site(Path(os.environ["BENCH_TASKBUS"]))
    component = Component(
        transports=[transport(site.socket())],
        realm=REALM,
        authentication={"ticket": {"authid": "backend", "ticket": site.ticket("backend")}},
    )

    @component.on_join  # type: ignore[untyped-decorator, unused-ignore]
    async def _(session: Session, _details: Any) -> None:
        await session.register(lambda: ANSWER, f"{namespace}.nothing")
        print("registered", file=sys.__stdout__, flush=True)  # sys.stdout is the log by now

    run([component], log_level="warn")


if __name__ == "__main__":
    main(sys.argv[1])
