"""The event stream: what is remembered, what is filtered, when it ends."""

import asyncio
import time
from typing import Any

import pytest

from wherry.engine.events import QUEUE, Events


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
