"""TOML that remembers lines, so that an error can name file and line."""

import re
import tomllib
from typing import Any

from taskbus.model.errors import ConfigError

_HEADER = re.compile(r"^\s*\[.*\]\s*(#.*)?$")
_KEY = re.compile(r"""^\s*("[^"]*"|'[^']*'|[A-Za-z0-9_-]+)\s*=""")

Path = tuple[str, ...]


class LocatedToml:
    """Parsed TOML: ``data`` is the document, ``error`` makes a ConfigError at a path in it."""

    def __init__(self, text: str, file: str) -> None:
        self.file = file
        try:
            self.data: dict[str, Any] = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            line = re.search(r"line (\d+)", str(error))
            # Without a number it is the end of the document that is wrong.
            number = int(line[1]) if line else len(text.splitlines())
            raise ConfigError(file, number, f"not TOML: {error}", "mend the syntax") from None
        self._lines = _index(text)

    def error(self, path: Path, problem: str, remedy: str) -> ConfigError:
        """The error, with the line of the longest known prefix of the path, else of what is first
        below it: ``[a.b]`` has no line of ``a``'s own.
        """
        for length in range(len(path), 0, -1):
            if line := self._lines.get(path[:length]):
                return ConfigError(self.file, line, problem, remedy)
        below = [line for known, line in self._lines.items() if known[: len(path)] == path]
        return ConfigError(self.file, min(below, default=None), problem, remedy)

    def table(self, data: Any, path: Path) -> dict[str, Any]:
        """The value as a table, or an error at its place."""
        if isinstance(data, dict):
            return data
        raise self.error(path, f"{'.'.join(path)} must be a table", "write it as [table]")


def _index(text: str) -> dict[Path, int]:
    lines: dict[Path, int] = {}
    table: Path = ()
    for number, line in enumerate(text.splitlines(), 1):
        if _HEADER.match(line):
            table = _leaf(line)
            lines.setdefault(table, number)
        elif key := _KEY.match(line):
            lines.setdefault((*table, key[1].strip("\"'")), number)
    return lines


def _leaf(header: str) -> Path:
    """The path that a header line opens: ``[a."b.c"]`` gives ``("a", "b.c")``."""
    try:
        node: Any = tomllib.loads(header)
    except tomllib.TOMLDecodeError:
        return ()
    path: list[str] = []
    # A list of tables, which nothing here is, is one more level.
    while isinstance(node, dict) and node:
        key = next(iter(node))
        path.append(key)
        node = node[key]
    return tuple(path)
