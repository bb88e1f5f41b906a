"""Whether another worker is still alive."""

from typing import Protocol


class Liveness(Protocol):
    """Workers name themselves, and can tell of each other's death on the same host."""

    def identity(self) -> str:
        """This process' name, as claims record it."""

    def is_dead(self, identity: str) -> bool:
        """True when the process that had this name is surely gone; False when it is not known."""
