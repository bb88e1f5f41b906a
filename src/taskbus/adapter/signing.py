"""The keys that sign requests: one file of mode 0600 for each, with the whole key in it.

A signature cannot be checked with a digest of the key; so the program that checks it reads these.
"""

from pathlib import Path


class SigningKeys:
    """The files in a folder, each named by its key's id."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def token(self, id_: str) -> str | None:
        """The whole key; None where it may not sign. ``id_`` has the form of an id."""
        try:
            return (self._folder / id_).read_text(encoding="ascii").strip()
        except FileNotFoundError:
            return None
