"""The event journal: what happened in the engine, in order, capped. Losing it loses history, nothing else."""

import sqlite3
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from wherry.store.database import Database

if TYPE_CHECKING:
    from concurrent.futures import Future

KEPT = 50_000
_CHUNK = 1000


class Entry(NamedTuple):
    """One event: its number, when it happened (nanoseconds since the epoch), and its JSON."""

    number: int
    at: int
    body: bytes


class Journal:
    """The events of one database.

    Args:
        database: where they are.
        kept: how many; the oldest go first.
    """

    def __init__(self, database: Database, kept: int = KEPT) -> None:
        self._database = database
        self._kept = kept
        found = database.read("SELECT number, at FROM events ORDER BY number DESC LIMIT 1")
        self.last: int = found[0][0] if found else 0
        """The number of the newest event."""
        self.until: int = found[0][1] if found else 0
        """When the newest event happened that was there when the journal was opened."""

    def append(self, entries: Sequence[Entry]) -> "Future[None]":
        """Add events, soon: the future says when. Raises Unavailable when the database is closed."""
        rows = list(entries)
        floor = rows[-1].number - self._kept
        self.last = rows[-1].number

        def change(connection: sqlite3.Connection) -> None:
            connection.executemany("INSERT OR REPLACE INTO events VALUES (?, ?, ?)", rows)
            connection.execute("DELETE FROM events WHERE number <= ?", (floor,))

        return self._database.submit(change)

    def read(self, since: int, until: int, before: int) -> Iterator[Entry]:
        """Events between two times (inclusive), with numbers below `before`; blocking, a piece at a time."""
        number = 0
        while True:
            rows = self._database.read(
                "SELECT number, at, body FROM events WHERE number > ? AND number < ? AND at >= ? AND at <= ?"
                " ORDER BY number LIMIT ?",
                (number, before, since, until, _CHUNK),
            )
            yield from (Entry(*row) for row in rows)
            if len(rows) < _CHUNK:
                return
            number = rows[-1][0]
