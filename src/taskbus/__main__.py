"""The command's first step, also as ``python -m taskbus``."""

import signal
import sys
from typing import NoReturn


def main() -> NoReturn:
    """Run the command; Ctrl-C while it is being loaded ends it, without a traceback."""
    handler = signal.getsignal(signal.SIGINT)
    if handler is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from taskbus import cli

    signal.signal(signal.SIGINT, handler)
    sys.exit(cli.main())


if __name__ == "__main__":
    main()
