"""A worker's forkers: of Python, and, where the API map has PHP classes, of PHP."""

import logging
from collections.abc import Iterator, Sequence

from taskbus.model.apimap import ApiMap, Entry
from taskbus.model.php import PhpSite, PhpTarget
from taskbus.worker.spares import ForkerGone, Spares

log = logging.getLogger(__name__)

# Of PHP: pools with many slots, as that of the webhooks, mostly have none of its jobs.
_MOST_SPARES = 4


class Forkers:
    """Those of one API map. PHP's is missing where nobody wants it, and where PHP cannot be it:
    then each PHP job starts a PHP of its own.
    """

    def __init__(
        self, api: ApiMap, path: Sequence[str], spares: int, php: PhpSite | None = None
    ) -> None:
        """``path``: where Python's task modules are; ``spares``: how many children wait at least,
        of PHP only a few; ``php``: where PHP is, None where its jobs start cold. Raises ForkerGone.
        """
        entries = api.for_workers()
        self._php = _php_forker(entries, php, spares) if php is not None else None
        cold = [one for one in entries if one.kind != "php" or self._php is None]
        handlers = {one.pattern: one.handler for one in cold}
        try:
            self._python = Spares(handlers, path, spares)
        except ForkerGone:
            if self._php is not None:
                self._php.close()
            raise

    def __iter__(self) -> Iterator[Spares]:
        return iter([self._python] if self._php is None else [self._python, self._php])

    def of(self, entry: Entry) -> Spares:
        """The one whose children run this entry's jobs."""
        return self._php if self._php is not None and entry.kind == "php" else self._python


def _php_forker(entries: Sequence[Entry], php: PhpSite, spares: int) -> Spares | None:
    classes = {one.pattern: one.target.name for one in entries if isinstance(one.target, PhpTarget)}
    if not classes:
        return None
    try:
        return Spares(classes, [php.tasks], min(spares, _MOST_SPARES), php.forker)
    except ForkerGone as error:
        log.warning("each PHP job starts a PHP of its own, which takes longer: %s", error)
        return None
