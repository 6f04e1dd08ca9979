"""Keeping the kernel ready for a move into a cgroup, for as long as somebody is about to make one."""

import asyncio
from typing import Self

from wherry.runtime.cgroups.prime import prime_migration

_TIMES = 12
_INTERVAL = 0.004


class Primed:
    """While it is entered, moves into cgroups do not wait for a grace period of the kernel (5 to 20 ms).

    A move keeps the next ones cheap for some ten milliseconds, and starting a process takes longer than that; see
    `runtime.cgroups.prime`.
    """

    def __init__(self) -> None:
        self._task: asyncio.Task[None] | None = None

    def __enter__(self) -> Self:
        self._task = asyncio.get_running_loop().create_task(_prime())
        return self

    def __exit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()


async def _prime() -> None:
    loop = asyncio.get_running_loop()
    for _ in range(_TIMES):
        if not await loop.run_in_executor(None, prime_migration):
            return
        await asyncio.sleep(_INTERVAL)


def soon() -> None:
    """Prime once, in a thread, because a start is likely to follow."""
    asyncio.get_running_loop().run_in_executor(None, prime_migration)
