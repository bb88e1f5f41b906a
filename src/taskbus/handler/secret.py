"""Secrets that are files, never part of the API map. Lean: the forker imports this."""

import os
import re
import stat
from base64 import b64encode

from taskbus.model.errors import ConfigError

_LARGEST = 8192
_VISIBLE = re.compile(rb"[!-~]([ !-~]*[!-~])?")


def proof(scheme: str, file: str) -> str:
    """The value of a header that proves who calls, read anew, so that a secret can be changed
    while the bus is up. ``scheme``: ``Bearer``, ``Basic``, or empty for the secret alone. Raises
    ConfigError, which does not show the secret.
    """
    secret = read_secret(file)
    if scheme == "Basic":
        if b":" not in secret:
            raise ConfigError(file, None, "not a login", "write user:password")
        secret = b64encode(secret)
    elif not _VISIBLE.fullmatch(secret):
        raise ConfigError(file, None, "not a line of visible ASCII", "write the secret alone")
    return f"{scheme} {secret.decode()}".lstrip()


def read_secret(file: str) -> bytes:
    """What is in the file, without the white space around it; raises ConfigError, also where
    others may read it.
    """
    try:
        with open(file, "rb") as opened:
            mode = os.fstat(opened.fileno()).st_mode
            secret = opened.read(_LARGEST + 1)
    except OSError as error:
        raise ConfigError(
            file, None, f"the secret cannot be read: {error.strerror}",
            "make it a file of who runs backends and workers",
        ) from error  # fmt: skip
    if not stat.S_ISREG(mode) or mode & 0o077:
        raise ConfigError(
            file, None, f"others may read this secret (mode {stat.S_IMODE(mode):04o})",
            f"run: chmod 600 {file}",
        )  # fmt: skip
    if len(secret) > _LARGEST:
        raise ConfigError(file, None, f"longer than {_LARGEST} bytes", "write the secret alone")
    return secret.strip()
