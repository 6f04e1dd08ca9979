"""A container under its monitor: start, exit, signals, pause, again, and what it costs."""

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.cgroups import needs
from wherry.errors import NotRunning
from wherry.runtime.cgroups import open_cgroup

from .bench import ATTACH, Bench, Client, config, frames, launch_attached, log_text

pytestmark = pytest.mark.root

Run = Callable[[Callable[[Bench], Awaitable[None]]], None]


def test_run_to_exit(with_bench: Run) -> None:
    """Start and exit are told and recorded, output is logged, and the exit record is there before the event."""

    async def test(bench: Bench) -> None:
        container = bench.container()
        started = await container.run("sh", "-c", "echo out; echo err >&2; exit 3")
        assert started["event"] == "started"
        ended = await container.event("exited")
        assert (ended["code"], ended["signal"], ended["oom"]) == (3, None, False)
        record = json.loads((container.data_dir / "exit.json").read_bytes())
        assert (record["code"], record["pid"], record["error"]) == (3, started["pid"], None)
        assert record["started_at"] <= record["finished_at"] == ended["finished_at"]
        state = json.loads((container.run_dir / "state.json").read_bytes())
        assert (state["status"], state["init"]) == ("stopped", None)
        assert state["monitor"]["pid"] == container.handle.pid  # type: ignore[union-attr]
        assert sorted(log_text(container).splitlines()) == ["err", "out"]
        assert (container.run_dir / "monitor.sock").stat().st_mode & 0o777 == 0o600
        with pytest.raises(NotRunning):
            await container.request("signal", signal=9)
        await container.request("end")
        await container.handle.wait_dead()  # type: ignore[union-attr]
        assert not open_cgroup(container.cgroup).exists()
        assert container.lost == 0

    with_bench(test)


@pytest.mark.parametrize(
    ("args", "error", "code"),
    [
        (("no-such-program",), "CommandNotFound", 127),
        (("/bin/data",), "CommandNotExecutable", 126),
        (("/proc",), "CommandNotExecutable", 126),
    ],
)
def test_start_failure(with_bench: Run, args: tuple[str, ...], error: str, code: int) -> None:
    """A program that cannot be executed is an event with the error's class, a record, and the monitor waits."""

    async def test(bench: Bench) -> None:
        container = bench.container()
        (client,) = await launch_attached(container, *args)
        failed = await container.event("start-failed")
        assert failed["error"]["class"] == error
        assert await client.read() == b""
        client.close()
        assert json.loads((container.data_dir / "exit.json").read_bytes())["code"] == code
        await container.request("again", launch=container.launch_object("true"))
        assert (await container.event("exited"))["code"] == 0

    with_bench(test)


def test_broken_launch(with_bench: Run) -> None:
    """A launch object that makes no sense fails the start and leaves a monitor that can be ended."""

    async def test(bench: Bench) -> None:
        container = bench.container()
        await container.launch("true", log={"driver": "nonsense"})
        failed = await container.event("start-failed")
        assert "nonsense" in failed["error"]["message"]
        other = bench.container()
        await other.launch("true", config_path=str(other.run_dir / "missing.json"))
        assert (await other.event("start-failed"))["error"]["class"] == "KernelError"

    with_bench(test)


def test_killed_by_signal(with_bench: Run) -> None:
    """A signal's end is 128 + n."""

    async def test(bench: Bench) -> None:
        container = bench.container()
        await container.run("sleep", "100")
        await container.request("signal", signal=9)
        ended = await container.event("exited")
        assert (ended["code"], ended["signal"], ended["oom"]) == (137, 9, False)

    with_bench(test)


def test_signals_are_not_inherited(with_bench: Run) -> None:
    """Process 1 and execs ignore and block nothing that they did not ask for."""

    async def test(bench: Bench) -> None:
        container = bench.container()
        await container.run("sh", "-c", "grep Sig /proc/self/status; sleep 100")
        exec_id, client = await container.execute("grep", "Sig", "/proc/self/status")
        text = frames(await client.read())[1].decode()
        client.close()
        await container.request("signal", signal=9)
        await container.event("exited")
        for status in (text, log_text(container)):
            values = dict(line.split(":\t") for line in status.splitlines())
            assert int(values["SigIgn"], 16) == 0
            assert int(values["SigBlk"], 16) == 0
        assert exec_id

    with_bench(test)


def test_no_descriptor_leaks_into_the_container(with_bench: Run) -> None:
    """A container's process has its three streams and nothing else of ours."""

    async def test(bench: Bench) -> None:
        container = bench.container()
        await container.run("sh", "-c", "echo /proc/self/fd/*; sleep 100")
        _, client = await container.execute("sh", "-c", "echo /proc/self/fd/*")
        text = frames(await client.read())[1].decode()
        client.close()
        await container.request("signal", signal=9)
        await container.event("exited")
        for fds in (text, log_text(container)):
            # the fourth is the shell's own, to list the directory
            assert [name.rpartition("/")[2] for name in fds.split()][:4] in (["0", "1", "2"], ["0", "1", "2", "3"])

    with_bench(test)


@needs("memory")
def test_out_of_memory(with_bench: Run) -> None:
    """A container that the kernel killed for want of memory says so, whichever of its processes it was."""

    async def test(bench: Bench) -> None:
        container = bench.container()
        spec = config(container.root, "sh", "-c", "dd if=/dev/zero of=/dev/null bs=100M")
        spec["linux"]["resources"] = {"memory": {"limit": 20 << 20, "swap": 20 << 20}}
        await container.run(spec=spec)
        ended = await container.event("exited")
        assert (ended["code"], ended["oom"]) == (137, True)

    with_bench(test)


def test_pause_and_pids(with_bench: Run) -> None:
    """Freezing is visible in state.json; a frozen container dies of SIGKILL."""

    async def test(bench: Bench) -> None:
        container = bench.container()
        started = await container.run("sleep", "100")
        assert (await container.request("pids"))["pids"] == [started["pid"]]
        await container.request("freeze", on=True)
        assert json.loads((container.run_dir / "state.json").read_bytes())["status"] == "paused"
        await container.request("signal", signal=9)
        assert (await container.event("exited"))["code"] == 137

    with_bench(test)


def test_again(with_bench: Run) -> None:
    """A stopped container starts again under the same monitor, with new clients and the same log."""

    async def test(bench: Bench) -> None:
        container = bench.container()
        await container.run("echo", "one")
        await container.event("exited")
        client = Client.pair()
        launch = container.launch_object("echo", "two", attach=[{"fd": "attach:0", **ATTACH}])
        await container.request("again", launch=launch, fds={"attach:0": client.fd})
        client.handed_over()
        await container.event("started")
        assert await client.read() == b"two\n"
        client.close()
        await container.event("exited")
        assert log_text(container) == "one\ntwo\n"

    with_bench(test)


def test_network_namespace_is_kept(with_bench: Run) -> None:
    """A network namespace of its own outlives the process, by descriptor, until the end."""

    async def test(bench: Bench) -> None:
        container = bench.container()
        network = {"namespace": "new", "endpoints": []}
        spec = config(container.root, "sh", "-c", "cat /proc/net/dev")
        spec["linux"]["namespaces"].append({"type": "network"})
        started = await container.run(spec=spec, network=network)
        assert started["netns_fd"] is not None, started
        await container.event("exited")
        assert container.handle is not None
        path = f"/proc/{container.handle.pid}/fd/{started['netns_fd']}"
        inode = os.stat(path).st_ino
        await container.request("again", launch=container.launch_object(spec=spec, network=network))
        again = await container.event("started")
        await container.event("exited")
        assert os.stat(f"/proc/{container.handle.pid}/fd/{again['netns_fd']}").st_ino == inode
        assert "lo:" in log_text(container)
        assert "eth" not in log_text(container)

    with_bench(test)


def test_memory_of_an_idle_monitor(with_bench: Run) -> None:
    """An idle running container costs at most 4 MB beside its own process, alone and among others."""

    def proportional(pid: int) -> int:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))

    async def test(bench: Bench) -> None:
        for _ in range(5):
            container = bench.container()
            await container.run("sleep", "100")
            await asyncio.sleep(0.7)  # it gives memory back once it has been idle for half a second
            assert container.handle is not None
            assert proportional(container.handle.pid) <= 4096

    with_bench(test)
