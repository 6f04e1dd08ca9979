"""What a kill -9 leaves, of monitor, spawner or owner, and who takes a container over."""

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from wherry.errors import MonitorLost, Unavailable
from wherry.monitor.client import adopt
from wherry.runtime.cgroups import open_cgroup

from .bench import Bench

pytestmark = pytest.mark.root

Run = Callable[[Callable[[Bench], Awaitable[None]]], None]


def _is_of(pid: str, id_: str) -> bool:
    try:
        return f"wherry-launch {id_}" in Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return False


def test_monitor_killed_while_it_launches(with_bench: Run) -> None:
    """At whatever moment the monitor dies, its helper leaves no process and no cgroup once that is killed."""

    async def test(bench: Bench) -> None:
        for delay in (0.0, 0.002, 0.004, 0.006, 0.009, 0.013, 0.018):
            container = bench.container()
            await container.launch("sleep", "100")
            assert container.handle is not None
            await asyncio.sleep(delay)
            os.kill(container.handle.pid, 9)
            await container.wait_lost()
            cgroup = open_cgroup(container.cgroup)
            async with asyncio.timeout(10):
                while True:
                    # as wherryd does, until the helper is gone too
                    if cgroup.exists():
                        cgroup.kill()
                    helpers = [pid for pid in os.listdir("/proc") if pid.isdigit() and _is_of(pid, container.id)]
                    if not helpers and not (cgroup.exists() and cgroup.pids()):
                        break
                    await asyncio.sleep(0.01)

    with_bench(test)


def test_adoption(with_bench: Run) -> None:
    """Without a connection the container goes on; whoever reads state.json can take it over, and misses nothing."""

    async def test(bench: Bench) -> None:
        container = bench.container()
        await container.run("sh", "-c", "read line; echo got $line; exit 6", open_stdin=True)
        assert container.handle is not None
        container.handle.close()
        handle = await adopt(str(container.run_dir))
        assert handle.state["status"] == "running"
        container.take(handle)
        client = await container.attach()
        await client.send(b"it\n")
        assert await client.read() == b"got it\n"
        client.close()
        assert (await container.event("exited"))["code"] == 6
        handle.close()
        late = await adopt(str(container.run_dir))
        container.take(late)
        assert late.state["exit"]["code"] == 6

    with_bench(test)


def test_adoption_of_who_is_not_there(with_bench: Run, tmp_path: Path) -> None:
    """No state, a dead monitor, a recycled pid and a monitor that does not answer are all lost."""

    async def test(bench: Bench) -> None:
        with pytest.raises(MonitorLost):
            await adopt(str(tmp_path))
        container = bench.container()
        await container.run("sleep", "100")
        path = container.run_dir / "state.json"
        state = json.loads(path.read_bytes())
        path.write_text(json.dumps({**state, "monitor": {"pid": os.getpid(), "start_time": 1}}))
        with pytest.raises(MonitorLost, match="another process"):
            await adopt(str(container.run_dir))
        path.write_text(json.dumps(state))
        assert container.handle is not None
        os.kill(container.handle.pid, 9)
        await container.wait_lost()
        with pytest.raises(MonitorLost):
            await adopt(str(container.run_dir))

    with_bench(test)


def test_killed_monitor_is_lost(with_bench: Run) -> None:
    """A monitor's death is told once, and requests to it fail by name."""

    async def test(bench: Bench) -> None:
        container = bench.container()
        await container.run("sleep", "100")
        assert container.handle is not None
        os.kill(container.handle.pid, 9)
        await container.wait_lost()
        assert container.lost == 1
        with pytest.raises(MonitorLost):
            await container.request("state")

    with_bench(test)


def test_owned_container_ends_with_its_owner(with_bench: Run) -> None:
    """With stop_on_control_close nothing is left once the connection has closed and nobody came back."""

    async def test(bench: Bench) -> None:
        container = bench.container()
        await container.run("sleep", "100", stop_on_control_close=True)
        assert container.handle is not None
        pidfd = os.pidfd_open(container.handle.pid)
        container.handle.close()
        dead = asyncio.Event()
        asyncio.get_running_loop().add_reader(pidfd, dead.set)
        async with asyncio.timeout(10):
            await dead.wait()
        asyncio.get_running_loop().remove_reader(pidfd)
        os.close(pidfd)
        container.handle = None
        assert json.loads((container.data_dir / "exit.json").read_bytes())["code"] == 137
        assert not open_cgroup(container.cgroup).exists()

    with_bench(test)


def test_spawner_is_replaced(with_bench: Run) -> None:
    """A killed spawner is replaced within a second; containers do not notice."""

    async def test(bench: Bench) -> None:
        container = bench.container()
        await container.run("sh", "-c", "read line; exit 8", open_stdin=True)
        first, replaced = bench.spawner.pid, asyncio.Event()
        assert first is not None
        bench.spawner.on_respawn = lambda _count: replaced.set()
        os.kill(first, 9)
        async with asyncio.timeout(1):
            await replaced.wait()
        assert bench.spawner.pid not in (None, first)
        other = bench.container()
        await other.run("true")
        assert (await other.event("exited"))["code"] == 0
        client = await container.attach()
        await client.send(b"\n")
        assert (await container.event("exited"))["code"] == 8
        client.close()

    with_bench(test)


async def _spare(spawner: int) -> int:
    """The process that waits to become the next monitor."""
    async with asyncio.timeout(5):
        while True:
            for pid in Path(f"/proc/{spawner}/task/{spawner}/children").read_text().split():
                comm = Path(f"/proc/{pid}/comm")
                if comm.exists() and comm.read_text() == "wherry-spare\n":
                    return int(pid)
            await asyncio.sleep(0.01)


async def _dead(pid: int, killed: int) -> None:
    """Kill a process and wait until `pid`, it or one that should go with it, has ended."""
    pidfd, dead = os.pidfd_open(pid), asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(pidfd, dead.set)
    try:
        os.kill(killed, 9)
        async with asyncio.timeout(5):
            await dead.wait()
    finally:
        loop.remove_reader(pidfd)
        os.close(pidfd)


def test_spare_monitor(with_bench: Run) -> None:
    """The spare becomes the next monitor; a dead one is not missed; it goes with the spawner."""

    async def test(bench: Bench) -> None:
        spawner = bench.spawner.pid
        assert spawner is not None
        spare = await _spare(spawner)
        first = bench.container()
        await first.run("true")
        assert first.handle is not None
        assert first.handle.pid == spare
        spare = await _spare(spawner)
        await _dead(spare, spare)
        second = bench.container()
        await second.run("true")
        assert (await second.event("exited"))["code"] == 0
        await _dead(await _spare(spawner), spawner)

    with_bench(test)


def test_requests_in_flight_fail_with_the_spawner(with_bench: Run) -> None:
    """A request that a dead spawner cannot answer fails; it does not hang."""

    async def test(bench: Bench) -> None:
        assert bench.spawner.pid is not None
        os.kill(bench.spawner.pid, 19)  # stopped: it takes nothing
        request = asyncio.create_task(bench.spawner.run_worker("remove", {"paths": []}))
        await asyncio.sleep(0)
        os.kill(bench.spawner.pid, 9)
        async with asyncio.timeout(5):
            with pytest.raises(Unavailable):
                await request
        assert await bench.spawner.run_worker("remove", {"paths": []}) == {"removed": 0}

    with_bench(test)
