"""A container under its monitor: streams, exit, exec, again, adoption, and what a kill -9 leaves."""

import asyncio
import hashlib
import json
import os
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from wherry.errors import CommandNotExecutable, CommandNotFound, ExecNotFound, MonitorLost, NotRunning, Unavailable
from wherry.monitor.client import adopt
from wherry.runtime.cgroups import open_cgroup

from .bench import ATTACH, Bench, Client, Container, config, frames, process

pytestmark = pytest.mark.root

Run = Callable[[Callable[[Bench], Awaitable[None]]], None]


def log_text(container: Container) -> str:
    return "".join(json.loads(line)["log"] for line in container.log.read_bytes().splitlines())


async def launch_attached(
    container: Container, *args: str, clients: int = 1, attach: dict[str, object] | None = None, **values: object
) -> list[Client]:
    """Launch with clients that are there from the first byte."""
    made = [Client.pair() for _ in range(clients)]
    entries = [{"fd": f"attach:{n}", **ATTACH, **(attach or {})} for n in range(clients)]
    fds = {f"attach:{n}": client.fd for n, client in enumerate(made)}
    await container.launch(*args, fds=fds, attach=entries, **values)
    for client in made:
        client.handed_over()
    return made


def _is_of(pid: str, id_: str) -> bool:
    try:
        return f"wherry-launch {id_}" in Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return False


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


def test_several_clients_see_the_same(with_bench: Run) -> None:
    """Every client gets all output, framed, and then the end of file."""

    async def test(bench: Bench) -> None:
        container = bench.container()
        clients = await launch_attached(
            container, "sh", "-c", "seq 1 20000; echo oops >&2", clients=3, attach={"framed": True}
        )
        expected = "".join(f"{n}\n" for n in range(1, 20001)).encode()
        for data in await asyncio.gather(*[client.read() for client in clients]):
            assert frames(data) == {1: expected, 2: b"oops\n"}
        for client in clients:
            client.close()

    with_bench(test)


def test_large_output(with_bench: Run) -> None:
    """50 MB arrive whole, byte for byte, through the log's rotation."""

    async def test(bench: Bench) -> None:
        container = bench.container()
        (client,) = await launch_attached(
            container, "sh", "-c", "yes 'some line of ordinary output, as programs print' | head -c 52428800",
            attach={"framed": True},
        )  # fmt: skip
        got = frames(await client.read())[1]
        line = b"some line of ordinary output, as programs print\n"
        want = (line * (52428800 // len(line) + 1))[:52428800]
        assert hashlib.sha256(got).digest() == hashlib.sha256(want).digest()
        client.close()
        assert (await container.event("exited"))["code"] == 0
        names = sorted(path.name for path in container.data_dir.glob("*.log*"))
        assert container.log.name in names
        assert len(names) <= 4
        assert all(path.stat().st_size <= 10 << 20 for path in container.data_dir.glob("*.log*"))

    with_bench(test)


def test_slow_client_does_not_stall_others(with_bench: Run, tmp_path: Path) -> None:
    """A client that reads nothing stalls neither the container nor the other client, and still gets all in the end."""

    async def test(bench: Bench) -> None:
        container = bench.container()
        fast, slow = await launch_attached(container, "sh", "-c", "yes 0123456789 | head -c 8000000", clients=2)
        want = (b"0123456789\n" * 800_000)[:8_000_000]
        assert await fast.read() == want
        assert (await container.event("exited"))["code"] == 0
        assert await slow.read() == want
        fast.close()
        slow.close()

    with_bench(test)


def test_sole_slow_client_gets_everything(with_bench: Run) -> None:
    """A single client that does not read holds the container back, and loses nothing."""

    async def test(bench: Bench) -> None:
        container = bench.container()
        (client,) = await launch_attached(container, "sh", "-c", "yes 0123456789 | head -c 8000000; echo >&2 done")
        await container.event("started")
        with pytest.raises(TimeoutError):
            await container.event("exited", seconds=0.4)
        assert len(await client.read()) == 8_000_005
        client.close()
        await container.event("exited")

    with_bench(test)


def test_client_that_goes_is_dropped(with_bench: Run) -> None:
    """A client that closes does not stop the container, not even when it was the one that held it back."""

    async def test(bench: Bench) -> None:
        container = bench.container()
        (client,) = await launch_attached(container, "sh", "-c", "yes | head -c 5000000; exit 4")
        await container.event("started")
        await client.until(b"y")
        client.close()
        assert (await container.event("exited"))["code"] == 4

    with_bench(test)


@pytest.mark.parametrize("size", [10, 5_000_000])
def test_half_close_is_end_of_input(with_bench: Run, size: int) -> None:
    """A client's half-close ends the input of a container that takes one session's input."""

    async def test(bench: Bench) -> None:
        container = bench.container()
        (client,) = await launch_attached(container, "cat", open_stdin=True, stdin_once=True)
        data = os.urandom(size)
        reading = asyncio.create_task(client.read())
        await client.send(data)
        client.half_close()
        assert await reading == data
        assert (await container.event("exited"))["code"] == 0
        client.close()

    with_bench(test)


def test_stdin_stays_open(with_bench: Run) -> None:
    """Without stdin_once a client's half-close ends its session only; the next one goes on."""

    async def test(bench: Bench) -> None:
        container = bench.container()
        await container.run("cat", open_stdin=True)
        for text in (b"one\n", b"two\n"):
            client = await container.attach()
            await client.send(text)
            await client.until(text)
            client.half_close()
            assert await client.read() == b""
            client.close()
        await container.request("signal", signal=9)
        await container.event("exited")
        assert log_text(container) == "one\ntwo\n"

    with_bench(test)


def test_tail_of_the_request_comes_first(with_bench: Run) -> None:
    """Bytes that came with the HTTP head are the first of the input."""

    async def test(bench: Bench) -> None:
        container = bench.container()
        (client,) = await launch_attached(
            container, "cat", attach={"tail": "aGVhZCA="}, open_stdin=True, stdin_once=True
        )
        await client.send(b"rest")
        client.half_close()
        assert await client.read() == b"head rest"
        client.close()

    with_bench(test)


def test_process_that_does_not_read(with_bench: Run) -> None:
    """A client that sends into a process that has closed its input is not stuck, and gets the output."""

    async def test(bench: Bench) -> None:
        container = bench.container()
        (client,) = await launch_attached(
            container, "sh", "-c", "exec <&-; sleep 0.2; echo bye", open_stdin=True, stdin_once=True
        )
        sending = asyncio.create_task(client.send(b"x" * 3_000_000))
        assert await client.read() == b"bye\n"
        sending.cancel()
        client.close()
        await container.event("exited")

    with_bench(test)


def test_terminal(with_bench: Run) -> None:
    """A terminal: its size, a resize, echo, and detach keys that end only their client."""

    async def test(bench: Bench) -> None:
        container = bench.container()
        script = "stty -echo; stty size; read line; stty size; cat -v; exit 7"
        (client,) = await launch_attached(
            container,
            "sh",
            "-c",
            script,
            tty=True,
            open_stdin=True,
            console_size=[33, 101],
            attach={"detach_keys": "ctrl-a,x"},
        )
        await container.event("started")
        other = await container.attach()
        await client.until(b"33 101")
        await container.request("resize", height=40, width=120)
        await client.send(b"\n")
        await client.until(b"40 120\r\n")
        await client.send(b"a\x01")
        await client.send(b"b\n")
        assert await client.until(b"b\r\n") == b"a^Ab\r\n"  # a sequence that breaks is passed on
        await client.send(b"\x01")
        await client.send(b"x")
        assert (await container.event("detached"))["exec_id"] is None
        assert await client.read() == b""
        client.close()
        await other.send(b"\x04")
        assert (await other.read()).endswith(b"a^Ab\r\n")
        other.close()
        assert (await container.event("exited"))["code"] == 7

    with_bench(test)


def test_exec(with_bench: Run) -> None:
    """Execs have streams, codes and events of their own, many at once; state.json names them."""

    async def test(bench: Bench) -> None:
        container = bench.container()
        await container.run("sleep", "100")
        exec_id, client = await container.execute("sh", "-c", "echo out; echo err >&2; cat; exit 5")
        await client.send(b"in")
        client.half_close()
        assert frames(await client.read()) == {1: b"out\nin", 2: b"err\n"}
        client.close()
        assert (await container.event("exec-exited", exec_id=exec_id))["code"] == 5
        many = await asyncio.gather(*[container.execute("sh", "-c", f"echo {n}; exit {n}") for n in range(10)])
        for number, (one, its) in enumerate(many):
            assert frames(await its.read()) == {1: f"{number}\n".encode()}
            its.close()
            assert (await container.event("exec-exited", exec_id=one))["code"] == number
        state = json.loads((container.run_dir / "state.json").read_bytes())
        assert {entry["exec_id"]: entry["code"] for entry in state["execs"]}[exec_id] == 5
        with pytest.raises(CommandNotFound):
            await container.execute("no-such-program")
        with pytest.raises(CommandNotExecutable):
            await container.execute("/bin/data")
        with pytest.raises(ExecNotFound):
            await container.request("resize", exec_id=exec_id, height=1, width=1)

    with_bench(test)


def test_exec_terminal(with_bench: Run) -> None:
    """An exec with a terminal: size, resize, signal, detach keys."""

    async def test(bench: Bench) -> None:
        container = bench.container()
        await container.run("sleep", "100")
        exec_id, client = await container.execute("sh", tty=True, console_size=[20, 70])
        await client.send(b"stty size\n")
        await client.until(b"20 70")
        await container.request("resize", exec_id=exec_id, height=21, width=71)
        await client.send(b"stty size\n")
        await client.until(b"21 71")
        await client.send(b"\x10\x11")
        await container.event("detached", exec_id=exec_id)
        client.close()
        await container.request("signal", exec_id=exec_id, signal=9)
        assert (await container.event("exec-exited", exec_id=exec_id))["code"] == 137

    with_bench(test)


def test_exec_without_client(with_bench: Run) -> None:
    """A detached exec runs, and its end is told."""

    async def test(bench: Bench) -> None:
        container = bench.container()
        await container.run("sleep", "100")
        await container.request("exec", exec_id="e1", process=process("sh", "-c", "echo lost; exit 9"), tty=False)
        assert (await container.event("exec-exited", exec_id="e1"))["code"] == 9

    with_bench(test)


def test_execs_end_with_the_container(with_bench: Run) -> None:
    """The end of process 1 ends every exec, and their clients get the end of file."""

    async def test(bench: Bench) -> None:
        container = bench.container()
        await container.run("sleep", "100")
        exec_id, client = await container.execute("sleep", "100")
        await container.request("signal", signal=9)
        assert await client.read() == b""
        client.close()
        await container.event("exited")
        assert (await container.event("exec-exited", exec_id=exec_id))["code"] == 137

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


def test_unread_input_is_no_broken_connection(with_bench: Run) -> None:
    """A client that was still sending when the container ended gets the output and a clean end, also after `end`."""

    async def test(bench: Bench) -> None:
        container = bench.container()
        (client,) = await launch_attached(container, "head", "-c", "3", open_stdin=True, stdin_once=True)
        sending = asyncio.create_task(client.send(b"x" * 5_000_000))
        await container.event("exited")
        await container.request("end")
        assert await client.read() == b"xxx"
        sending.cancel()
        client.close()
        assert container.handle is not None
        async with asyncio.timeout(3):
            await container.handle.wait_dead()

    with_bench(test)


def test_end_waits_for_a_slow_client(with_bench: Run) -> None:
    """What a client has still to get is not lost when the container is removed meanwhile."""

    async def test(bench: Bench) -> None:
        container = bench.container()
        fast, slow = await launch_attached(container, "sh", "-c", "yes | head -c 3000000", clients=2)
        assert len(await fast.read()) == 3_000_000
        fast.close()
        await container.event("exited")
        await container.request("end")
        assert not open_cgroup(container.cgroup).exists()
        assert len(await slow.read()) == 3_000_000
        slow.close()
        assert container.handle is not None
        await container.handle.wait_dead()

    with_bench(test)


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


def test_logs_follow(with_bench: Run) -> None:
    """A follower gets what comes, over rotations, and the end of file when the container stops."""

    async def test(bench: Bench) -> None:
        container = bench.container()
        log = {"driver": "json-file", "path": str(container.log), "max_size": 20_000, "max_file": 4, "attrs": {}}
        script = "while read n; do seq $n $((n + 99)); done"
        await container.run("sh", "-c", script, open_stdin=True, log=log)
        writer = await container.attach(stdout=False, stderr=False)
        reader = Client.pair()
        worker = asyncio.create_task(
            bench.spawner.run_worker(
                "logs",
                {"path": str(container.log), "run_dir": str(container.run_dir), "follow": True},
                {"client": reader.fd},
            )
        )
        received = bytearray()
        for start in range(1, 2000, 100):
            await writer.send(f"{start}\n".encode())
            while not received.endswith(f"{start + 99}\n".encode()):
                received += await reader.until(b"\n")
                reader.handed_over()
        await container.request("signal", signal=9)
        await worker
        received += await reader.read()
        assert frames(bytes(received)) == {1: "".join(f"{n}\n" for n in range(1, 2001)).encode()}
        reader.close()
        writer.close()
        await container.event("exited")

    with_bench(test)


def test_follower_ends_with_its_client(with_bench: Run) -> None:
    """A follower whose client has gone ends at once."""

    async def test(bench: Bench) -> None:
        container = bench.container()
        await container.run("sh", "-c", "echo one; sleep 100")
        reader = Client.pair()
        worker = asyncio.create_task(
            bench.spawner.run_worker(
                "logs",
                {"path": str(container.log), "run_dir": str(container.run_dir), "follow": True, "framed": False},
                {"client": reader.fd},
            )
        )
        await reader.until(b"one\n")
        reader.close()
        async with asyncio.timeout(5):
            await worker

    with_bench(test)


def test_remove_worker(with_bench: Run, tmp_path: Path) -> None:
    """Deep trees, immutable files and links go; what a link points to stays; errors come back as their class."""

    async def test(bench: Bench) -> None:
        keep = tmp_path / "keep"
        keep.mkdir()
        (keep / "file").write_text("x")
        tree = tmp_path / "tree"
        tree.mkdir()
        (tree / "link").symlink_to(keep)
        here = os.open(tree, os.O_RDONLY)
        for _ in range(300):
            os.mkdir("d" * 50, dir_fd=here)
            inner = os.open("d" * 50, os.O_RDONLY, dir_fd=here)
            os.close(here)
            here = inner
        os.close(os.open("deep", os.O_CREAT | os.O_WRONLY, dir_fd=here))
        os.close(here)
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(str(tree / "sock"))
        sock.close()
        result = await bench.spawner.run_worker("remove", {"paths": [str(tree), str(tmp_path / "absent")]})
        assert result == {"removed": 2}
        assert not tree.exists()
        assert (keep / "file").exists()
        with pytest.raises(Exception, match="not an absolute path"):
            await bench.spawner.run_worker("remove", {"paths": ["relative"]})

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
