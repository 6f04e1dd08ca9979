"""Tokens for machines: for one repository or a namespace, and for some actions; shown once, kept as a hash.

A token never allows more than its maker may do at the moment of use. Blocks; any thread.
"""

import secrets
import time
from typing import Final

import sqlalchemy as sql
from msgspec import Struct
from sqlalchemy.exc import IntegrityError

from wherry.errors import InvalidArgument, NameInUse, NotFound
from wherry.registry import names
from wherry.registry.accounts import roles
from wherry.registry.accounts import tables as t
from wherry.registry.accounts.database import Database
from wherry.registry.accounts.people import Account
from wherry.registry.accounts.sessions import hash_secret
from wherry.registry.accounts.shelves import namespace_of

PREFIX: Final = "wry_"
"""What a secret begins with, so that scanners for leaked secrets can tell it."""
_USED_PRECISION: Final = 300


class Robot(Struct, frozen=True):
    """A robot's token, without its secret."""

    id: int
    name: str
    namespace: str
    repository: str
    actions: frozenset[str]
    maker: int | None
    created: int
    expires: int
    used: int

    def covers(self, repository: str) -> bool:
        """Whether it is for that repository."""
        if self.repository.endswith("/*"):
            return namespace_of(repository) == self.namespace
        return repository == self.repository

    @property
    def is_expired(self) -> bool:
        """Whether its time is over."""
        return 0 < self.expires <= time.time()


def token_scope(repository: str) -> str:
    """Return the namespace of what a token is for: a repository, or `namespace/*`.

    Raises:
        InvalidArgument, NameInvalid: it is neither.
    """
    if repository.endswith("/*"):
        return roles.account_name(repository[:-2])
    return namespace_of(names.repository_name(repository))


_COLUMNS = [t.robots.c[name] for name in Robot.__struct_fields__]


class Robots:
    """All tokens for machines."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(
        self, word: str, repository: str, actions: frozenset[str], maker: Account | None, lifetime: int = 0
    ) -> tuple[Robot, str]:
        """Make a token.

        Args:
            word: its name within the namespace; the whole name, `namespace+word`, is the user name to log in with.
            repository: name of one, or `namespace/*`.
            actions: see `roles.robot_actions`.
            maker: whose rights are its ceiling; None: the operator's, who may all.
            lifetime: seconds; 0 for ever.

        Returns:
            the token, and its secret, which is kept nowhere.

        Raises:
            NameInUse, InvalidArgument, NameInvalid.
        """
        namespace = token_scope(repository)
        if lifetime < 0:
            raise InvalidArgument("a token's lifetime is not negative")
        secret = PREFIX + secrets.token_urlsafe(32)
        now = int(time.time())
        values = {
            "name": f"{namespace}+{roles.robot_word(word)}",
            "hash": hash_secret(secret),  # no slow hash: nobody guesses 256 random bits
            "namespace": namespace,
            "repository": repository,
            "actions": ",".join(sorted(actions)),
            "maker": maker.id if maker is not None else None,
            "created": now,
            "expires": now + lifetime if lifetime else 0,
            "used": 0,
        }
        try:
            with self._database.change() as db:
                db.execute(t.robots.insert().values(values))
        except IntegrityError:
            raise NameInUse(f"there is a token {values['name']} already") from None
        made = self.by_name(str(values["name"]))
        assert made is not None  # just written
        return made, secret

    def by_hash(self, key: str) -> Robot | None:
        """The token whose secret has that hash, if there is one."""
        return self._one(t.robots.c.hash == key)

    def by_id(self, number: int) -> Robot | None:
        """The token of that number, if it was not revoked."""
        return self._one(t.robots.c.id == number)

    def by_name(self, name: str) -> Robot | None:
        """The token of that name."""
        return self._one(t.robots.c.name == name)

    def of_repository(self, repository: str) -> list[Robot]:
        """Tokens for one repository, and for its whole namespace."""
        namespace = namespace_of(repository)
        return self._many(t.robots.c.repository.in_((repository, f"{namespace}/*")))

    def of_maker(self, maker: Account) -> list[Robot]:
        """Tokens that somebody made."""
        return self._many(t.robots.c.maker == maker.id)

    def all(self) -> list[Robot]:
        """All of them."""
        return self._many(sql.true())

    def revoke(self, name: str) -> Robot:
        """End a token, at once. Raises `NotFound`."""
        found = self.by_name(name)
        if found is None:
            raise NotFound(f"no such token: {name[:130]}")
        with self._database.change() as db:
            db.execute(t.robots.delete().where(t.robots.c.id == found.id))
        return found

    def note_use(self, robot: Robot) -> None:
        """Keep when it was used, to five minutes."""
        now = int(time.time())
        if now - robot.used < _USED_PRECISION:
            return
        with self._database.note() as db:
            db.execute(
                t.robots.update()
                .where(t.robots.c.id == robot.id, t.robots.c.used <= now - _USED_PRECISION)
                .values(used=now)
            )

    def _one(self, where: sql.ColumnElement[bool]) -> Robot | None:
        found = self._many(where)
        return found[0] if found else None

    def _many(self, where: sql.ColumnElement[bool]) -> list[Robot]:
        with self._database.read() as db:
            rows = db.execute(sql.select(*_COLUMNS).where(where).order_by(t.robots.c.name)).mappings().all()
        return [Robot(**{**row, "actions": frozenset(row["actions"].split(","))}) for row in rows]
