"""Health checks as the monitor runs them: Docker's rules, bounded output, and no wherryd needed."""

import asyncio
import contextlib
import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from wherry.monitor.client import adopt

from .bench import Bench, Container, process

pytestmark = pytest.mark.root

Run = Callable[[Callable[[Bench], Awaitable[None]]], None]

MS = 10**6


def check(container: Container, *argv: str, **settings: int) -> dict[str, Any]:
    """The `health` of a launch; times in milliseconds."""
    path = container.run_dir / "bundle/health.json"
    path.write_text(json.dumps({"process": process(*argv), "seccomp": None}))
    times = {name: value if name == "retries" else value * MS for name, value in settings.items()}
    return {"probe": str(path), "interval": 50 * MS, "timeout": 0, "start_period": 0, "start_interval": 0, **times}


async def shell(container: Container, script: str, main: str = "sleep 1000", **settings: int) -> None:
    await container.run("sh", "-c", main, health=check(container, "sh", "-c", script, **settings))


def on_disk(directory: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((directory / "health.json").read_text())
    return found


async def commands(container: Container) -> list[bytes]:
    """The command lines of what runs in the container."""
    found = []
    for pid in (await container.request("pids"))["pids"]:
        with contextlib.suppress(OSError):
            found.append(Path(f"/proc/{pid}/cmdline").read_bytes())
    return found


def test_healthy_then_unhealthy(with_bench: Run) -> None:
    """One success is health; `retries` failures in a row are not; the log holds five entries; the end is unhealthy."""

    async def test(bench: Bench) -> None:
        container = bench.container()
        await shell(container, "echo asked; test -e /tmp/ok", "touch /tmp/ok; sleep 1000", retries=2)
        first = await container.event("health")
        assert (first["status"], first["streak"], first["changed"]) == ("healthy", 0, True)
        assert (first["entry"]["code"], first["entry"]["output"]) == (0, "asked\n")
        assert first["entry"]["end"] >= first["entry"]["start"]
        os.unlink(container.root / "tmp/ok")
        one = await container.event("health", streak=1)
        assert (one["status"], one["changed"], one["entry"]["code"]) == ("healthy", False, 1)
        two = await container.event("health", streak=2)
        assert (two["status"], two["changed"]) == ("unhealthy", True)
        await container.event("health", streak=7)
        found = on_disk(container.run_dir)
        assert (found["status"], len(found["log"])) == ("unhealthy", 5)
        (container.root / "tmp/ok").touch()
        again = await container.event("health", status="healthy", changed=True)
        assert again["streak"] == 0
        await container.request("signal", signal=9)
        await container.event("exited")
        assert on_disk(container.data_dir)["status"] == "unhealthy"

    with_bench(test)


def test_failures_of_the_start_period_do_not_count(with_bench: Run) -> None:
    """Until it is over, or the first success, the check is run by the start interval and failures are forgiven."""

    async def test(bench: Bench) -> None:
        container = bench.container()
        await shell(container, "exit 1", start_period=20_000, start_interval=20, interval=60_000, retries=1)
        for _ in range(5):
            event = await container.event("health")
            assert (event["status"], event["streak"]) == ("starting", 0)
        other = bench.container()
        await shell(other, "exit 1", start_period=300, start_interval=50, interval=50, retries=1)
        ended = await other.event("health", changed=True)
        assert ended["status"] == "unhealthy"
        assert (
            ended["entry"]["start"] >= json.loads((other.run_dir / "state.json").read_text())["started_at"] + 300 * MS
        )

    with_bench(test)


def test_a_probe_that_takes_too_long_is_killed(with_bench: Run) -> None:
    """It and what it started are killed, its output so far is told, and the code is -1."""

    async def test(bench: Bench) -> None:
        container = bench.container()
        await shell(container, "echo begun; sleep 77 & sleep 78", timeout=1500, retries=1)
        event = await container.event("health")
        assert (event["status"], event["entry"]["code"]) == ("unhealthy", -1)
        assert event["entry"]["output"] == "Health check exceeded timeout (1.5s): begun\n"
        # a process that was sent SIGKILL is there until it runs again
        async with asyncio.timeout(20):
            while b"sleep\x0077\0" in await commands(container):  # noqa: ASYNC110 - the kernel tells nobody
                await asyncio.sleep(0.01)

    with_bench(test)


def test_output_is_capped(with_bench: Run) -> None:
    """4096 bytes are kept, whatever a check writes; what is no UTF-8 is replaced."""

    async def test(bench: Bench) -> None:
        container = bench.container()
        await shell(container, "printf '\\377\\033[31m'; yes x | head -c 3000000; exit 5")
        entry = (await container.event("health"))["entry"]
        assert entry["code"] == 5
        assert entry["output"].startswith("\ufffd\x1b[31mx\nx\n")
        assert entry["output"].endswith("x...") or entry["output"].endswith("\n...")
        assert len(entry["output"]) == 4096 + 3

    with_bench(test)


def test_a_program_that_is_not_there(with_bench: Run) -> None:
    """A check that cannot be executed fails, with the reason for its output."""

    async def test(bench: Bench) -> None:
        container = bench.container()
        await container.run("sleep", "1000", health=check(container, "nope", retries=1))
        event = await container.event("health")
        assert (event["status"], event["entry"]["code"]) == ("unhealthy", -1)
        assert "nope" in event["entry"]["output"]

    with_bench(test)


def test_signals_are_reset(with_bench: Run) -> None:
    """Neither ignored nor blocked signals are inherited from the monitor."""

    async def test(bench: Bench) -> None:
        container = bench.container()
        asked = check(container, "grep", "-e", "SigIgn", "-e", "SigBlk", "/proc/self/status")
        await container.run("sleep", "1000", health=asked)
        entry = (await container.event("health"))["entry"]
        assert entry["output"] == "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n"

    with_bench(test)


def test_a_paused_container_is_not_asked(with_bench: Run) -> None:
    """No probe while it is frozen, and the next one after it is thawed."""

    async def test(bench: Bench) -> None:
        container, clock = bench.container(), bench.container()
        await shell(container, "true")
        await shell(clock, "true")
        await container.event("health")
        await container.request("freeze", on=True)
        clock.events.clear()
        await clock.event("health")
        await clock.event("health")
        container.events.clear()  # what was under way has ended
        for _ in range(4):
            await clock.event("health")
        assert not container.events
        await container.request("freeze", on=False)
        await container.event("health")

    with_bench(test)


def test_it_goes_on_without_wherryd(with_bench: Run) -> None:
    """Nobody is connected: probes run, their results lie in the run directory; who comes later hears of the next."""

    async def test(bench: Bench) -> None:
        container = bench.container()
        await shell(container, "echo $((0$(cat /tmp/n) + 1)) > /tmp/n; cat /tmp/n", "echo 0 > /tmp/n; sleep 1000")
        assert container.handle is not None
        container.handle.close()
        async with asyncio.timeout(20):
            while (log := on_disk(container.run_dir)["log"]) == [] or int(log[-1]["output"]) < 8:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        assert [int(entry["output"]) for entry in log] == list(range(4, 9))
        container.take(await adopt(str(container.run_dir)))
        assert (await container.event("health"))["status"] == "healthy"

    with_bench(test)


def test_the_log_goes_on_over_a_restart(with_bench: Run) -> None:
    """A new start knows the earlier probes, and begins as `starting`."""

    async def test(bench: Bench) -> None:
        container = bench.container()
        await shell(container, "echo one")
        await container.event("health")
        await container.request("signal", signal=9)
        await container.event("exited")
        launch = container.launch_object("sleep", "1000", health=check(container, "true", interval=60_000))
        await container.request("again", launch=launch)
        await container.event("started")
        found = on_disk(container.run_dir)
        assert found["status"] == "starting"
        assert found["log"][0]["output"] == "one\n"

    with_bench(test)
