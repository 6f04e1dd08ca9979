"""Leases: what protects a blob between its arrival and the first image that refers to it.

A load or a pull takes a lease, adds every blob that it stores or finds already stored, and releases it when the image
is recorded. Collection leaves leased blobs alone. Leases are in the database, so that an interrupted pull finds its
finished layers again after a restart; they expire, so that an abandoned one does not keep them for ever.
"""

import secrets
import sqlite3
import time
from collections.abc import Iterable
from typing import Self

from wherry.store.database import Database

_DAY = 86400
_NAMELESS = "#"


class Leases:
    """All leases of a data root; what they hold is also in memory, so that asking costs nothing."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._held: dict[str, tuple[int, set[str]]] = {}
        for lease, expires in database.read("SELECT id, expires_at FROM leases"):
            self._held[lease] = (expires, set())
        for lease, digest in database.read("SELECT lease, digest FROM lease_blobs"):
            if lease in self._held:
                self._held[lease][1].add(digest)

    async def take(self, id_: str | None = None, seconds: float = _DAY) -> "Lease":
        """Take a lease, or go on with the one of that id.

        Args:
            id_: a name that finds it again after a restart (a pull's reference); None makes one.
            seconds: how long it holds if nobody releases it.
        """
        name = id_ or _NAMELESS + secrets.token_hex(16)
        expires = time.time_ns() + int(seconds * 1e9)
        _, digests = self._held.get(name, (0, set()))
        self._held[name] = (expires, digests)

        def change(connection: sqlite3.Connection) -> None:
            connection.execute(
                "INSERT INTO leases VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET expires_at = excluded.expires_at",
                (name, expires),
            )

        await self._database.write(change)
        return Lease(self, name)

    async def add(self, name: str, digests: Iterable[str]) -> None:
        """Let lease `name` hold `digests` too."""
        new = [digest for digest in digests if digest not in self._held[name][1]]
        self._held[name][1].update(new)  # protected from this moment, durable from the next line on

        def change(connection: sqlite3.Connection) -> None:
            connection.executemany("INSERT OR IGNORE INTO lease_blobs VALUES (?, ?)", [(name, d) for d in new])

        await self._database.write(change)

    async def release(self, name: str) -> None:
        """End lease `name`. Idempotent."""
        self._held.pop(name, None)

        def change(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM lease_blobs WHERE lease = ?", (name,))
            connection.execute("DELETE FROM leases WHERE id = ?", (name,))

        await self._database.write(change)

    async def expire(self, *, nameless: bool = False) -> int:
        """Release what has expired; returns how many.

        Args:
            nameless: also those without a name of their own. For start-up: whoever took them was killed.
        """
        now = time.time_ns()
        old = [
            name
            for name, (expires, _) in self._held.items()
            if expires <= now or (nameless and name.startswith(_NAMELESS))
        ]
        for name in old:
            await self.release(name)
        return len(old)

    async def settle(self, recorded: "set[str]") -> int:
        """Release the leases that hold only what images need anyway; returns how many.

        For start-up: whoever recorded its image was killed before it could end its lease.
        """
        done = [name for name, (_, digests) in self._held.items() if digests and digests <= recorded]
        for name in done:
            await self.release(name)
        return len(done)

    def protected(self) -> set[str]:
        """Digests of all blobs that some lease holds."""
        now = time.time_ns()
        held: set[str] = set()
        for expires, digests in self._held.values():
            if expires > now:
                held |= digests
        return held


class Lease:
    """One lease; an async context manager that releases it."""

    __slots__ = ("_leases", "id")

    def __init__(self, leases: Leases, id_: str) -> None:
        self._leases = leases
        self.id = id_

    async def add(self, *digests: str) -> None:
        """Hold these blobs too."""
        await self._leases.add(self.id, digests)

    async def release(self) -> None:
        """End the lease."""
        await self._leases.release(self.id)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.release()
