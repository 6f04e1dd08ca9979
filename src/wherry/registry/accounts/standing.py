"""What somebody may do with a repository, remembered until anything changes.

Every question first asks the database for the number of changes (a few microseconds with SQLite). A removed member, a
changed role or a revoked token therefore acts on the next request, of every process, whatever its bearer token says.
"""

import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

import sqlalchemy as sql
from msgspec import Struct

from wherry.registry.access import DELETE, OVERWRITE, PULL
from wherry.registry.accounts import people, roles
from wherry.registry.accounts import tables as t
from wherry.registry.accounts.database import Database
from wherry.registry.accounts.people import Account
from wherry.registry.accounts.robots import Robot, Robots
from wherry.registry.accounts.sessions import Session, Sessions, hash_secret
from wherry.registry.accounts.shelves import namespace_of

_REMEMBERED: Final = 20_000
FIXED: Final = frozenset((OVERWRITE, DELETE))
"""What nobody does where tags are immutable: who deletes a tag can push another image by its name."""


class Standing(Struct, frozen=True):
    """What somebody may do with a repository, which need not exist.

    Attributes:
        role: reader, writer, admin, or empty.
        actions: what the role allows here.
        public: whether everybody may read it.
        known: whether it has a row.
        immutable: whether its tags stay where they are.
    """

    role: str
    actions: frozenset[str]
    public: bool
    known: bool
    immutable: bool

    @property
    def administers(self) -> bool:
        """Whether settings, members and tokens are theirs to change."""
        return self.role in (roles.ADMIN, roles.OWNER)


class Memory:
    """Answers from memory what the database says.

    Args:
        database: asked where something is not remembered.
        run: calls what blocks in a thread.
    """

    def __init__(
        self, database: Database, robots: Robots, sessions: Sessions, run: Callable[..., Awaitable[Any]]
    ) -> None:
        self._database = database
        self._robots = robots
        self._sessions = sessions
        self._run = run
        self._number = -1
        self._held: dict[tuple[Any, ...], Any] = {}

    async def _remembered(self, key: tuple[Any, ...], load: Callable[[], Any], *, nothing: bool = True) -> Any:
        """What `load` returns, from memory if it can be; whether also None is remembered."""
        number = self._database.number() if self._database.is_local else await self._run(self._database.number)
        if number != self._number:
            self._number = number
            self._held = {}
        held = self._held  # what is loaded now may be old when it comes: then it goes where nobody looks
        try:
            return held[key]
        except KeyError:
            pass
        found = await self._run(load)
        if found is None and not nothing:
            return None
        if len(held) >= _REMEMBERED:
            held.clear()
        held[key] = found
        return found

    async def standing(self, account: Account | None, repository: str) -> Standing:
        """What somebody (None: anybody) may do with a repository."""
        found: Standing = await self._remembered(
            ("standing", account.id if account is not None else 0, repository),
            lambda: self._standing(account.id if account is not None else 0, repository),
        )
        return found

    async def account(self, name: str) -> Account | None:
        """The account of that name."""
        found: Account | None = await self._remembered(("account", name[:64]), lambda: self._account(name[:64]))
        return found

    async def account_by_id(self, number: int) -> Account | None:
        """The account of that number."""
        found: Account | None = await self._remembered(("number", number), lambda: self._account_by_id(number))
        return found

    async def robot(self, number: int) -> Robot | None:
        """The token of that number, while it is good."""
        found: Robot | None = await self._remembered(("robot", number), lambda: self._robots.by_id(number))
        return found if found is not None and not found.is_expired else None

    async def robot_by_secret(self, secret: str) -> Robot | None:
        """The token with that secret, while it is good."""
        key = hash_secret(secret)
        found: Robot | None = await self._remembered(("secret", key), lambda: self._robots.by_hash(key), nothing=False)
        return found if found is not None and not found.is_expired else None

    async def session(self, secret: str) -> Session | None:
        """Whose cookie that is."""
        key = hash_secret(secret)
        found: Session | None = await self._remembered(
            ("session", key), lambda: self._sessions.find(key), nothing=False
        )
        return found if found is not None and found.expires > time.time() else None

    # --- in a thread

    def _account(self, name: str) -> Account | None:
        with self._database.read() as db:
            return people.find(db, name)

    def _account_by_id(self, number: int) -> Account | None:
        with self._database.read() as db:
            row = db.execute(sql.select(t.accounts).where(t.accounts.c.id == number)).mappings().first()
            return Account(**row) if row is not None else None

    def _standing(self, account: int, repository: str) -> Standing:
        c = t.repositories.c
        namespace = namespace_of(repository)
        with self._database.read() as db:
            row = db.execute(sql.select(c.id, c.public, c.immutable).where(c.name == repository)).first()
            public = row is not None and bool(row.public)
            role = roles.READER if public else ""
            if account:
                role = roles.higher(role, self._role(db, account, namespace, row.id if row is not None else 0))
        actions = roles.ACTIONS[role]
        immutable = row is not None and bool(row.immutable)
        if immutable:
            actions -= FIXED
        return Standing(role, actions, public, row is not None, immutable)

    @staticmethod
    def _role(db: sql.Connection, account: int, namespace: str, repository: int) -> str:
        user = db.execute(sql.select(t.accounts.c.name, t.accounts.c.admin).where(t.accounts.c.id == account)).first()
        if user is None:
            return ""
        if user.admin or user.name == namespace:
            return roles.OWNER
        found = [""]
        if namespace:
            m = t.memberships.c
            found += db.execute(
                sql.select(m.role)
                .join(t.accounts, t.accounts.c.id == m.organisation)
                .where(t.accounts.c.name == namespace, m.account == account)
            ).scalars()
        if repository:
            found += db.execute(
                sql.select(t.members.c.role).where(t.members.c.repository == repository, t.members.c.account == account)
            ).scalars()
        return roles.higher(*found)


def allowed(standing: Standing, robot: Robot | None, repository: str) -> frozenset[str]:
    """What a robot may do where its maker has a standing; without one, what the standing allows."""
    if robot is None:
        return standing.actions
    granted = robot.actions if robot.covers(repository) else roles.NOTHING
    return (granted & standing.actions) | (frozenset((PULL,)) if standing.public else roles.NOTHING)
