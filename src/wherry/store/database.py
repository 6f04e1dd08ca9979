"""The database of a data root: SQLite, one writer thread, transactions in batches.

It holds what names things, not the things: losing it loses image names, event history and cache (`recover`).
Writes are functions that run on the writer thread; those that wait together share one transaction and one fsync, each
in a savepoint of its own, so that one's error undoes that one only. A write is durable when its await returns.
Reads go through a connection of their own and see every write that was awaited.

The writer thread opens, uses and closes its connection. No cursor leaves it, neither as a result nor in the frames of
an error: a cursor that another thread frees resets its statement while the connection is in use.

A transaction that could not be made durable (a full disk) is undone, and yet the next start may find it in the log:
until a later one has been written over it nothing may be taken away that it speaks of (`doubtful`, `settle`).
"""

import asyncio
import os
import queue
import sqlite3
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from errno import ENOSPC
from typing import Any, TypeVar

from wherry.errors import KernelError, NewerSchema, StoreCorrupt, Unavailable, WherryError
from wherry.store.atomic import fsync_dir

T = TypeVar("T")
Write = Callable[[sqlite3.Connection], T]

# one step for each schema number, never edited once released: number N is what SCHEMA[:N] made
SCHEMA: tuple[str, ...] = (
    """
    CREATE TABLE images (
        id TEXT PRIMARY KEY,            -- digest of the config
        manifest TEXT NOT NULL,         -- digest of the manifest that gives its layers
        layers TEXT NOT NULL,           -- JSON: [{blob, size, diff_id, unpacked}], oldest first
        stored_at INTEGER NOT NULL,     -- nanoseconds
        parent TEXT NOT NULL DEFAULT '' -- id of the image that it was built from, here
    ) WITHOUT ROWID;
    CREATE TABLE image_names (
        name TEXT PRIMARY KEY,          -- full reference, with a tag or a digest
        image TEXT NOT NULL,
        set_at INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE leases (
        id TEXT PRIMARY KEY,
        expires_at INTEGER NOT NULL     -- nanoseconds
    ) WITHOUT ROWID;
    CREATE TABLE lease_blobs (
        lease TEXT NOT NULL,
        digest TEXT NOT NULL,
        PRIMARY KEY (lease, digest)
    ) WITHOUT ROWID;
    """,
    """
    CREATE TABLE image_indexes (
        name TEXT PRIMARY KEY,          -- one of image_names
        digest TEXT NOT NULL,           -- the multi-platform index that it stands for
        blobs TEXT NOT NULL             -- JSON: digests of all that is kept of it, its own included
    ) WITHOUT ROWID;
    """,
    """
    CREATE TABLE build_cache (
        key TEXT PRIMARY KEY,           -- what the step does and what it stands on, by content
        record TEXT NOT NULL            -- JSON of build.cache.Record
    ) WITHOUT ROWID;
    """,
    """
    CREATE TABLE events (
        number INTEGER PRIMARY KEY,
        at INTEGER NOT NULL,            -- nanoseconds
        body BLOB NOT NULL              -- JSON, as clients get it
    );
    """,
    """
    CREATE TABLE uploads (
        registry TEXT NOT NULL,
        repository TEXT NOT NULL,
        digest TEXT NOT NULL,           -- of the blob
        place TEXT NOT NULL,            -- URL of the upload, as the registry gave it
        at INTEGER NOT NULL,            -- nanoseconds: when it was last written to
        PRIMARY KEY (registry, repository, digest)
    ) WITHOUT ROWID;
    """,
)


class Database:
    """An open database. `open_database` makes it.

    Args:
        path: the file.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.doubtful = False
        self._queue: queue.SimpleQueue[tuple[Write[Any], Future[Any]] | None] = queue.SimpleQueue()
        self._closed = False
        self._reader = _connect(path)
        try:
            _prepare(self._reader, path)
            self._reader.execute("PRAGMA query_only=ON")
            self._reading = threading.Lock()
            opened: Future[None] = Future()
            self._thread = threading.Thread(target=self._run, args=(opened,), name="database", daemon=True)
            self._thread.start()
            opened.result()
        except BaseException:
            self._reader.close()
            raise

    async def write(self, change: Write[T]) -> T:
        """Run `change(connection)` in a transaction on the writer thread and return what it returned, once durable.

        `change` only executes statements: no commit, no rollback, and nothing that takes long. It returns values, never
        a cursor. Cancelling the await does not undo it.

        Raises:
            Unavailable: the database is closed.
            TypeError: `change` returned a cursor; it is undone.
        """
        return await asyncio.wrap_future(self.submit(change))

    async def settle(self) -> bool:
        """Make sure that the next start finds what memory says; False where that cannot be: nothing may be removed."""
        if self.doubtful:
            try:
                await self.write(_overwrite)
            except (StoreCorrupt, KernelError, Unavailable):
                return False
        return not self.doubtful

    def submit(self, change: Write[T]) -> "Future[T]":
        """Do what `write` does, for callers without an event loop."""
        if self._closed:
            raise Unavailable("the database is closed")
        future: Future[T] = Future()
        self._queue.put((change, future))
        return future

    def read(self, sql: str, parameters: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        """Return all rows of a query."""
        with self._reading:
            return self._reader.execute(sql, parameters).fetchall()

    def close(self) -> None:
        """Finish what is queued and close. Idempotent."""
        if self._closed:
            return
        self._closed = True
        self._queue.put(None)
        self._thread.join()
        self._reader.close()

    def _run(self, opened: "Future[None]") -> None:
        try:
            self._writer = _connect(self.path, shared=False)
        except BaseException as error:  # noqa: BLE001 (the constructor gets it)
            opened.set_exception(error)
            return
        opened.set_result(None)
        ending = False
        while not ending:
            batch = [self._queue.get()]
            while not self._queue.empty():
                batch.append(self._queue.get())
            ending = None in batch
            work = [item for item in batch if item is not None]
            if work:
                try:
                    self._transaction(work)
                except BaseException as error:  # noqa: BLE001 (whoever waits gets it; without this thread all would wait)
                    self._give_up(work, error)
        self._writer.close()

    def _transaction(self, work: list[tuple[Write[Any], "Future[Any]"]]) -> None:
        connection, before = self._writer, self._writer.total_changes
        outcomes: list[tuple[Future[Any], Any, BaseException | None]] = []
        try:
            connection.execute("BEGIN IMMEDIATE")
            for change, future in work:
                if not future.set_running_or_notify_cancel():
                    continue
                connection.execute("SAVEPOINT change")
                try:
                    outcomes.append((future, _value(change(connection)), None))
                except BaseException as error:  # noqa: BLE001 (the waiter gets it)
                    traceback.clear_frames(error.__traceback__)
                    connection.execute("ROLLBACK TO change")
                    outcomes.append((future, None, error))
                connection.execute("RELEASE change")
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            self.doubtful = True
            failure: WherryError = StoreCorrupt(f"database {self.path}: {error}")
            if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_FULL:
                failure = KernelError("write database", ENOSPC, self.path)
            _fail(work, failure)
            return
        if connection.total_changes != before:
            self.doubtful = False
        for future, result, failed in outcomes:
            if failed is None:
                future.set_result(result)
            else:
                future.set_exception(failed)

    def _give_up(self, work: list[tuple[Write[Any], "Future[Any]"]], error: BaseException) -> None:
        """Fail a batch in whose transaction something unexpected happened, and go on with a connection that works."""
        traceback.clear_frames(error.__traceback__)
        self.doubtful = True
        try:
            if self._writer.in_transaction:
                self._writer.execute("ROLLBACK")
            self._writer.execute("SELECT 1").close()
        except sqlite3.Error:
            self._reopen()
        _fail(work, StoreCorrupt(f"database {self.path}: {error}"))

    def _reopen(self) -> None:
        try:
            self._writer.close()
            self._writer = _connect(self.path, shared=False)
        except (sqlite3.Error, OSError, StoreCorrupt):
            return  # the next batch fails too, and tries it again


def _fail(work: list[tuple[Write[Any], "Future[Any]"]], error: WherryError) -> None:
    for _, future in work:
        try:
            future.set_exception(error)
        except InvalidStateError:
            continue  # cancelled in this moment, or done


def _value(result: T) -> T:
    """What a change may return."""
    if isinstance(result, sqlite3.Cursor):
        raise TypeError("a change of the database returned a cursor: it belongs to the writer thread")
    return result


def _overwrite(connection: sqlite3.Connection) -> None:
    """A change of no effect, which is written none the less."""
    connection.execute("INSERT OR REPLACE INTO leases VALUES ('', 0)")
    connection.execute("DELETE FROM leases WHERE id = ''")


def open_database(path: str) -> Database:
    """Open the database at `path`, make it, or bring it to this version's schema.

    Raises:
        NewerSchema: a newer version wrote it.
        StoreCorrupt: it is not a database, or a damaged one (see `recover`).
    """
    return Database(path)


def open_or_recover(path: str) -> tuple[Database, str | None]:
    """Open the database, or put a damaged one aside and make a new one.

    Returns:
        the database, and where the damaged one lies now.

    Raises:
        NewerSchema: a newer version wrote it.
    """
    try:
        return open_database(path), None
    except StoreCorrupt:
        aside = recover(path)
        return open_database(path), aside


def recover(path: str) -> str:
    """Put a damaged database aside, so that `open_database` makes a new one. Returns where it lies now."""
    aside = f"{path}.damaged-{time.strftime('%Y%m%d%H%M%S', time.gmtime())}"
    for suffix in ("-wal", "-shm", ""):
        if os.path.exists(path + suffix):
            os.rename(path + suffix, aside + suffix)
    fsync_dir(os.path.dirname(path) or ".")
    return aside


def _connect(path: str, *, shared: bool = True) -> sqlite3.Connection:
    """Open a connection; one that is not shared works in this thread only."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=not shared, timeout=30)
    try:
        # in WAL mode only FULL makes a commit survive a power failure
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "temp_store=MEMORY"):
            connection.execute(f"PRAGMA {pragma}")
    except sqlite3.DatabaseError as error:
        connection.close()
        raise StoreCorrupt(f"database {path}: {error}", path=path) from None
    os.chmod(path, 0o600)
    return connection


def _prepare(connection: sqlite3.Connection, path: str) -> None:
    try:
        (number,) = connection.execute("PRAGMA user_version").fetchone()
        if number > len(SCHEMA):
            raise NewerSchema(
                f"database {path} has schema {number}, newer than this version's {len(SCHEMA)}: "
                "use the version of wherry that wrote it, or a newer one",
                found=number,
                known=len(SCHEMA),
            )
        for step in range(number, len(SCHEMA)):
            connection.executescript(f"BEGIN IMMEDIATE; {SCHEMA[step]} PRAGMA user_version={step + 1}; COMMIT;")
        (state,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.DatabaseError as error:
        raise StoreCorrupt(f"database {path}: {error}", path=path) from None
    if state != "ok":
        raise StoreCorrupt(f"database {path}: {state}", path=path)
