"""``php = "Example\\GetFreeSpace"``: a PHP of its own for each job, by the contract of ``exec``.

Its stdout is a part of its log, as any code of PHP may write there: it answers elsewhere.
"""

from collections.abc import Sequence

from taskbus.handler import Handler
from taskbus.handler.exec import exec_handler
from taskbus.handler.spawn import ANSWER


def php_handler(target: Sequence[str], timeout: float | None) -> Handler:
    """``target``: see ``taskbus.model.php.PhpTarget``."""
    return exec_handler(target, timeout, ANSWER)
