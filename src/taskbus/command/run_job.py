"""``taskbus run-job``: run one job here, in the terminal, and show what it writes."""

import argparse
from typing import Any

from taskbus import show
from taskbus.model.errors import InvalidArgument
from taskbus.model.identity import is_job_id
from taskbus.model.job import Event, State
from taskbus.model.json import load
from taskbus.model.settings import Settings

_FAILED = 1


def add(commands: Any) -> None:
    """The command. ``commands``: argparse's subparsers."""
    help_ = "run one job here, in the terminal, and show what it writes"
    sub = commands.add_parser(
        "run-job",
        help=help_,
        description=f"{help_}. It is claimed as by any worker, with the task code and the API map "
        "as they are now; its retries, and the jobs that follow it, are left to the workers. "
        "Ctrl-C ends it.",
    )
    sub.add_argument("-j", "--job", required=True, metavar="ID", help="a job id, or a number "
                     "that the queue server has given")  # fmt: skip
    sub.add_argument(
        "--again", action="store_true", help="even if it has failed, is dead or was cancelled"
    )
    sub.add_argument("--json", action="store_true", help="print its journal as JSON lines")
    sub.set_defaults(run=_run)


def _run(settings: Settings, options: argparse.Namespace) -> int:
    from taskbus.wire.worker import run_job

    if not (is_job_id(options.job) or options.job.isdecimal()):
        raise InvalidArgument("--job", options.job, "not a job id", "use an id, or a number")
    write = show.as_json_line if options.json else show.output

    def told(event: Event) -> None:
        write({**event._asdict(), "data": load(event.data)})

    job = run_job(settings, options.job, options.again, told)
    if job.state is not State.SUCCEEDED and not options.json:
        show.job_error(job.error)
    return 0 if job.state is State.SUCCEEDED else _FAILED
