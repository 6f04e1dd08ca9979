"""Background work of an event loop: each task has a name and a deadline, and is counted.

Two kinds of work. A task that ends by itself has a deadline: when that passes, the task is logged with the place where
it waits, and cancelled. A standing task serves until the engine closes; it has no deadline, and is started again when
it fails.
"""

import asyncio
import logging
import weakref
from collections.abc import Callable, Coroutine
from typing import Any

from wherry.linux.stacks import waits

log = logging.getLogger("wherry.background")

_AGAIN_SECONDS = 1.0


class _Entry:
    __slots__ = ("awaited", "began", "name", "seconds", "timer")

    def __init__(self, name: str, began: float, seconds: float, *, awaited: bool) -> None:
        self.name = name
        self.began = began
        self.seconds = seconds
        self.awaited = awaited
        self.timer: asyncio.TimerHandle | None = None


class Background:
    """The background work of one event loop; `background()` gives it.

    Attributes:
        overdue: how many tasks have been cancelled at their deadline.
        failed: how many have raised.
    """

    def __init__(self) -> None:
        self.overdue = 0
        self.failed = 0
        self._tasks: dict[asyncio.Task[Any], _Entry] = {}
        self._standing: dict[asyncio.Task[None], str] = {}

    def start(
        self,
        name: str,
        work: Coroutine[Any, Any, Any],
        seconds: float,
        *,
        awaited: bool = True,
        expected: tuple[type[BaseException], ...] = (),
    ) -> asyncio.Task[Any]:
        """Run work that ends by itself.

        Args:
            name: what it does, and for which object, such as `settle 0123456789ab`.
            work: a coroutine.
            seconds: its deadline, from now on.
            awaited: whether `drain` waits for it.
            expected: errors that are logged as a warning, without a traceback.
        """
        loop = asyncio.get_running_loop()
        task = loop.create_task(work, name=name)
        entry = self._tasks[task] = _Entry(name, loop.time(), seconds, awaited=awaited)
        entry.timer = loop.call_later(seconds, self._late, task)
        task.add_done_callback(lambda done: self._ended(done, expected))
        return task

    def stand(self, name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> asyncio.Task[None]:
        """Run work that serves until it is cancelled, or returns; when it raises it is logged and started again.

        Args:
            name: what it does.
            work: makes the coroutine.
        """
        task = asyncio.get_running_loop().create_task(self._serve(name, work), name=name)
        self._standing[task] = name
        task.add_done_callback(lambda done: self._standing.pop(done, None))
        return task

    async def drain(self, seconds: float) -> list[str]:
        """Wait for the tasks that are awaited, for at most `seconds`.

        Returns:
            What has not ended: the name of each, its age and where it waits.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while waiting := [task for task, entry in self._tasks.items() if entry.awaited]:
            left = deadline - loop.time()
            if left <= 0:
                return [self._describe(task) for task in waiting]
            await asyncio.wait(waiting, timeout=left)
        return []

    def report(self) -> dict[str, Any]:
        """Everything for `info`: counts, and each task with its age and its deadline in seconds, the oldest first."""
        now = asyncio.get_running_loop().time()
        entries = sorted(self._tasks.values(), key=lambda entry: entry.began)
        return {
            "Running": len(entries),
            "Standing": len(self._standing),
            "Overdue": self.overdue,
            "Failed": self.failed,
            "Tasks": [
                {"Name": entry.name, "Seconds": round(now - entry.began, 3), "Deadline": entry.seconds}
                for entry in entries
            ],
            "Services": sorted(self._standing.values()),
        }

    # ---- inner

    async def _serve(self, name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        while True:
            try:
                await work()
                return
            except Exception as error:
                self.failed += 1
                log.error("%s failed and is started again: %s", name, error, exc_info=error)
            await asyncio.sleep(_AGAIN_SECONDS)

    def _late(self, task: asyncio.Task[Any]) -> None:
        self.overdue += 1
        log.error("background work is past its deadline and is cancelled: %s", self._describe(task))
        task.cancel()

    def _describe(self, task: asyncio.Task[Any]) -> str:
        entry = self._tasks[task]
        age = asyncio.get_running_loop().time() - entry.began
        return f"{entry.name} ({age:.1f} s, in {_where(task)})"

    def _ended(self, task: asyncio.Task[Any], expected: tuple[type[BaseException], ...]) -> None:
        entry = self._tasks.pop(task)
        if entry.timer is not None:
            entry.timer.cancel()
        if task.cancelled() or (error := task.exception()) is None:
            return
        self.failed += 1
        if isinstance(error, expected):
            log.warning("%s: %s", entry.name, error)
        else:
            log.error("%s: %s", entry.name, error, exc_info=error)


_of_loop: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Background] = weakref.WeakKeyDictionary()


def background() -> Background:
    """The background work of the running event loop."""
    loop = asyncio.get_running_loop()
    found = _of_loop.get(loop)
    if found is None:
        found = _of_loop[loop] = Background()
    return found


def _where(task: asyncio.Task[Any]) -> str:
    """The functions that a task waits in, the innermost last."""
    return " > ".join(line.rpartition("/")[2] for line in waits(task.get_coro()))
