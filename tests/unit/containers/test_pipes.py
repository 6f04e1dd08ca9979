"""Whoever reads what a worker writes may leave at any moment, and nothing stays locked."""

import asyncio
import os
from collections.abc import Callable
from typing import Any

import pytest

from wherry.containers import pipes
from wherry.errors import Unavailable

Json = dict[str, Any]


class Worker:
    """Stands for a worker that tells something, writes three pieces, and takes some turns of the loop to end."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.released = 0
        self.running = 0

    async def start(self, fds: dict[str, int], tell: Callable[[Json], None]) -> Json:
        """Write to a descriptor of its own, as a process that was sent one does."""
        self.running += 1
        fd = os.dup(fds["data"])
        try:
            await asyncio.sleep(0)
            tell({"name": "x"})
            for number in range(3):
                os.write(fd, b"%d" % number)
                await asyncio.sleep(0)
            if self.error is not None:
                raise self.error
            return {}
        finally:
            os.close(fd)
            self.running -= 1

    async def done(self) -> None:
        """Release what the worker used: it must be gone."""
        assert self.running == 0
        await asyncio.sleep(0)
        self.released += 1


async def _read(worker: Worker) -> bytes:
    told, archive = await pipes.receive(worker.start, worker.done)
    assert told == {"name": "x"}
    try:
        return b"".join([piece async for piece in archive])
    finally:
        await archive.aclose()


def _open() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


def test_what_a_worker_writes_is_read_whole() -> None:
    """The end of the bytes comes when nothing is left of the worker."""
    worker = Worker()
    assert asyncio.run(_read(worker)) == b"012"
    assert worker.released == 1


def test_a_worker_that_fails_is_no_end_of_the_bytes() -> None:
    """Its error is raised in place of the end."""
    worker = Worker(Unavailable("broken"))
    with pytest.raises(Unavailable, match="broken"):
        asyncio.run(_read(worker))
    assert worker.released == 1


@pytest.mark.parametrize("again", [False, True])
def test_a_reader_that_is_cancelled_in_any_turn_of_the_loop(*, again: bool) -> None:
    """Once, and again in the next turn, while it waits for the worker's end."""

    async def cancelled(turns: int) -> bool:
        worker = Worker()
        reader = asyncio.ensure_future(_read(worker))
        for _ in range(turns):
            await asyncio.sleep(0)
        left = reader.cancel()
        if again:
            await asyncio.sleep(0)
            reader.cancel()
        await asyncio.wait({reader})
        for _ in range(20):
            await asyncio.sleep(0)
        assert worker.released == (1 if turns else 0), f"cancelled after {turns} turns"
        return left

    async def each() -> int:
        turns = 0
        while await cancelled(turns):
            turns += 1
        return turns

    before = _open()
    # the first two turns begin the reader and the worker; each step of either takes one at least
    assert asyncio.run(each()) > 8
    assert _open() == before


def test_an_archive_that_nobody_begins_to_read_is_closed() -> None:
    """As when the client is gone before the answer's head is out."""

    async def main() -> None:
        worker = Worker()
        _, archive = await pipes.receive(worker.start, worker.done)
        await archive.aclose()
        assert worker.released == 1
        await archive.aclose()
        assert [piece async for piece in archive] == []

    before = _open()
    asyncio.run(main())
    assert _open() == before


def test_no_pipe_no_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was locked for the worker is released where it cannot be started."""

    def refuse(_flags: int) -> tuple[int, int]:
        raise OSError(24, "Too many open files")

    worker = Worker()
    monkeypatch.setattr(os, "pipe2", refuse)
    with pytest.raises(OSError, match="Too many"):
        asyncio.run(pipes.receive(worker.start, worker.done))
    assert worker.released == 1
