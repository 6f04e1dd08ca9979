"""Who is signed in on the web pages, and invitations. Secrets are kept as hashes. Blocks; any thread."""

import hashlib
import secrets
import time
from typing import Final

import sqlalchemy as sql
from msgspec import Struct

from wherry.registry.accounts import tables as t
from wherry.registry.accounts.database import Database
from wherry.registry.accounts.people import Account

_PER_ACCOUNT: Final = 20
INVITATION_SECONDS: Final = 7 * 86400


class Session(Struct, frozen=True):
    """Somebody signed in."""

    account: Account
    expires: int


class Sessions:
    """Sessions and invitations."""

    def __init__(self, database: Database, lifetime: int) -> None:
        self._database = database
        self._lifetime = lifetime

    def begin(self, account: Account) -> str:
        """Sign somebody in; returns the cookie's value. Of very many sessions the oldest end."""
        secret = secrets.token_urlsafe(32)
        now = int(time.time())
        c = t.sessions.c
        with self._database.note() as db:
            db.execute(t.sessions.delete().where(c.expires <= now))
            old = list(
                db.execute(
                    sql.select(c.hash)
                    .where(c.account == account.id)
                    .order_by(c.created.desc())
                    .offset(_PER_ACCOUNT - 1)
                ).scalars()
            )
            if old:
                db.execute(t.sessions.delete().where(c.hash.in_(old)))
            db.execute(
                t.sessions.insert().values(
                    hash=hash_secret(secret), account=account.id, created=now, expires=now + self._lifetime
                )
            )
        return secret

    def find(self, key: str) -> Session | None:
        """Whose cookie has that hash, if the session has not ended."""
        c = t.sessions.c
        query = (
            sql.select(t.accounts, c.expires)
            .join(t.sessions, c.account == t.accounts.c.id)
            .where(c.hash == key, c.expires > int(time.time()))
        )
        with self._database.read() as db:
            row = db.execute(query).mappings().first()
        if row is None:
            return None
        values = dict(row)
        expires = values.pop("expires")
        return Session(Account(**values), expires)

    def end(self, secret: str) -> None:
        """Sign out."""
        with self._database.change() as db:
            db.execute(t.sessions.delete().where(t.sessions.c.hash == hash_secret(secret)))

    def invite(self, maker: Account | None) -> str:
        """Make an invitation, good for one account and a week; returns its code."""
        code = secrets.token_urlsafe(18)
        now = int(time.time())
        with self._database.note() as db:
            db.execute(t.invitations.delete().where(t.invitations.c.expires <= now))
            db.execute(
                t.invitations.insert().values(
                    hash=hash_secret(code),
                    maker=maker.id if maker is not None else None,
                    created=now,
                    expires=now + INVITATION_SECONDS,
                )
            )
        return code


def hash_secret(secret: str) -> str:
    """How the secret of a session or an invitation is kept."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
