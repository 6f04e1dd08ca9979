"""Users and organisations. Blocks; any thread."""

import time

import sqlalchemy as sql
from msgspec import Struct
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from wherry.errors import Conflict, Forbidden, NameInUse, NotFound
from wherry.registry.accounts import roles
from wherry.registry.accounts import tables as t
from wherry.registry.accounts.database import Database

USER = "user"
ORGANISATION = "organisation"


class Account(Struct, frozen=True):
    """A user or an organisation."""

    id: int
    name: str
    kind: str
    password: str  # hash
    admin: bool
    serial: int
    about: str
    created: int

    @property
    def is_user(self) -> bool:
        """Whether it is a user."""
        return self.kind == USER


class Membership(Struct, frozen=True):
    """Somebody in an organisation, or in a repository."""

    name: str
    role: str


class People:
    """Users, organisations and who is in them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def find(self, name: str) -> Account | None:
        """The account of that name, if there is one."""
        with self._database.read() as db:
            return find(db, name)

    def count(self, kind: str = USER) -> int:
        """How many there are."""
        with self._database.read() as db:
            query = sql.select(sql.func.count()).select_from(t.accounts).where(t.accounts.c.kind == kind)
            return int(db.execute(query).scalar_one())

    def users(self, last: str = "", count: int = 1000) -> list[Account]:
        """Users behind `last`, by name."""
        c = t.accounts.c
        query = sql.select(t.accounts).where(c.kind == USER, c.name > last).order_by(c.name).limit(count)
        with self._database.read() as db:
            return [Account(**row) for row in db.execute(query).mappings()]

    def add_user(self, name: str, password: str, *, admin: bool = False, invitation: str | None = None) -> Account:
        """Add a user.

        Args:
            name: checked here.
            password: its hash, see `passwords`.
            admin: of the whole registry.
            invitation: hash of the code that is spent on it; None where none is needed.

        Raises:
            NameInUse: an account, or somebody's repositories, have that name.
            Forbidden: the invitation is not good (any more).
        """
        with self._database.change() as db:
            if invitation is not None:
                c = t.invitations.c
                spent = db.execute(t.invitations.delete().where(c.hash == invitation, c.expires > int(time.time())))
                if spent.rowcount != 1:
                    raise Forbidden("that invitation is not known, or no longer good")
            return _add(db, name, USER, password, admin)

    def add_organisation(self, name: str, owner: Account) -> Account:
        """Add an organisation that `owner` owns. Raises `NameInUse`."""
        with self._database.change() as db:
            made = _add(db, name, ORGANISATION, "", False)
            db.execute(t.memberships.insert().values(organisation=made.id, account=owner.id, role=roles.OWNER))
            return made

    def set_password(self, name: str, password: str) -> None:
        """Give a user another password (its hash): sessions and bearer tokens that it had end."""
        with self._database.change() as db:
            user = _user(db, name)
            db.execute(
                t.accounts.update()
                .where(t.accounts.c.id == user.id)
                .values(password=password, serial=t.accounts.c.serial + 1)
            )
            db.execute(t.sessions.delete().where(t.sessions.c.account == user.id))

    def set_admin(self, name: str, admin: bool) -> None:
        """Make a user an administrator of the registry, or no longer."""
        with self._database.change() as db:
            user = _user(db, name)
            if user.admin and not admin:
                _keep_an_admin(db, user)
            db.execute(t.accounts.update().where(t.accounts.c.id == user.id).values(admin=admin))

    def set_about(self, name: str, about: str) -> None:
        """One line that the account's page shows."""
        with self._database.change() as db:
            db.execute(t.accounts.update().where(t.accounts.c.name == name).values(about=about[:200]))

    def remove(self, name: str, *, force: bool = False) -> Account:
        """Remove an account with its memberships, sessions and tokens; its repositories stay, for administrators.

        Args:
            name: of the account.
            force: also where it has repositories, or is the last administrator.

        Raises:
            NotFound: there is none.
            Conflict: it has repositories, is the last administrator, or the last owner of an organisation.
        """
        with self._database.change() as db:
            account = _account(db, name)
            if not force:
                c = t.repositories.c
                kept = db.execute(
                    sql.select(sql.func.count()).select_from(t.repositories).where(c.namespace == name)
                ).scalar_one()
                if kept:
                    raise Conflict(f"{name} has {kept} repositories")
                if account.admin:
                    _keep_an_admin(db, account)
                for organisation in _owned(db, account):
                    _keep_an_owner(db, organisation, account.id)
            db.execute(t.robots.delete().where(t.robots.c.namespace == name))
            db.execute(t.accounts.delete().where(t.accounts.c.id == account.id))
            return account

    # --- members of organisations

    def organisations(self, account: Account) -> list[Membership]:
        """Organisations that somebody is in, with the role."""
        query = (
            sql.select(t.accounts.c.name, t.memberships.c.role)
            .join(t.memberships, t.memberships.c.organisation == t.accounts.c.id)
            .where(t.memberships.c.account == account.id)
            .order_by(t.accounts.c.name)
        )
        with self._database.read() as db:
            return [Membership(*row) for row in db.execute(query)]

    def members(self, organisation: Account) -> list[Membership]:
        """Who is in an organisation."""
        query = (
            sql.select(t.accounts.c.name, t.memberships.c.role)
            .join(t.memberships, t.memberships.c.account == t.accounts.c.id)
            .where(t.memberships.c.organisation == organisation.id)
            .order_by(t.accounts.c.name)
        )
        with self._database.read() as db:
            return [Membership(*row) for row in db.execute(query)]

    def set_member(self, organisation: Account, name: str, role: str) -> None:
        """Give somebody a role in an organisation; an empty one removes them.

        Raises:
            NotFound: no such user.
            Conflict: the last owner would be gone.
        """
        with self._database.change() as db:
            user = _user(db, name)
            c = t.memberships.c
            here = (c.organisation == organisation.id, c.account == user.id)
            if role != roles.OWNER:
                _keep_an_owner(db, organisation.id, user.id)
            db.execute(t.memberships.delete().where(*here))
            if role:
                role = roles.organisation_role(role)
                db.execute(t.memberships.insert().values(organisation=organisation.id, account=user.id, role=role))


def find(db: Connection, name: str) -> Account | None:
    """The account of that name, in a transaction."""
    row = db.execute(sql.select(t.accounts).where(t.accounts.c.name == name)).mappings().first()
    return Account(**row) if row is not None else None


def _account(db: Connection, name: str) -> Account:
    found = find(db, name)
    if found is None:
        raise NotFound(f"no such user or organisation: {name[:64]}")
    return found


def _user(db: Connection, name: str) -> Account:
    found = find(db, name)
    if found is None or not found.is_user:
        raise NotFound(f"no such user: {name[:64]}")
    return found


def _add(db: Connection, name: str, kind: str, password: str, admin: bool) -> Account:
    roles.account_name(name)
    # who takes the name of a namespace owns what lies in it: also what somebody left behind
    c = t.repositories.c
    left = db.execute(sql.select(c.id).where(sql.or_(c.namespace == name, c.name == name)).limit(1)).first()
    if left is not None and not admin:
        raise NameInUse(f"the name {name} is taken")
    values = {
        "name": name,
        "kind": kind,
        "password": password,
        "admin": admin,
        "serial": 1,
        "about": "",
        "created": int(time.time()),
    }
    try:
        with db.begin_nested():
            db.execute(t.accounts.insert().values(values))
    except IntegrityError:
        raise NameInUse(f"the name {name} is taken") from None
    return _account(db, name)


def _owned(db: Connection, account: Account) -> list[int]:
    c = t.memberships.c
    return list(db.execute(sql.select(c.organisation).where(c.account == account.id, c.role == roles.OWNER)).scalars())


def _keep_an_owner(db: Connection, organisation: int, leaves: int) -> None:
    c = t.memberships.c
    owners = set(
        db.execute(sql.select(c.account).where(c.organisation == organisation, c.role == roles.OWNER)).scalars()
    )
    if owners == {leaves}:
        raise Conflict("an organisation has at least one owner")


def _keep_an_admin(db: Connection, leaves: Account) -> None:
    c = t.accounts.c
    others = db.execute(sql.select(c.id).where(c.admin, c.id != leaves.id).limit(1)).first()
    if others is None:
        raise Conflict(f"{leaves.name} is the last administrator")
