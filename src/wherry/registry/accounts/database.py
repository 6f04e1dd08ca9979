"""Connections to the accounts' database, and the number that grows with every change. Blocks; any thread."""

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import sqlalchemy as sql
from sqlalchemy.engine import Connection, Engine

from wherry.errors import NewerSchema
from wherry.registry.accounts import tables as t
from wherry.registry.sqlite import open_engine

_NUMBER: Final = "SELECT number FROM wherry_accounts WHERE id = 1"


class Database:
    """The accounts' database.

    Args:
        url: SQLAlchemy's (`sqlite:////…/accounts.db`, `postgresql+psycopg://…`).

    Raises:
        NewerSchema: made by a newer version.
    """

    def __init__(self, url: str) -> None:
        self._engine, path = _engine(url)
        with self._engine.execution_options(write=True).begin() as db:
            t.metadata.create_all(db)
            found = db.execute(sql.select(t.changes.c.schema)).scalar()
            if found is not None and found > t.SCHEMA:
                raise NewerSchema(f"the accounts have schema {found}, this version knows {t.SCHEMA}")
            if found is None:
                db.execute(t.changes.insert().values(id=1, schema=t.SCHEMA, number=0))
        # asked for with every request: one prepared statement on an open connection takes a few microseconds
        self._probing = threading.Lock()
        self._probe = sqlite3.connect(path, check_same_thread=False, isolation_level=None) if path else None

    def close(self) -> None:
        """Give up all connections."""
        if self._probe is not None:
            self._probe.close()
        self._engine.dispose()

    def number(self) -> int:
        """How many changes there were. What was read after asking is at least as new."""
        if self._probe is not None:
            with self._probing:
                return int(self._probe.execute(_NUMBER).fetchone()[0])
        with self._engine.connect() as db:
            return int(db.execute(sql.text(_NUMBER)).scalar_one())

    @property
    def is_local(self) -> bool:
        """Whether `number` is quick enough to be asked on the event loop."""
        return self._probe is not None

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that only reads."""
        with self._engine.connect() as db:
            yield db

    @contextmanager
    def change(self) -> Iterator[Connection]:
        """A transaction that changes what people may do: every process forgets what it remembers."""
        with self._engine.execution_options(write=True).begin() as db:
            yield db
            db.execute(t.changes.update().values(number=t.changes.c.number + 1))

    @contextmanager
    def note(self) -> Iterator[Connection]:
        """A transaction that writes what nobody remembers (when something was used)."""
        with self._engine.execution_options(write=True).begin() as db:
            yield db


def _engine(url: str) -> tuple[Engine, str]:
    """The engine, and the file where it is SQLite's."""
    if not url.startswith("sqlite"):
        return sql.create_engine(url, pool_pre_ping=True), ""
    path = sql.make_url(url).database or ""
    directory = os.path.dirname(os.path.abspath(path))
    os.makedirs(directory, 0o700, exist_ok=True)
    # password hashes: made here, with its mode, before SQLite would make it with the umask's
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
    # in full: a revocation that was reported is not undone by a power loss
    engine = open_engine(url, synchronous="FULL", cache_kib=1000)
    return engine, path
