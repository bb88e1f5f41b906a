"""``taskbus key``: make access keys, list them, revoke them."""

import argparse
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from taskbus import show
from taskbus.command.visit import calling, visit
from taskbus.model.access import ACTIONS, check_key, check_key_id, digest_of, new_token, split_token
from taskbus.model.errors import InvalidArgument
from taskbus.model.settings import Settings
from taskbus.site.checks import NotReady
from taskbus.site.folders import user_id, write_private

_LIFE = re.compile(r"([1-9][0-9]{0,7})([smhdw])")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def add(commands: Any) -> None:
    """The command and its verbs. ``commands``: argparse's subparsers."""
    help_ = "access keys: who may do what, over HTTP and WAMP"
    verbs = commands.add_parser("key", help=help_, description=help_).add_subparsers(
        required=True, metavar="VERB"
    )
    create = _verb(verbs, "create", _create, "make a key, and print it: this once, and never again")
    create.add_argument("name", help="what it is for, as the list shows it")
    create.add_argument(
        "--scope", action="append", required=True, metavar="ACTION:URI",
        help=f"what it may do, repeatable: {', '.join(ACTIONS)}, each with a URI, com.x.* or *, "
        "as in call:com.example.shop.*; * alone is everything",
    )  # fmt: skip
    create.add_argument("--rate", help="requests over HTTP in a time, such as 100/minute")
    create.add_argument("--expires", metavar="TIME", help="its life: 12h, 30d, 52w")
    create.add_argument(
        "--signing", action="store_true",
        help="its requests may be signed; the gateway then keeps the key itself, in var/secrets",
    )  # fmt: skip
    _verb(verbs, "list", _list, "list keys, the oldest first")
    revoke = _verb(verbs, "revoke", _revoke, "forget a key, and end its sessions")
    revoke.add_argument("id", help="the key's id, as the list shows it")


def _verb(verbs: Any, name: str, run: Callable[..., int], help_: str) -> argparse.ArgumentParser:
    sub: argparse.ArgumentParser = verbs.add_parser(name, help=help_, description=help_)
    sub.add_argument("--json", action="store_true", help="print JSON, for scripts")
    sub.set_defaults(run=run)
    return sub


def _create(settings: Settings, options: argparse.Namespace) -> int:
    id_, token = new_token()
    _, secret = split_token(token) or ("", "")
    now = time.time()
    request = {
        "id": id_,
        "name": options.name,
        "digest": digest_of(secret),
        "scopes": options.scope,
        "rate": options.rate,
        "expires": None if options.expires is None else now + _seconds(options.expires),
        "signing": options.signing,
    }
    check_key(request, now)
    file = settings.signing / id_
    if options.signing:
        with _writing(file):
            write_private(file, f"{token}\n", user_id(settings, "gateway"))
    try:
        # The bus learns the digest alone.
        key = visit(settings, calling("taskbus.access.create", **request))
    except BaseException:
        file.unlink(missing_ok=True)
        raise
    if options.json:
        show.as_json({**key, "key": token})
    else:
        show.lines([token])
        show.progress(f"that is key {id_}; keep it now, it is not shown again")
    return 0


def _list(settings: Settings, options: argparse.Namespace) -> int:
    found = visit(settings, calling("taskbus.access.list"))
    show.as_json(found) if options.json else show.keys(found)
    return 0


def _revoke(settings: Settings, options: argparse.Namespace) -> int:
    id_ = check_key_id(options.id)
    ended = visit(settings, calling("taskbus.access.revoke", id_))
    file = settings.signing / id_
    with _writing(file):
        file.unlink(missing_ok=True)
    if options.json:
        show.as_json({"id": id_, "sessions_ended": ended})
    else:
        sessions = f"{ended} session{'' if ended == 1 else 's'}"
        show.progress(f"key {id_} is revoked, {sessions} of it ended")
    return 0


@contextmanager
def _writing(file: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise NotReady(
            f"cannot write {file}: {error.strerror}",
            remedy="do this as the user who started the bus, once it has been up",
        ) from None


def _seconds(text: str) -> float:
    found = _LIFE.fullmatch(text)
    if found is None:
        raise InvalidArgument("--expires", text, "not a time", "write 12h, 30d or 52w")
    return float(int(found[1]) * _UNITS[found[2]])
