"""What accounts know of repositories: visibility, description, members; and who may see which. Blocks; any thread.

A repository gets its row when it is created on a page, or by the first push that is allowed; its content is elsewhere.
"""

import time
from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sql
from msgspec import Struct
from sqlalchemy.exc import IntegrityError

from wherry.errors import NameInUse, NotFound
from wherry.registry import names
from wherry.registry.accounts import roles
from wherry.registry.accounts import tables as t
from wherry.registry.accounts.database import Database
from wherry.registry.accounts.people import Account, Membership

README_LIMIT = 64 << 10


class Shelf(Struct, frozen=True):
    """A repository as accounts know it."""

    id: int
    name: str
    namespace: str
    public: bool
    immutable: bool
    summary: str
    created: int
    pushed: int


_COLUMNS = [t.repositories.c[name] for name in Shelf.__struct_fields__]


def namespace_of(name: str) -> str:
    """The part before the first slash; empty where there is none."""
    head, slash, _ = name.partition("/")
    return head if slash else ""


class Shelves:
    """The rows of repositories."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def find(self, name: str) -> Shelf | None:
        """The repository of that name, if it has a row."""
        query = sql.select(*_COLUMNS).where(t.repositories.c.name == name)
        with self._database.read() as db:
            row = db.execute(query).mappings().first()
            return Shelf(**row) if row is not None else None

    def add(self, name: str, *, public: bool, summary: str = "") -> None:
        """Make a repository. Raises `NameInUse`, `NameInvalid`."""
        try:
            with self._database.change() as db:
                db.execute(t.repositories.insert().values(_row(name, public, summary)))
        except IntegrityError:
            raise NameInUse(f"the repository {name} is there already") from None

    def adopt(self, found: Iterable[str], *, public: bool) -> int:
        """Give rows to repositories that have content and no row; return how many."""
        with self._database.read() as db:
            known = set(db.execute(sql.select(t.repositories.c.name)).scalars())
        missing = [name for name in found if name not in known]
        done = 0
        for name in missing:
            try:
                self.add(name, public=public)
                done += 1
            except NameInUse:
                continue  # another process was quicker
        return done

    def remove(self, name: str) -> None:
        """Forget a repository, its members, and the tokens that were for it alone."""
        with self._database.change() as db:
            db.execute(t.robots.delete().where(t.robots.c.repository == name))
            db.execute(t.repositories.delete().where(t.repositories.c.name == name))

    def set(self, name: str, **values: Any) -> None:
        """Set `public`, `immutable`, `summary`, `readme`. Raises `NotFound`."""
        with self._database.change() as db:
            done = db.execute(t.repositories.update().where(t.repositories.c.name == name).values(values))
            if done.rowcount == 0:
                raise NotFound(f"no such repository: {name}")

    def readme(self, name: str) -> str:
        """The description, in Markdown."""
        with self._database.read() as db:
            return str(
                db.execute(sql.select(t.repositories.c.readme).where(t.repositories.c.name == name)).scalar() or ""
            )

    def pushed(self, name: str) -> None:
        """Note that something was pushed now."""
        with self._database.note() as db:
            db.execute(t.repositories.update().where(t.repositories.c.name == name).values(pushed=int(time.time())))

    # --- members

    def members(self, name: str) -> list[Membership]:
        """Who has a role of their own in a repository."""
        query = (
            sql.select(t.accounts.c.name, t.members.c.role)
            .join(t.members, t.members.c.account == t.accounts.c.id)
            .join(t.repositories, t.repositories.c.id == t.members.c.repository)
            .where(t.repositories.c.name == name)
            .order_by(t.accounts.c.name)
        )
        with self._database.read() as db:
            return [Membership(*row) for row in db.execute(query)]

    def set_member(self, name: str, user: str, role: str) -> None:
        """Give somebody a role in a repository; an empty one removes them. Raises `NotFound`."""
        a = t.accounts.c
        with self._database.change() as db:
            repository = db.execute(sql.select(t.repositories.c.id).where(t.repositories.c.name == name)).scalar()
            account = db.execute(sql.select(a.id).where(a.name == user, a.kind == "user")).scalar()
            if repository is None:
                raise NotFound(f"no such repository: {name}")
            if account is None:
                raise NotFound(f"no such user: {user[:64]}")
            here = (t.members.c.repository == repository, t.members.c.account == account)
            db.execute(t.members.delete().where(*here))
            if role:
                role = roles.repository_role(role)
                db.execute(t.members.insert().values(repository=repository, account=account, role=role))

    # --- lists

    def visible(self, account: Account | None, found: Sequence[str]) -> list[str]:
        """Those of `found` that somebody may know of, in the same order."""
        query = sql.select(t.repositories.c.name).where(t.repositories.c.name.in_(found), *_seen_by(account))
        with self._database.read() as db:
            seen = set(db.execute(query).scalars())
        return [name for name in found if name in seen]

    def search(
        self,
        account: Account | None,
        text: str,
        *,
        everything: bool = False,
        namespace: str | None = None,
        within: str | None = None,
        offset: int = 0,
        count: int = 25,
    ) -> tuple[int, list[Shelf]]:
        """Repositories that somebody may know of: how many, and one page of them, best match first.

        Args:
            account: who asks; None for nobody in particular.
            everything: whether they may know of all (the operator's robots).
            text: words, all of which must be in the name or the summary; empty finds all, latest push first.
            namespace: only those of one.
            within: only this one, or with `/*` those of one namespace (what a robot's token is for).
            offset, count: the page.
        """
        c = t.repositories.c
        where = [] if everything else list(_seen_by(account))
        if namespace is not None:
            where.append(c.namespace == namespace)
        if within is not None:
            prefix = within.removesuffix("/*")
            where.append(c.namespace == prefix if within.endswith("/*") else c.name == within)
        words = text.lower().split()[:8]
        for word in words:
            where.append(
                sql.or_(
                    c.name.contains(word, autoescape=True),
                    sql.func.lower(c.summary).contains(word, autoescape=True),
                )
            )
        order: list[Any] = [c.pushed.desc(), c.name]
        if words:
            first = words[0]
            rank = sql.case(
                (c.name == first, 0),
                (c.name.endswith(f"/{first}", autoescape=True), 1),
                (c.name.startswith(first, autoescape=True), 2),
                (c.name.contains(f"/{first}", autoescape=True), 3),
                (c.name.contains(first, autoescape=True), 4),
                else_=5,
            )
            order = [rank, sql.func.length(c.name), c.name]
        with self._database.read() as db:
            total = int(db.execute(sql.select(sql.func.count()).select_from(t.repositories).where(*where)).scalar_one())
            page = sql.select(*_COLUMNS).where(*where).order_by(*order).offset(offset).limit(count)
            return total, [Shelf(**row) for row in db.execute(page).mappings()]


def _seen_by(account: Account | None) -> list[sql.ColumnElement[bool]]:
    c = t.repositories.c
    if account is None:
        return [c.public]
    if account.admin:
        return []
    mine = sql.select(t.members.c.repository).where(t.members.c.account == account.id)
    organisations = (
        sql.select(t.accounts.c.name)
        .join(t.memberships, t.memberships.c.organisation == t.accounts.c.id)
        .where(t.memberships.c.account == account.id)
    )
    return [
        sql.or_(c.public, c.namespace == account.name, c.id.in_(mine), c.namespace.in_(organisations)),
    ]


def _row(name: str, public: bool, summary: str) -> dict[str, Any]:
    names.repository_name(name)
    now = int(time.time())
    return {
        "name": name,
        "namespace": namespace_of(name),
        "public": public,
        "immutable": False,
        "summary": summary[:200],
        "readme": "",
        "created": now,
        "pushed": now,
    }
