"""Clients that take nothing of a process's output: what waits for them is bounded, and nothing is lost."""

import asyncio
import hashlib
import os
from collections.abc import Awaitable, Callable

import pytest

from .bench import Bench, Client, launch_attached

pytestmark = pytest.mark.root

Run = Callable[[Callable[[Bench], Awaitable[None]]], None]

_LINE = b"some line of ordinary output, as programs print\n"
_TOTAL = 112 << 20
_MOST = 72 << 20
_NO_LOG = {"driver": "none"}


class _Taker:
    """Reads a client to its end, and keeps a digest."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.size = 0
        self.hash = hashlib.sha256()
        self._more = asyncio.Event()

    async def has(self, size: int) -> None:
        """Wait until that much was read."""
        while self.size < size:
            self._more.clear()
            await self._more.wait()

    async def run(self) -> None:
        while data := await asyncio.get_running_loop().sock_recv(self._client.sock, 1 << 20):
            self.size += len(data)
            self.hash.update(data)
            self._more.set()


def _spooled(pid: int) -> int:
    """Bytes on the disk of files without a name that a process holds."""
    total = 0
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            if os.readlink(f"/proc/{pid}/fd/{fd}").endswith("(deleted)"):
                total += os.stat(f"/proc/{pid}/fd/{fd}").st_blocks * 512
        except FileNotFoundError:
            continue
    return total


def test_attack_a_stalled_client_fills_the_disk(with_bench: Run) -> None:
    """Beside a client that reads, two that do not: the process waits before 72 MiB are on the disk; all get all."""

    async def test(bench: Bench) -> None:
        container = bench.container()
        command = f"yes '{_LINE.decode().strip()}' | head -c {_TOTAL}"
        clients = await launch_attached(container, "sh", "-c", command, clients=3, log=_NO_LOG)
        takers = [_Taker(client) for client in clients]
        assert container.handle is not None
        pid = container.handle.pid
        running = [asyncio.create_task(takers[0].run())]
        most = still = before = 0
        async with asyncio.timeout(120):
            while still < 5 and not running[0].done():
                await asyncio.sleep(0.1)
                most = max(most, _spooled(pid))
                still = still + 1 if takers[0].size and takers[0].size == before else 0
                before = takers[0].size
            assert 0 < most < _MOST
            assert takers[0].size < _TOTAL, "the process did not wait"
            running += [asyncio.create_task(taker.run()) for taker in takers[1:]]
            while not all(task.done() for task in running):
                await asyncio.sleep(0.05)
                most = max(most, _spooled(pid))
            await asyncio.gather(*running)
        assert most < _MOST
        want = hashlib.sha256((_LINE * (_TOTAL // len(_LINE) + 1))[:_TOTAL]).digest()
        assert [(taker.size, taker.hash.digest()) for taker in takers] == [(_TOTAL, want)] * 3
        for client in clients:
            client.close()
        assert (await container.event("exited"))["code"] == 0

    with_bench(test)


def test_a_stalled_client_that_goes_lets_the_process_go_on(with_bench: Run) -> None:
    """The process that waits for a client that takes nothing goes on when that one leaves."""

    async def test(bench: Bench) -> None:
        container = bench.container()
        command = f"yes | head -c {_TOTAL}"
        fast, stalled = await launch_attached(container, "sh", "-c", command, clients=2, log=_NO_LOG)
        taker = _Taker(fast)
        reading = asyncio.create_task(taker.run())
        async with asyncio.timeout(120):
            await taker.has(60 << 20)
            stalled.close()
            await reading
        assert taker.size == _TOTAL
        fast.close()
        assert (await container.event("exited"))["code"] == 0

    with_bench(test)


def test_a_client_that_is_always_behind_does_not_fill_the_disk(with_bench: Run) -> None:
    """What it has taken already does not stay on the disk: the file is bounded, not only what waits in it."""

    async def test(bench: Bench) -> None:
        container = bench.container()
        fast, slow = await launch_attached(container, "sh", "-c", f"yes | head -c {_TOTAL}", clients=2, log=_NO_LOG)
        first, second = _Taker(fast), _Taker(slow)
        assert container.handle is not None
        most = 0
        async with asyncio.timeout(120):
            reading = [asyncio.create_task(first.run())]
            await first.has(8 << 20)
            loop = asyncio.get_running_loop()
            while second.size < _TOTAL:
                # 7 MiB behind the other one, or as near as the files' limit keeps the other
                if first.size - second.size < 7 << 20 and not reading[0].done():
                    await asyncio.sleep(0.001)
                    most = max(most, _spooled(container.handle.pid))
                second.size += len(await loop.sock_recv(slow.sock, 1 << 20))
            await asyncio.gather(*reading)
        assert most < _MOST
        fast.close()
        slow.close()

    with_bench(test)
