"""Clients of a container's streams: many, slow, gone, with a terminal or without."""

import asyncio
import hashlib
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from wherry.runtime.cgroups import open_cgroup

from .bench import Bench, frames, launch_attached, log_text

pytestmark = pytest.mark.root

Run = Callable[[Callable[[Bench], Awaitable[None]]], None]


def test_several_clients_see_the_same(with_bench: Run) -> None:
    """Every client gets all output, framed, and then the end of file."""

    async def test(bench: Bench) -> None:
        container = bench.container()
        clients = await launch_attached(
            container, "sh", "-c", "seq 1 20000; echo oops >&2", clients=3, attach={"framed": True}
        )
        expected = "".join(f"{n}\n" for n in range(1, 20001)).encode()
        for data in await asyncio.gather(*[client.read() for client in clients]):
            assert frames(data) == {1: expected, 2: b"oops\n"}
        for client in clients:
            client.close()

    with_bench(test)


def test_large_output(with_bench: Run) -> None:
    """50 MB arrive whole, byte for byte, through the log's rotation."""

    async def test(bench: Bench) -> None:
        container = bench.container()
        (client,) = await launch_attached(
            container, "sh", "-c", "yes 'some line of ordinary output, as programs print' | head -c 52428800",
            attach={"framed": True},
        )  # fmt: skip
        got = frames(await client.read())[1]
        line = b"some line of ordinary output, as programs print\n"
        want = (line * (52428800 // len(line) + 1))[:52428800]
        assert hashlib.sha256(got).digest() == hashlib.sha256(want).digest()
        client.close()
        assert (await container.event("exited"))["code"] == 0
        names = sorted(path.name for path in container.data_dir.glob("*.log*"))
        assert container.log.name in names
        assert len(names) <= 4
        assert all(path.stat().st_size <= 10 << 20 for path in container.data_dir.glob("*.log*"))

    with_bench(test)


def test_slow_client_does_not_stall_others(with_bench: Run, tmp_path: Path) -> None:
    """A client that reads nothing stalls neither the container nor the other client, and still gets all in the end."""

    async def test(bench: Bench) -> None:
        container = bench.container()
        fast, slow = await launch_attached(container, "sh", "-c", "yes 0123456789 | head -c 8000000", clients=2)
        want = (b"0123456789\n" * 800_000)[:8_000_000]
        assert await fast.read() == want
        assert (await container.event("exited"))["code"] == 0
        assert await slow.read() == want
        fast.close()
        slow.close()

    with_bench(test)


def test_sole_slow_client_gets_everything(with_bench: Run) -> None:
    """A single client that does not read holds the container back, and loses nothing."""

    async def test(bench: Bench) -> None:
        container = bench.container()
        (client,) = await launch_attached(container, "sh", "-c", "yes 0123456789 | head -c 8000000; echo >&2 done")
        await container.event("started")
        with pytest.raises(TimeoutError):
            await container.event("exited", seconds=0.4)
        assert len(await client.read()) == 8_000_005
        client.close()
        await container.event("exited")

    with_bench(test)


def test_client_that_goes_is_dropped(with_bench: Run) -> None:
    """A client that closes does not stop the container, not even when it was the one that held it back."""

    async def test(bench: Bench) -> None:
        container = bench.container()
        (client,) = await launch_attached(container, "sh", "-c", "yes | head -c 5000000; exit 4")
        await container.event("started")
        await client.until(b"y")
        client.close()
        assert (await container.event("exited"))["code"] == 4

    with_bench(test)


@pytest.mark.parametrize("size", [10, 5_000_000])
def test_half_close_is_end_of_input(with_bench: Run, size: int) -> None:
    """A client's half-close ends the input of a container that takes one session's input."""

    async def test(bench: Bench) -> None:
        container = bench.container()
        (client,) = await launch_attached(container, "cat", open_stdin=True, stdin_once=True)
        data = os.urandom(size)
        reading = asyncio.create_task(client.read())
        await client.send(data)
        client.half_close()
        assert await reading == data
        assert (await container.event("exited"))["code"] == 0
        client.close()

    with_bench(test)


def test_stdin_stays_open(with_bench: Run) -> None:
    """Without stdin_once a client's half-close ends its session only; the next one goes on."""

    async def test(bench: Bench) -> None:
        container = bench.container()
        await container.run("cat", open_stdin=True)
        for text in (b"one\n", b"two\n"):
            client = await container.attach()
            await client.send(text)
            await client.until(text)
            client.half_close()
            assert await client.read() == b""
            client.close()
        await container.request("signal", signal=9)
        await container.event("exited")
        assert log_text(container) == "one\ntwo\n"

    with_bench(test)


def test_tail_of_the_request_comes_first(with_bench: Run) -> None:
    """Bytes that came with the HTTP head are the first of the input."""

    async def test(bench: Bench) -> None:
        container = bench.container()
        (client,) = await launch_attached(
            container, "cat", attach={"tail": "aGVhZCA="}, open_stdin=True, stdin_once=True
        )
        await client.send(b"rest")
        client.half_close()
        assert await client.read() == b"head rest"
        client.close()

    with_bench(test)


def test_process_that_does_not_read(with_bench: Run) -> None:
    """A client that sends into a process that has closed its input is not stuck, and gets the output."""

    async def test(bench: Bench) -> None:
        container = bench.container()
        (client,) = await launch_attached(
            container, "sh", "-c", "exec <&-; sleep 0.2; echo bye", open_stdin=True, stdin_once=True
        )
        sending = asyncio.create_task(client.send(b"x" * 3_000_000))
        assert await client.read() == b"bye\n"
        sending.cancel()
        client.close()
        await container.event("exited")

    with_bench(test)


def test_terminal(with_bench: Run) -> None:
    """A terminal: its size, a resize, echo, and detach keys that end only their client."""

    async def test(bench: Bench) -> None:
        container = bench.container()
        script = "stty -echo; stty size; read line; stty size; cat -v; exit 7"
        (client,) = await launch_attached(
            container,
            "sh",
            "-c",
            script,
            tty=True,
            open_stdin=True,
            console_size=[33, 101],
            attach={"detach_keys": "ctrl-a,x"},
        )
        await container.event("started")
        other = await container.attach()
        await client.until(b"33 101")
        await container.request("resize", height=40, width=120)
        await client.send(b"\n")
        await client.until(b"40 120\r\n")
        await client.send(b"a\x01")
        await client.send(b"b\n")
        assert await client.until(b"b\r\n") == b"a^Ab\r\n"  # a sequence that breaks is passed on
        await client.send(b"\x01")
        await client.send(b"x")
        assert (await container.event("detached"))["exec_id"] is None
        assert await client.read() == b""
        client.close()
        await other.send(b"\x04")
        assert (await other.read()).endswith(b"a^Ab\r\n")
        other.close()
        assert (await container.event("exited"))["code"] == 7

    with_bench(test)


def test_unread_input_is_no_broken_connection(with_bench: Run) -> None:
    """A client that was still sending when the container ended gets the output and a clean end, also after `end`."""

    async def test(bench: Bench) -> None:
        container = bench.container()
        (client,) = await launch_attached(container, "head", "-c", "3", open_stdin=True, stdin_once=True)
        sending = asyncio.create_task(client.send(b"x" * 5_000_000))
        await container.event("exited")
        await container.request("end")
        assert await client.read() == b"xxx"
        sending.cancel()
        client.close()
        assert container.handle is not None
        async with asyncio.timeout(3):
            await container.handle.wait_dead()

    with_bench(test)


def test_end_waits_for_a_slow_client(with_bench: Run) -> None:
    """What a client has still to get is not lost when the container is removed meanwhile."""

    async def test(bench: Bench) -> None:
        container = bench.container()
        fast, slow = await launch_attached(container, "sh", "-c", "yes | head -c 3000000", clients=2)
        assert len(await fast.read()) == 3_000_000
        fast.close()
        await container.event("exited")
        await container.request("end")
        assert not open_cgroup(container.cgroup).exists()
        assert len(await slow.read()) == 3_000_000
        slow.close()
        assert container.handle is not None
        await container.handle.wait_dead()

    with_bench(test)
