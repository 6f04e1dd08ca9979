"""How SQLite is opened here: its log written ahead, and transactions begun as SQLAlchemy says."""

import fcntl
import os
from typing import Any

import sqlalchemy as sql
from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine

BUSY_SECONDS = 20


def open_engine(url: str, *, synchronous: str, cache_kib: int) -> Engine:
    """Make an engine for `url` (`sqlite:///…`).

    Args:
        synchronous: `FULL`: a transaction that was reported survives a power failure; `NORMAL`: the last may be lost.
        cache_kib: memory for pages, for each connection.
    """
    path = sql.make_url(url).database
    engine = sql.create_engine(url, connect_args={"timeout": BUSY_SECONDS})

    @event.listens_for(engine, "connect")
    def _connected(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # SQLAlchemy begins (below): sqlite3's own rules begin too late
        _write_ahead(connection, path)
        for pragma in (
            f"synchronous={synchronous}",
            "foreign_keys=ON",
            f"busy_timeout={BUSY_SECONDS * 1000}",
            f"cache_size=-{cache_kib}",
        ):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begun(connection: Connection) -> None:
        # a reader that becomes a writer would be refused where another one wrote meanwhile: writers say so at once
        immediate = connection.get_execution_options().get("write")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")

    return engine


def _write_ahead(connection: Any, path: str | None) -> None:
    """Choose the write-ahead log. SQLite does not wait for others here: of two that begin a file, one is refused."""
    if not path or path == ":memory:":
        connection.execute("PRAGMA journal_mode=WAL")
        return
    directory = os.open(os.path.dirname(os.path.abspath(path)), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        connection.execute("PRAGMA journal_mode=WAL")
    finally:
        os.close(directory)
