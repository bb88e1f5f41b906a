"""Command lines of strangers, without a shell, and which of them the settings allow."""

import shlex
from collections.abc import Sequence
from typing import Any

from taskbus.model.errors import InvalidArgument

# An argument list in the settings that ends with it allows any further arguments.
ANY = "*"

_OPERATORS = frozenset("();<>|&`")


def words(text: str) -> list[str]:
    """The argument list in a command line: quotes and backslashes are as in a shell, and nothing
    else. Raises InvalidArgument where it asks for more of a shell.
    """
    try:
        found = shlex.split(text)
    except ValueError as error:
        raise InvalidArgument("cmd", text, str(error), "close each quote") from None
    for word in found:
        if word and set(word) <= _OPERATORS:
            raise InvalidArgument(
                "cmd", text, f"{word!r} is for a shell", "put it into a script, and run that"
            )
    return found


def is_allowed(argv: Sequence[str], allowed: Sequence[Sequence[str]]) -> bool:
    """Whether one of the allowed lists is this one, or its beginning with ANY behind it."""
    return any(
        list(argv[: len(one) - 1]) == list(one[:-1]) if one[-1] == ANY else list(argv) == list(one)
        for one in allowed
    )


def check_programs(value: Any) -> tuple[tuple[str, ...], ...]:
    """The argument lists that the settings allow; ANY alone is none of them."""
    lists: list[Any] = value if isinstance(value, list) else [None]
    if all(map(_is_argv, lists)) and not any(argv[0] in ("", ANY) for argv in lists):
        return tuple(tuple(argv) for argv in lists)
    raise InvalidArgument(
        "exec", value, "not a list of argument lists",
        'write [["/opt/thumbs.sh"], ["php", "resize.php", "*"]]; "*" is for any arguments',
    )  # fmt: skip


def _is_argv(value: Any) -> bool:
    is_list = isinstance(value, list) and len(value) > 0
    return is_list and all(isinstance(word, str) and "\0" not in word for word in value)
