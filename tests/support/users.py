"""Letting a site give its programs users of their own: as root, or in a user namespace."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.support.processes import REPOSITORY

# In a mount namespace, the repository as others see it, below a folder that hides it from them.
_SHOW = """
set -e
umask 022
hidden=$1 repository=$2 aside=$3; shift 3
mount --rbind "$repository" "$aside"
mount -t tmpfs -o mode=755 tmpfs "$hidden"
mkdir -p "$repository"
mount --rbind "$aside" "$repository"
exec "$@"
"""


def with_users(aside: Path) -> tuple[str, ...]:
    """The words in front of a command that let it become any user, each of whom can read the
    repository; ``aside`` is an empty folder. Fails the test where the machine does not allow it.
    """
    words = []
    hidden = _hidden(REPOSITORY)
    if os.geteuid() != 0:
        words += ["unshare", "--user", "--map-root-user", "--map-auto", "--mount"]
    elif hidden:
        words += ["unshare", "--mount"]
    if hidden:
        words += ["sh", "-c", _SHOW, "sh", str(hidden), str(REPOSITORY), str(aside)]
    done = subprocess.run([*words, "true"], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.fail(
            "a bus whose programs have users of their own takes root, or for others user "
            "namespaces, newuidmap (Debian: uidmap) and a range in /etc/subuid and /etc/subgid; "
            f"it also takes mount namespaces where others cannot enter {hidden or 'a folder'}: "
            f"{done.stderr.strip()}"
        )
    return tuple(words)


def _hidden(place: Path) -> Path | None:
    """The outermost folder on the way to a place that others may not enter."""
    for folder in (*reversed(place.parents), place):
        if not folder.stat().st_mode & 0o001:
            return folder
    return None
