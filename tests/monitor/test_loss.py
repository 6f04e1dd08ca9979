"""What a kill -9 leaves, of monitor, spawner or owner, and who takes a container over."""

import asyncio
import fcntl
import json
import os
import termios
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from wherry.errors import MonitorLost, NotBegun, Unavailable
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
    return await _child_named(spawner, "wherry-spare")


async def _child_named(spawner: int, name: str) -> int:
    """The first child of the spawner of that name, as soon as there is one."""
    async with asyncio.timeout(20):
        while True:
            for pid in Path(f"/proc/{spawner}/task/{spawner}/children").read_text().split():
                comm = Path(f"/proc/{pid}/comm")
                if comm.exists() and comm.read_text() == f"{name}\n":
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


def test_a_worker_is_asked_of_the_next_spawner(with_bench: Run) -> None:
    """What a dead spawner had not begun is done by its successor."""

    async def test(bench: Bench) -> None:
        assert bench.spawner.pid is not None
        os.kill(bench.spawner.pid, 19)  # stopped: it takes nothing
        request = asyncio.create_task(bench.spawner.run_worker("remove", {"paths": []}))
        await asyncio.sleep(0)
        os.kill(bench.spawner.pid, 9)
        async with asyncio.timeout(20):
            assert await request == {"removed": 0}

    with_bench(test)


def test_a_worker_outlives_its_spawner(with_bench: Run, tmp_path: Path) -> None:
    """Its result is heard; one that is killed in the midst of its work is told in words, and not begun again."""

    async def test(bench: Bench) -> None:
        for victim in ("spawner", "worker"):
            source, feed = os.pipe()
            target = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
            fds = {"source": source, "target": target}
            args = {"expect_diff_id": None, "sync": False}
            spawner = await _settled_spawner(bench, 0)
            request = asyncio.create_task(bench.spawner.run_worker("unpack", args, fds))
            worker = await _child_named(spawner, "wherry-unpack")
            os.write(feed, bytes(512))
            await _until(lambda source=source: not _unread(source))  # type: ignore[misc]  # it has begun
            os.kill(spawner if victim == "spawner" else worker, 9)
            os.close(source)
            async with asyncio.timeout(20):
                if victim == "spawner":
                    os.write(feed, bytes(9728))
                    os.close(feed)
                    assert (await request)["diff_id"].startswith("sha256:")
                else:
                    with pytest.raises(Unavailable, match="the process for the work 'unpack' was killed before it was"):
                        await request
                    os.close(feed)
            os.close(target)

    with_bench(test)


def test_a_launch_is_found_again(with_bench: Run) -> None:
    """A monitor that the spawner forked with its last breath is connected; one that it did not fork is told as such."""

    async def test(bench: Bench) -> None:
        spawner = bench.spawner.pid
        assert spawner is not None
        await _spare(spawner)
        container = bench.container()
        requests = bench.spawner._requests
        assert requests is not None
        requests._loop.remove_reader(requests._fd)  # its answer is not read
        launching = asyncio.create_task(container.launch("sleep", "1000"))
        await _until((container.run_dir / "state.json").exists)
        assert requests._channel is not None
        assert requests._channel.receive() is not None
        os.kill(spawner, 9)
        requests._loop.add_reader(requests._fd, requests.read)
        async with asyncio.timeout(20):
            await launching
        assert container.handle is not None
        assert container.handle.pid > 1
        assert (await container.event("started"))["pid"]
        assert (await container.request("state"))["state"]["monitor"]["pid"] == container.handle.pid
        other, second = bench.container(), await _settled_spawner(bench, spawner)
        os.kill(second, 19)
        launching = asyncio.create_task(other.launch("true"))
        await asyncio.sleep(0)
        os.kill(second, 9)
        async with asyncio.timeout(20):
            with pytest.raises(NotBegun, match="wherry-spawner"):
                await launching

    with_bench(test)


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while True:
            if condition():
                return
            await asyncio.sleep(0.01)


def _unread(pipe: int) -> int:
    """Bytes that wait in a pipe."""
    return int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)), "little")


async def _settled_spawner(bench: Bench, before: int) -> int:
    """The pid of the spawner that took the place of `before`."""
    await _until(lambda: bench.spawner.pid not in (None, before))
    assert bench.spawner.pid is not None
    return bench.spawner.pid
