"""Where uploads to registries are that broke off: the next push goes on there, over restarts of the engine too.

A place is the URL that the registry gave. Losing one costs the bytes that had been sent; so nobody waits for its write.
"""

import sqlite3
import time
from collections import OrderedDict

from wherry.errors import Unavailable
from wherry.store.database import Database

KEPT_SECONDS = 7 * 86400  # as long as docker-registry keeps an upload by default
LIMIT = 1000

Key = tuple[str, str, str]
"""Registry, repository, digest of the blob."""


class Uploads:
    """The places of one data root; all in memory, written through.

    Args:
        database: open.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._places: OrderedDict[Key, str] = OrderedDict()
        oldest = time.time_ns() - int(KEPT_SECONDS * 1e9)
        stale: list[Key] = []
        for registry, repository, digest, place, at in database.read(
            "SELECT registry, repository, digest, place, at FROM uploads ORDER BY at"
        ):
            if at < oldest:
                stale.append((registry, repository, digest))
            else:
                self._places[registry, repository, digest] = place
        self._forget(stale)

    def find(self, key: Key) -> str | None:
        """Where the upload of a blob is, or None."""
        return self._places.get(key)

    def put(self, key: Key, place: str) -> None:
        """Remember where an upload is; the oldest ones make room."""
        self._places[key] = place
        self._places.move_to_end(key)
        row = (*key, place, time.time_ns())
        self._soon([("INSERT OR REPLACE INTO uploads VALUES (?, ?, ?, ?, ?)", row)])
        old = []
        while len(self._places) > LIMIT:
            old.append(self._places.popitem(last=False)[0])
        self._forget(old)

    def drop(self, key: Key) -> None:
        """Forget an upload that is done, or no good."""
        if self._places.pop(key, None) is not None:
            self._forget([key])

    def _forget(self, keys: list[Key]) -> None:
        self._soon([("DELETE FROM uploads WHERE registry = ? AND repository = ? AND digest = ?", key) for key in keys])

    def _soon(self, statements: "list[tuple[str, tuple[object, ...]]]") -> None:
        def change(connection: sqlite3.Connection) -> None:
            for sql, values in statements:
                connection.execute(sql, values)

        if statements:
            try:
                self._database.submit(change)
            except Unavailable:
                return  # the engine is ending
