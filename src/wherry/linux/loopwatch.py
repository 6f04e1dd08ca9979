"""How long an event loop was away from its sockets: an asyncio loop that measures itself, at no timer's cost.

A loop waits in its selector and does what is ready. From one wait to the next nobody else is answered: that is a pause.
On a busy machine a pause is also long where the kernel ran somebody else; the processor time in it says what was ours.
"""

import asyncio
import selectors
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

LONG = 0.1
"""Seconds; a pause that is longer is counted."""
SMALL = 32 << 10
"""Bytes of a stranger's that the loop itself may read: a thread would cost more."""

_THREADS = 4
_LOOK = 0.002  # shorter ones are not worth the question how much of them was ours


class Pauses:
    """What was measured so far.

    Attributes:
        longest: seconds of the longest pause.
        busiest: the most processor time, in seconds, that we took in one pause.
        long: how many took more than `LONG` seconds of processor time.
    """

    __slots__ = ("busiest", "long", "longest")

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Begin anew: what came before does not count."""
        self.longest = self.busiest = 0.0
        self.long = 0

    def note(self, seconds: float, busy: float) -> None:
        """Take in one pause."""
        self.longest = max(self.longest, seconds)
        self.busiest = max(self.busiest, busy)
        self.long += busy > LONG


class _Selector(selectors.EpollSelector):
    """A selector that knows when it was left, and tells how long it was away from."""

    def __init__(self, pauses: Pauses) -> None:
        super().__init__()
        self._pauses = pauses
        self._left = time.monotonic()
        self._spent = time.thread_time()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        seconds = time.monotonic() - self._left
        if seconds > _LOOK:
            self._pauses.note(seconds, time.thread_time() - self._spent)
        try:
            return super().select(timeout)
        finally:
            self._left = time.monotonic()
            self._spent = time.thread_time()


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self.pauses = Pauses()
        super().__init__(_Selector(self.pauses))
        self.ticks = _Ticks(self, self.pauses)
        self.threads = ThreadPoolExecutor(_THREADS, "aside")

    def close(self) -> None:
        super().close()
        self.threads.shutdown()


_TICK = 0.02


async def aside(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Do what takes as long as a stranger wants, beside the loop; no other work waits for these threads.

    A loop that does not measure itself lends its own: they end with it, as setns(2) into a time namespace wants.
    What blocks all threads (one long call into C) is for a worker, or needs a limit of its own.
    """
    loop = asyncio.get_running_loop()
    if not isinstance(loop, _Loop):
        return await loop.run_in_executor(None, lambda: function(*args, **kwargs))
    loop.ticks.begin()
    try:
        return await loop.run_in_executor(loop.threads, lambda: function(*args, **kwargs))
    finally:
        loop.ticks.end()


class _Ticks:
    """While threads work beside the loop: whether it gets its turn. One that waits for it is in no iteration."""

    def __init__(self, loop: asyncio.AbstractEventLoop, pauses: Pauses) -> None:
        self._loop = loop
        self._pauses = pauses
        self._users = 0
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """Somebody works beside the loop."""
        self._users += 1
        if self._timer is None:
            self._wait()

    def end(self) -> None:
        """They are done."""
        self._users -= 1

    def _wait(self) -> None:
        due = self._loop.time() + _TICK
        self._timer = self._loop.call_at(due, self._tick, due, time.process_time())

    def _tick(self, due: float, spent: float) -> None:
        self._timer = None
        late = self._loop.time() - due
        self._pauses.note(late, min(late, time.process_time() - spent - _TICK))
        if self._users:
            self._wait()


async def read_aside(function: Callable[[bytes], T], data: bytes) -> T:
    """Read a document: beside the loop, unless it is small."""
    return function(data) if len(data) <= SMALL else await aside(function, data)


def run(main: Coroutine[Any, Any, None]) -> None:
    """`asyncio.run` on a loop that measures itself."""
    with asyncio.Runner(loop_factory=_Loop) as runner:
        runner.run(main)


def pauses() -> Pauses:
    """The running loop's; empty ones where it does not measure itself."""
    loop = asyncio.get_running_loop()
    return loop.pauses if isinstance(loop, _Loop) else Pauses()
