"""The bell: writers of the journal wake its readers. A ring may be lost; readers also look by
themselves from time to time.
"""

from typing import Protocol


class Bell(Protocol):
    """The writer's end."""

    def ring(self) -> None:
        """Something was written. Never blocks, never fails."""
