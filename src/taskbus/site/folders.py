"""The site's folders and secrets: made on the first start, with the rights that programs need."""

import os
import pwd
import secrets
from pathlib import Path

from taskbus.model.settings import Settings

# Who proves itself with which secret, and which program reads the file; None: whoever starts
# the bus, and scripts of theirs.
PRINCIPALS = {
    "control": "control",
    "backend": "backend",
    "gateway": "gateway",
    "php": "php",
    "operator": None,
    "browser": None,
    "bridge": None,
}


def prepare_folders(settings: Settings) -> None:
    """Make what is missing and set owners and modes; safe to repeat."""
    shared = 0o2770 if settings.users else 0o700
    settings.var.mkdir(parents=True, exist_ok=True)
    group = shared_group(settings)
    for folder in (settings.run, settings.data, settings.logs, settings.data / "queue"):
        folder.mkdir(exist_ok=True)
        _own(folder, shared, -1, group)
    settings.secrets.mkdir(exist_ok=True)
    # Others may pass through, to files of their own.
    _own(settings.secrets, 0o711 if settings.users else 0o700, -1, -1)
    settings.signing.mkdir(exist_ok=True)
    _own(settings.signing, 0o700, user_id(settings, "gateway"), -1)
    settings.router_node.mkdir(exist_ok=True)
    _own(settings.router_node, 0o700, user_id(settings, "router"), -1)
    for principal, program in PRINCIPALS.items():
        _secret(settings, principal, -1 if program is None else user_id(settings, program))


def write_private(file: Path, text: str, owner: int = -1) -> None:
    """Write a file that only its owner can read, in one step."""
    fresh = file.with_name(f".{file.name}.new")
    fresh.unlink(missing_ok=True)
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(fd, "w", encoding="utf-8") as stream:
        stream.write(text)
    if owner != -1:
        os.chown(fresh, owner, -1)
    fresh.rename(file)


def read_bridge(settings: Settings) -> tuple[str, str]:
    """Key and secret that sign calls over HTTP."""
    lines = (settings.secrets / "bridge").read_text(encoding="utf-8").split()
    pairs = dict(line.split("=", 1) for line in lines)
    return pairs["key"], pairs["secret"]


def user_id(settings: Settings, program: str) -> int:
    """The user that a program runs as, -1 where none was chosen."""
    name = settings.users.get(program)
    return -1 if name is None else pwd.getpwnam(name).pw_uid


def shared_group(settings: Settings) -> int:
    """The group through which programs of several users share files, -1 for a single user."""
    for name in settings.users.values():
        return pwd.getpwnam(name).pw_gid
    return -1


def _secret(settings: Settings, principal: str, owner: int) -> None:
    file = settings.secrets / principal
    if not file.exists():
        fresh = secrets.token_urlsafe(32)
        key = f"key=cron\nsecret={fresh}\n" if principal == "bridge" else f"{fresh}\n"
        write_private(file, key, owner)
    _own(file, 0o600, owner, -1)


def _own(path: Path, mode: int, owner: int, group: int) -> None:
    if owner != -1 or group != -1:
        os.chown(path, owner, group)
    os.chmod(path, mode)
