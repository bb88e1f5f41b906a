"""Access keys for tests: made as the command makes them, without a process for each."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple, cast

from taskbus.model.access import digest_of, new_token, split_token
from tests.support.router import Router, Session, Via, joined
from tests.support.site import Site


class Key(NamedTuple):
    """A key of a site."""

    site: Site
    id: str
    token: str

    @contextmanager
    def joined(
        self, via: Via = "socket", authid: str | None = None, ticket: str | None = None
    ) -> Iterator[Session]:
        """A session of it; with another authid or ticket, one that should be refused."""
        router = cast("Router", self.site)
        who, proof = authid or self.id, self.token if ticket is None else ticket
        with joined(router, who, proof, via) as session:
            yield session


def new_key(site: Site, *scopes: str, seconds: float | None = None, rate: str | None = None) -> Key:
    """A key that is good for so many seconds, or for ever."""
    id_, token = new_token()
    _, secret = split_token(token) or ("", "")
    expires = None if seconds is None else time.time() + seconds
    with site.joined() as operator:
        operator.call(
            "taskbus.access.create",
            id=id_,
            name="a test",
            digest=digest_of(secret),
            scopes=list(scopes),
            expires=expires,
            rate=rate,
        )
    return Key(site, id_, token)
