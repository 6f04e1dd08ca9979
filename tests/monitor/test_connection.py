"""The line between wherryd and a monitor: large messages, last words, a connection that breaks and is made anew."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from wherry.errors import MonitorLost, Unavailable
from wherry.linux.channel import pair
from wherry.monitor.client import adopt
from wherry.monitor.requests import Requests

from .bench import Bench, Container, frames, process

pytestmark = pytest.mark.root

Run = Callable[[Callable[[Bench], Awaitable[None]]], None]


def break_line(container: Container) -> None:
    """As if the monitor had dropped the connection."""
    assert container.handle is not None
    channel = container.handle._requests._channel
    assert channel is not None
    channel.sock.shutdown(2)


async def again(container: Container) -> None:
    """Wait until requests are answered again."""
    async with asyncio.timeout(20):
        while True:
            try:
                await container.request("state")
                return
            except MonitorLost:
                await asyncio.sleep(0.01)


def test_an_exec_with_a_large_environment(with_bench: Run) -> None:
    """A request of a megabyte arrives, and so does the answer that names thousands of processes."""

    async def test(bench: Bench) -> None:
        container = bench.container()
        await container.run("sleep", "1000")
        env = tuple(f"V{number}={'x' * 100_000}" for number in range(10))
        _, client = await container.execute(
            "sh", "-c", "echo ${#V0} ${#V9}", process=process("sh", "-c", "echo ${#V0} ${#V9}", env=env)
        )
        assert frames(await client.read()) == {1: b"100000 100000\n"}
        client.close()

    with_bench(test)


def test_a_broken_connection_is_made_anew(with_bench: Run) -> None:
    """Requests work again, events come, and nobody takes the monitor for lost."""

    async def test(bench: Bench) -> None:
        container = bench.container()
        await container.run("sleep", "1000")
        for _ in range(3):
            break_line(container)
            await again(container)
        await container.request("signal", signal=9)
        assert (await container.event("exited"))["code"] == 137
        assert container.lost == 0
        assert not container.events

    with_bench(test)


def test_what_was_missed_is_told_once(with_bench: Run) -> None:
    """The end of an exec and of the container, while nobody listened; afterwards the monitor takes its order to end."""

    async def missed(bench: Bench) -> None:
        container = bench.container()
        await container.run("sleep", "1000")
        exec_id, client = await container.execute("sleep", "1000")
        handle = container.handle
        assert handle is not None
        # nothing is read while the line is broken, so both ends happen unheard
        requests = handle._requests
        await container.request("signal", signal=9)
        requests.close()
        handle._disconnected()
        ended = await container.event("exited")
        assert ended["code"] == 137
        told = await container.event("exec-exited")
        assert (told["exec_id"], told["code"]) == (exec_id, 137)
        assert not [event for event in container.events if event["event"] in ("exited", "exec-exited")]
        client.close()

    with_bench(missed)


def test_an_adopted_one_tells_nothing_twice(with_bench: Run) -> None:
    """Who adopted a monitor whose container had ended is not told of that end again."""

    async def test(bench: Bench) -> None:
        container = bench.container()
        await container.run("true")
        await container.event("exited")
        assert container.handle is not None
        container.handle.close()
        container.take(await adopt(str(container.run_dir)))
        break_line(container)
        await again(container)
        await container.request("state")  # whatever it had to say comes before its answer
        assert not container.events

    with_bench(test)


def test_last_words_are_heard_by_who_speaks() -> None:
    """A reply that has come is not lost because the next request cannot be sent."""

    async def test() -> None:
        ours, theirs = pair()
        requests = Requests(ours, lambda _message: None, lambda: None, lambda: Unavailable("gone"))
        first = asyncio.ensure_future(requests.request({"op": "one"}))
        await asyncio.sleep(0)
        received = theirs.receive()
        assert received is not None
        theirs.send({"seq": received[0]["seq"], "ok": True, "value": 1})
        theirs.close()
        with pytest.raises(Unavailable):
            await requests.request({"op": "two"})
        reply, _ = await first
        assert reply["value"] == 1
        requests.close()

    asyncio.run(test())
