"""Background work: names, deadlines, counts, and what is logged."""

import asyncio
import logging

import pytest

from wherry.errors import Unavailable
from wherry.linux.background import background


async def _never() -> None:
    await asyncio.get_running_loop().create_future()


async def _fail(error: Exception) -> None:
    raise error


def test_a_late_task_is_cancelled_and_named(caplog: pytest.LogCaptureFixture) -> None:
    """A task that waits for ever ends at its deadline; the log names it and the function that it waits in."""

    async def scenario() -> None:
        work = background()
        task = work.start("settle abc", _never(), 0.01)
        assert work.report()["Running"] == 1
        (shown,) = work.report()["Tasks"]
        assert (shown["Name"], shown["Deadline"]) == ("settle abc", 0.01)
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0)
        assert (work.overdue, work.report()["Running"]) == (1, 0)

    asyncio.run(scenario())
    assert "settle abc" in caplog.text
    assert "_never" in caplog.text


def test_a_failed_task_is_counted_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    """An unexpected error has a traceback in the log, an expected one is a line."""

    async def scenario() -> None:
        work = background()
        tasks = [
            work.start("one", _fail(ValueError("odd")), 10),
            work.start("two", _fail(Unavailable("netd is gone")), 10, expected=(Unavailable,)),
        ]
        await asyncio.wait(tasks)
        await asyncio.sleep(0)
        assert work.failed == 2

    asyncio.run(scenario())
    found = {record.getMessage(): record for record in caplog.records}
    assert found["one: odd"].exc_info is not None
    assert found["two: netd is gone"].exc_info is None
    assert found["two: netd is gone"].levelno == logging.WARNING


def test_drain_waits_for_what_is_awaited() -> None:
    """It returns when all has ended, and at the latest after its seconds, with what has not."""

    async def scenario() -> None:
        work = background()
        done: list[str] = []

        async def brief() -> None:
            await asyncio.sleep(0.01)
            done.append("brief")

        work.start("brief", brief(), 10)
        unawaited = work.start("unawaited", _never(), 10, awaited=False)
        assert await work.drain(10) == []
        assert done == ["brief"]
        stuck = work.start("stuck", _never(), 10)
        (left,) = await work.drain(0.01)
        assert left.startswith("stuck (")
        assert "_never" in left
        for task in (unawaited, stuck):
            task.cancel()

    asyncio.run(scenario())


def test_standing_work_goes_on_after_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """What serves until the engine closes is started again when it raises, and ends when it returns."""
    monkeypatch.setattr("wherry.linux.background._AGAIN_SECONDS", 0.0)

    async def scenario() -> None:
        work = background()
        calls: list[int] = []

        async def serve() -> None:
            calls.append(len(calls))
            if len(calls) < 3:
                raise OSError("too many open files")

        task = work.stand("sweep", serve)
        assert work.report()["Services"] == ["sweep"]
        await task
        await asyncio.sleep(0)
        assert calls == [0, 1, 2]
        assert work.failed == 2
        assert work.report()["Standing"] == 0

    asyncio.run(scenario())


def test_each_loop_counts_its_own() -> None:
    """A later loop of the process begins with nothing."""

    async def leave() -> None:
        background().failed = 7

    async def look() -> int:
        return background().failed

    asyncio.run(leave())
    assert asyncio.run(look()) == 0
