"""Processes that join a container: streams, terminals, codes, and their end with the container."""

import asyncio
import json
from collections.abc import Awaitable, Callable

import pytest

from wherry.errors import CommandNotExecutable, CommandNotFound, ExecNotFound

from .bench import Bench, frames, process

pytestmark = pytest.mark.root

Run = Callable[[Callable[[Bench], Awaitable[None]]], None]


def test_exec(with_bench: Run) -> None:
    """Execs have streams, codes and events of their own, many at once; state.json names them."""

    async def test(bench: Bench) -> None:
        container = bench.container()
        await container.run("sleep", "100")
        exec_id, client = await container.execute("sh", "-c", "echo out; echo err >&2; cat; exit 5")
        await client.send(b"in")
        client.half_close()
        assert frames(await client.read()) == {1: b"out\nin", 2: b"err\n"}
        client.close()
        assert (await container.event("exec-exited", exec_id=exec_id))["code"] == 5
        many = await asyncio.gather(*[container.execute("sh", "-c", f"echo {n}; exit {n}") for n in range(10)])
        for number, (one, its) in enumerate(many):
            assert frames(await its.read()) == {1: f"{number}\n".encode()}
            its.close()
            assert (await container.event("exec-exited", exec_id=one))["code"] == number
        state = json.loads((container.run_dir / "state.json").read_bytes())
        assert {entry["exec_id"]: entry["code"] for entry in state["execs"]}[exec_id] == 5
        with pytest.raises(CommandNotFound):
            await container.execute("no-such-program")
        with pytest.raises(CommandNotExecutable):
            await container.execute("/bin/data")
        with pytest.raises(ExecNotFound):
            await container.request("resize", exec_id=exec_id, height=1, width=1)

    with_bench(test)


def test_exec_terminal(with_bench: Run) -> None:
    """An exec with a terminal: size, resize, signal, detach keys."""

    async def test(bench: Bench) -> None:
        container = bench.container()
        await container.run("sleep", "100")
        exec_id, client = await container.execute("sh", tty=True, console_size=[20, 70])
        await client.send(b"stty size\n")
        await client.until(b"20 70")
        await container.request("resize", exec_id=exec_id, height=21, width=71)
        await client.send(b"stty size\n")
        await client.until(b"21 71")
        await client.send(b"\x10\x11")
        await container.event("detached", exec_id=exec_id)
        client.close()
        await container.request("signal", exec_id=exec_id, signal=9)
        assert (await container.event("exec-exited", exec_id=exec_id))["code"] == 137

    with_bench(test)


def test_exec_without_client(with_bench: Run) -> None:
    """A detached exec runs, and its end is told."""

    async def test(bench: Bench) -> None:
        container = bench.container()
        await container.run("sleep", "100")
        await container.request("exec", exec_id="e1", process=process("sh", "-c", "echo lost; exit 9"), tty=False)
        assert (await container.event("exec-exited", exec_id="e1"))["code"] == 9

    with_bench(test)


def test_execs_end_with_the_container(with_bench: Run) -> None:
    """The end of process 1 ends every exec, and their clients get the end of file."""

    async def test(bench: Bench) -> None:
        container = bench.container()
        await container.run("sleep", "100")
        exec_id, client = await container.execute("sleep", "100")
        await container.request("signal", signal=9)
        assert await client.read() == b""
        client.close()
        await container.event("exited")
        assert (await container.event("exec-exited", exec_id=exec_id))["code"] == 137

    with_bench(test)
