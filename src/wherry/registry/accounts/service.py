"""Accounts, wired: what the server, the pages and the command line are given."""

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final, ParamSpec, TypeVar

from wherry.errors import InvalidArgument, NameInUse
from wherry.registry.accounts.attempts import Attempts
from wherry.registry.accounts.authorizer import AccountsAuthorizer
from wherry.registry.accounts.bearer import Bearer, load_key
from wherry.registry.accounts.callers import Callers, Known
from wherry.registry.accounts.database import Database
from wherry.registry.accounts.passwords import Passwords
from wherry.registry.accounts.people import People
from wherry.registry.accounts.robots import Robots
from wherry.registry.accounts.sessions import Sessions
from wherry.registry.accounts.shelves import Shelves
from wherry.registry.accounts.standing import Memory
from wherry.registry.audit import Audit, FileAudit, NoAudit
from wherry.registry.config import Settings

_THREADS: Final = 4
_PUSH_PRECISION: Final = 60.0

P = ParamSpec("P")
R = TypeVar("R")


class Accounts:
    """Everything about accounts; made once in a process.

    Args:
        settings: the registry's configuration.

    Raises:
        InvalidArgument: a setting, or the signing key, is not usable.
        NewerSchema: the database was made by a newer version.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings.accounts
        self.settings.check()
        self.database = Database(database_url(settings))
        self.people = People(self.database)
        self.shelves = Shelves(self.database)
        self.robots = Robots(self.database)
        self.sessions = Sessions(self.database, self.settings.session_lifetime)
        self.passwords = Passwords()
        self.attempts = Attempts(self.settings.attempts, settings.workers)
        self.bearer = Bearer(load_key(key_path(settings)), self.settings.token_lifetime)
        self.memory = Memory(self.database, self.robots, self.sessions, self.run)
        self.callers = Callers(
            self.memory, self.passwords, self.attempts, self.bearer, NoAudit(), self.settings.networks
        )
        self.authorizer = AccountsAuthorizer(
            self.callers,
            self.memory,
            self,
            url=self.settings.url,
            read_only=settings.read_only,
            delete=settings.delete,
        )
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="accounts")
        self._pushed: dict[str, float] = {}

    @property
    def audit(self) -> Audit:
        """Where what happens to accounts is written."""
        return self.callers.audit

    def use_audit(self, audit: Audit) -> None:
        """Write to this one from now on."""
        self.callers.audit = audit

    async def run(self, call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Do something that blocks, in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, partial(call, *args, **kwargs))

    def close(self) -> None:
        """Wait for what is under way in threads, give up the database."""
        self._pool.shutdown(wait=True)
        self.passwords.close()
        self.database.close()

    # --- what the authorizer needs

    async def visible(self, caller: Known, names: Sequence[str]) -> list[str]:
        """Those of `names` that a caller may know of; robots of the operator all."""
        if caller.robot is not None and caller.robot.maker is None:
            return list(names)
        return await self.run(self.shelves.visible, caller.account, names)

    async def begin(self, repository: str) -> None:
        """Make the row of a repository that is pushed to for the first time."""
        try:
            await self.run(self.shelves.add, repository, public=self.settings.new_repositories == "public")
        except NameInUse:
            return  # by another request, meanwhile

    def note_push(self, repository: str) -> None:
        """Keep when a repository was pushed to, to a minute; does not wait for it."""
        now = time.monotonic()
        if now - self._pushed.get(repository, -_PUSH_PRECISION) < _PUSH_PRECISION:
            return
        if len(self._pushed) > 10_000:
            self._pushed.clear()
        self._pushed[repository] = now
        self._pool.submit(self.shelves.pushed, repository)


class AccountsAudit(FileAudit):
    """The audit log of a registry with accounts, which also learn from it what was pushed.

    Args:
        path: of the file.
        accounts: told of pushes.
    """

    def __init__(self, path: str, accounts: Accounts) -> None:
        super().__init__(path)
        self._accounts = accounts

    def record(self, event: str, *, caller: str, request: str, **facts: Any) -> None:
        super().record(event, caller=caller, request=request, **facts)
        if event == "manifest.push":
            self._accounts.note_push(str(facts.get("repository", "")))


def audit_path(settings: Settings) -> str:
    """Where the audit log of a registry with accounts lies."""
    return settings.audit.file or os.path.join(os.path.abspath(settings.root), "audit.log")


def key_path(settings: Settings) -> str:
    """Where the key lies that signs bearer tokens."""
    return os.path.join(os.path.abspath(settings.root), "token.key")


def database_url(settings: Settings) -> str:
    """Of the accounts: as set, else SQLite below the root."""
    return settings.accounts.database or f"sqlite:///{os.path.abspath(settings.root)}/accounts.db"


def accounts_file(settings: Settings) -> str:
    """The file whose presence says that there are accounts; "" where the configuration says it."""
    if settings.accounts.enabled is not None or settings.accounts.database:
        return ""
    return os.path.join(os.path.abspath(settings.root), "accounts.db")


def has_accounts(settings: Settings) -> bool:
    """Whether the registry has accounts: as set, else since the first one was made.

    Raises:
        InvalidArgument: it had, and they are gone: it must not become everybody's.
    """
    if settings.accounts.enabled is not None:
        return settings.accounts.enabled
    if settings.accounts.database:
        return True
    file = os.path.join(os.path.abspath(settings.root), "accounts.db")
    if os.path.exists(file):
        return True
    if os.path.exists(key_path(settings)):
        raise InvalidArgument(
            f"{file} is gone, and {key_path(settings)} says that there were accounts: "
            "put it back, or set accounts.enabled"
        )
    return False


def open_accounts(settings: Settings) -> Accounts | None:
    """The accounts, or None where the registry has none. Raises as `Accounts` and `has_accounts` do."""
    return Accounts(settings) if has_accounts(settings) else None
