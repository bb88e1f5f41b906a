"""Where the PHP of a site is: its program, our part of it, and its own classes."""

from typing import NamedTuple

# Of the API map's entries.
KIND = "php"
# Of the backends of PHP.
ROLE = "php"


class PhpTarget(NamedTuple):
    """An argument list: the program that runs one task of this class (exec's contract)."""

    command: str
    script: str
    folder: str
    name: str


class PhpSite(NamedTuple):
    """``command``: PHP's program; ``client``: the folder of our PHP; ``tasks``: that of the site's
    classes, where ``Example\\GetFreeSpace`` is in ``Example/GetFreeSpace.php``.
    """

    command: str = "php"
    client: str = "clients/php"
    tasks: str = "workers/php"

    def target(self, name: str) -> PhpTarget:
        """What runs the class of this name."""
        return PhpTarget(self.command, f"{self.client}/task.php", self.tasks, name)

    @property
    def forker(self) -> tuple[str, str]:
        """An argument list: what keeps PHP processes at hand, see ``taskbus.worker``."""
        return self.command, f"{self.client}/warm.php"


STANDARD_PHP = PhpSite()
