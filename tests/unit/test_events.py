"""The event stream: what is remembered, what is filtered, when it ends."""

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from wherry.events import QUEUE, Events
from wherry.store.database import open_database
from wherry.store.journal import Entry, Journal


async def collect(events: Events, **query: Any) -> list[str]:
    """Read a stream to its end; returns the actions."""
    stream = events.subscribe(query.get("since"), query.get("until"), query.get("filters", {}))
    return [event["Action"] async for event in stream]


def publish(events: Events) -> None:
    """Let three things happen."""
    events.publish("container", "create", "c1", {"image": "busybox", "name": "web", "tier": "front"})
    events.publish("container", "exec_start: ls", "c1", {"image": "busybox", "name": "web"})
    events.publish("image", "tag", "i1", {"name": "busybox:latest"})


@pytest.mark.parametrize(
    ("filters", "actions"),
    [
        ({}, ["create", "exec_start: ls", "tag"]),
        ({"type": ["image"]}, ["tag"]),
        ({"event": ["exec_start"]}, ["exec_start: ls"]),
        ({"container": ["web"]}, ["create", "exec_start: ls"]),
        ({"container": ["c1"], "event": ["create"]}, ["create"]),
        ({"label": ["tier=front"]}, ["create"]),
        ({"label": ["tier=back"]}, []),
        ({"scope": ["swarm"]}, []),
    ],
)
def test_filters(filters: dict[str, list[str]], actions: list[str]) -> None:
    """Values of one filter are alternatives, filters are joined."""

    async def body() -> list[str]:
        events = Events()
        publish(events)
        return await collect(events, since=0, until=time.time_ns(), filters=filters)

    assert asyncio.run(body()) == actions


def test_a_watcher_gets_what_comes_until_the_engine_closes() -> None:
    """Without `since` nothing old; `close` ends the stream."""

    async def body() -> list[str]:
        events = Events()
        publish(events)
        reading = asyncio.ensure_future(collect(events))
        await asyncio.sleep(0)
        events.publish("container", "start", "c1", {})
        events.close()
        return await asyncio.wait_for(reading, 5)

    assert asyncio.run(body()) == ["start"]


def test_a_watcher_that_does_not_read_costs_bounded_memory() -> None:
    """Its queue stops growing; the others go on."""

    async def body() -> int:
        events = Events()
        stream = events.subscribe(None, None, {})
        waiting = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0)
        for _ in range(QUEUE * 2):
            events.publish("container", "start", "c1", {})
        await waiting
        events.close()
        count = 1
        async for _ in stream:
            count += 1
        return count

    assert asyncio.run(body()) <= QUEUE + 1


def test_the_journal_outlives_the_engine(tmp_path: Path) -> None:
    """What a second engine is asked includes what the first one saw, in order, with its own behind it, none twice."""

    async def body() -> tuple[list[str], list[str], list[str]]:
        path = str(tmp_path / "db")
        database = open_database(path)
        first = Events()
        first.publish("container", "early", "c1", {})  # before there is a journal
        first.keep(Journal(database))
        publish(first)
        first.close()
        database.close()
        database = open_database(path)
        second = Events()
        second.publish("container", "found", "c1", {})
        second.keep(Journal(database))
        between = time.time_ns()
        publish(second)
        until = time.time_ns()
        before_flush = await collect(second, since=0, until=until)
        second._flush()
        second.publish("container", "die", "c1", {})
        after_flush = await collect(second, since=0, until=time.time_ns())
        some = await collect(second, since=between, until=until)
        second.close()
        database.close()
        return before_flush, after_flush, some

    three = ["create", "exec_start: ls", "tag"]
    before_flush, after_flush, some = asyncio.run(body())
    assert before_flush == ["early", *three, "found", *three]
    assert after_flush == [*before_flush, "die"]
    assert some == three


def test_the_journal_is_capped(tmp_path: Path) -> None:
    """The oldest go; numbers go on."""
    database = open_database(str(tmp_path / "db"))
    journal = Journal(database, kept=10)
    for start in (1, 2001):
        journal.append([Entry(number, number, b"{}") for number in range(start, start + 2000)])
    database.submit(lambda _connection: None).result(10)
    assert [entry.number for entry in journal.read(0, 10**9, 10**9)] == list(range(3991, 4001))
    assert Journal(database).last == 4000
    database.close()


def test_a_long_history_is_read_in_pieces(tmp_path: Path) -> None:
    """Nothing is left out between two pieces."""
    database = open_database(str(tmp_path / "db"))
    journal = Journal(database)
    journal.append([Entry(number, number, b"{}") for number in range(1, 3502)])
    database.submit(lambda _connection: None).result(10)
    assert [entry.at for entry in journal.read(5, 3300, 3000)] == list(range(5, 3000))
    database.close()


@pytest.mark.parametrize(
    ("filters", "actions"),
    [
        ({"image": ["busybox"]}, ["create", "exec_start: ls", "tag"]),
        ({"image": ["busybox:latest"]}, ["tag"]),
        ({"container": ["we"]}, ["create", "exec_start: ls"]),
        ({"network": ["we"]}, []),
        ({"volume": ["x"], "type": ["container"]}, []),
        ({"type": ["image", "container"], "event": ["tag", "create"]}, ["create", "tag"]),
        ({"event": ["exec"]}, []),
        ({"label": ["tier", "name=web"]}, ["create"]),
    ],
)
def test_more_filters(filters: dict[str, list[str]], actions: list[str]) -> None:
    """Beginnings of names are enough, as with dockerd; of images the whole name, with or without its tag."""
    test_filters(filters, actions)


_S = 10**9


def test_what_is_found_out_afterwards_is_told_once(tmp_path: Path) -> None:
    """It has its own time; what the journal has since then, of the same actor, is not repeated."""

    async def body() -> list[tuple[str, int]]:
        database = open_database(str(tmp_path / "db"))
        try:
            events = Events()
            events.keep(Journal(database))
            events.publish("container", "die", "c1", {}, 5000 * _S)
            events.close()
            database.submit(lambda _: None).result(20)
            later = Events()
            later.keep(Journal(database))
            later.publish("container", "die", "c1", {}, 5000 * _S)
            later.publish("container", "die", "c1", {}, 4995 * _S)
            later.publish("container", "die", "c2", {}, 4995 * _S)
            later.publish("container", "die", "c1", {}, 6000 * _S)
            later.publish("container", "oom", "c1", {}, 5000 * _S)
            # long before what the journal ends with: whoever wrote that was told, and the journal may have forgotten it
            later.publish("container", "die", "c3", {}, 4000 * _S)
            stream = later.subscribe(None, time.time_ns(), {})
            return [(event["Action"] + event["Actor"]["ID"], event["time"]) async for event in stream]
        finally:
            database.close()

    assert asyncio.run(body()) == [("diec1", 5000), ("diec2", 4995), ("diec1", 6000), ("oomc1", 5000)]
