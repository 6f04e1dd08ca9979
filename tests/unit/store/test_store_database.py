"""The database: durable batches, one error for one writer, and an honest refusal."""

import asyncio
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from wherry.builder.cache.store import Cache, Record
from wherry.errors import NewerSchema, StoreCorrupt, Unavailable
from wherry.store import database as databases
from wherry.store.database import Database, open_database, open_or_recover
from wherry.store.images import ImageRecord, ImageRecords, LayerRecord
from wherry.store.leases import Leases

A, B, C = ("sha256:" + letter * 64 for letter in "abc")
NAME = "docker.io/library/busybox:latest"


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """An empty database."""
    opened = open_database(f"{tmp_path}/wherry.db")
    yield opened
    opened.close()


def record(id_: str, *layers: str) -> ImageRecord:
    """A record whose layers are plain: blob and diff id are the same."""
    return ImageRecord(id_, C, tuple(LayerRecord(layer, 1, layer, 2) for layer in layers), 5)


def insert(name: str) -> "databases.Write[int]":
    """A write that adds a row."""
    return lambda connection: connection.execute("INSERT INTO image_names VALUES (?, 'x', 1)", (name,)).rowcount


def test_batch(database: Database) -> None:
    """Writes that wait together are one transaction, and the error of one undoes that one only."""

    def bad(connection: sqlite3.Connection) -> int:
        connection.execute("INSERT INTO image_names VALUES ('undone', 'x', 1)")
        raise ValueError("no")

    async def run() -> list[object]:
        return await asyncio.gather(
            *(database.write(insert(f"n{number}")) for number in range(50)),
            database.write(bad),
            *(database.write(insert(f"m{number}")) for number in range(50)),
            return_exceptions=True,
        )

    results = asyncio.run(run())
    assert [result for result in results if result != 1] == [results[50]]
    assert isinstance(results[50], ValueError)
    assert database.read("SELECT count(*) FROM image_names") == [(100,)]


def test_reopen(tmp_path: Path) -> None:
    """What was awaited is there after the next start, and after a close there is no writing."""
    path = f"{tmp_path}/wherry.db"
    first = open_database(path)
    first.submit(insert("a")).result()
    first.close()
    first.close()
    with pytest.raises(Unavailable):
        first.submit(insert("b"))
    second = open_database(path)
    assert second.read("SELECT name FROM image_names") == [("a",)]
    second.close()


def test_newer(tmp_path: Path) -> None:
    """A database of a newer version is refused by name, and left as it is."""
    path = f"{tmp_path}/wherry.db"
    open_database(path).close()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version=999")
    connection.close()
    with pytest.raises(NewerSchema, match="999"):
        open_database(path)


@pytest.mark.parametrize("content", [b"this is no database " * 100, b"SQLite format 3\0" + b"\xff" * 5000])
def test_damaged(tmp_path: Path, content: bytes) -> None:
    """A damaged database is told, and can be put aside for a new one."""
    path = f"{tmp_path}/wherry.db"
    Path(path).write_bytes(content)
    with pytest.raises(StoreCorrupt):
        open_database(path)
    opened, aside = open_or_recover(path)
    assert aside is not None
    assert Path(aside).read_bytes() == content
    opened.submit(insert("a")).result()
    opened.close()
    opened, aside = open_or_recover(path)
    assert aside is None
    assert opened.read("SELECT name FROM image_names") == [("a",)]
    opened.close()


def test_schema_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A database of an older version is brought to this one's schema, with what is in it."""
    path = f"{tmp_path}/wherry.db"
    first = open_database(path)
    first.submit(insert("a")).result()
    first.close()
    monkeypatch.setattr(databases, "SCHEMA", (*databases.SCHEMA, "CREATE TABLE more (x);"))
    second = open_database(path)
    assert second.read("SELECT name FROM image_names") == [("a",)]
    assert second.read("SELECT * FROM more") == []
    second.close()


def test_records(database: Database) -> None:
    """Images and names are in memory and in the database alike."""

    async def run() -> None:
        records = ImageRecords(database)
        assert await records.put(record(A, B), [NAME]) == {}
        assert await records.put(record(B), [NAME, "docker.io/library/x:1"]) == {NAME: A}
        assert await records.put(record(B), [NAME]) == {}
        for seen in (records, ImageRecords(database)):
            assert seen.names == {NAME: B, "docker.io/library/x:1": B}
            assert sorted(seen.names_of(B)) == [NAME, "docker.io/library/x:1"]
            assert seen.names_of(A) == []
            assert seen.by_id == {A: record(A, B), B: record(B)}
            assert seen.named_at(B) > 0 == seen.named_at(A)
        version = records.version
        await records.drop([NAME])
        await records.drop([], [B])
        assert records.version > version
        for seen in (records, ImageRecords(database)):
            assert (seen.names, list(seen.by_id), seen.names_of(B)) == ({}, [A], [])

    asyncio.run(run())
    assert record(A, B).blobs == {A, B, C}
    assert record(A, B).chain_ids == [B]
    assert record(A, B, B).unpacked == 4


def test_leases(database: Database) -> None:
    """A lease protects its blobs across a restart, until it is released or expires."""

    async def run() -> None:
        leases = Leases(database)
        lease = await leases.take("pull busybox")
        await lease.add(A, B)
        async with await leases.take() as short:
            await short.add(C)
            assert leases.protected() == {A, B, C}
        again = Leases(database)
        assert again.protected() == {A, B}
        taken = await again.take("pull busybox")
        assert again.protected() == {A, B}
        await taken.release()
        await taken.release()
        assert Leases(database).protected() == set()
        old = await again.take(seconds=-1)
        await old.add(A)
        assert again.protected() == set()
        assert await again.expire() == 1
        await again.take("kept")
        await (await again.take()).add(B)
        assert await Leases(database).expire() == 0
        assert await Leases(database).expire(nameless=True) == 1
        assert set(Leases(database)._held) == {"kept"}

    asyncio.run(run())


def test_no_cursor_leaves_the_writer_thread(database: Database) -> None:
    """A change that returns one is undone and refused; an error that a change raises carries none in its frames."""
    with pytest.raises(TypeError, match="cursor"):
        asyncio.run(database.write(lambda connection: connection.execute("INSERT INTO leases VALUES ('a', 1)")))
    assert database.read("SELECT * FROM leases") == []

    def fails(connection: sqlite3.Connection) -> None:
        rows = connection.execute("SELECT 1 UNION SELECT 2")
        raise ValueError(next(rows))

    with pytest.raises(ValueError, match="1") as caught:
        asyncio.run(database.write(fails))
    frame = caught.value.__traceback__
    while frame is not None:
        assert not [value for value in frame.tb_frame.f_locals.values() if isinstance(value, sqlite3.Cursor)]
        frame = frame.tb_next


def test_many_writers_of_the_build_cache(database: Database) -> None:
    """Thousands of parallel writes and removals: none fails with SQLite's "bad parameter or other API misuse"."""
    cache = Cache(database, cast(Any, None))

    async def one(name: int) -> None:
        for number in range(100):
            await cache.put([f"{name}-{number}"], Record(f"{name}", None, "", "", ""))
            if number % 2:
                await cache.drop([f"{name}-{number}"])

    async def run() -> None:
        await asyncio.gather(*(one(name) for name in range(16)))

    for _ in range(5):
        asyncio.run(run())
    assert database.read("SELECT count(*) FROM build_cache") == [(16 * 50,)]


def test_the_writer_outlives_whatever_happens_in_it(database: Database) -> None:
    """A write that ruins the connection fails with those beside it, and the next one finds a connection that works."""

    async def main() -> None:
        async with asyncio.timeout(20):
            for _ in range(3):
                with pytest.raises(StoreCorrupt, match="closed database"):
                    await database.write(lambda connection: connection.close())
                assert await database.write(insert("a")) == 1
                await database.write(lambda connection: connection.execute("DELETE FROM image_names").rowcount)

    asyncio.run(main())
    assert database.read("SELECT name FROM image_names") == []
