"""A worker's parent that runs one job: ``python -m tests.support.forker_parent [unread|php]``.

Writes the pids of forker, child and grandchild, and then waits to be killed.
"""

import os
import signal
import sys

from taskbus.worker.channel import wait_readable
from taskbus.worker.spares import Spares
from tests.support.attempts import HANDLERS, PATH, begin, php_spares, printed, take
from tests.support.processes import PATIENCE


def main() -> None:
    """See above."""
    if sys.argv[1:] == ["php"]:
        spares = php_spares({"com.t.does": "Jobs\\Does"}, 2)
        attempt = begin(spares, "does", "wait")
    else:
        spares = Spares(HANDLERS, PATH, 2)
        attempt = begin(spares, "with_grandchild")
    grandchild = printed(spares, attempt)
    if sys.argv[1:] == ["unread"]:
        # The forker says something that we do not read any more.
        spare = take(spares)
        os.kill(spare.pid, signal.SIGKILL)
        assert wait_readable([spares.fileno()], PATIENCE)
    print(spares._process.pid, attempt.child.pid, grandchild, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
