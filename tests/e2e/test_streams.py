"""Every byte arrives, once and in order, whoever reads, stops reading, or dies. `WHERRY_FULL=1`: the long forms."""

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import time
from pathlib import Path

import docker
import pytest

from tests.e2e.harness import BIN, EngineProcess, until
from tests.e2e.terminal import Terminal

pytestmark = pytest.mark.root

FULL = bool(os.environ.get("WHERRY_FULL"))
COMMANDS = ("docker", str(BIN / "wherry"))


@pytest.fixture(autouse=True)
def _nothing_left(engine: EngineProcess) -> None:
    """Make the engine before a test asks for it by another way."""


def descriptors(pid: int) -> int:
    """How many descriptors a process holds."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def test_short_runs_are_whole(engine: EngineProcess) -> None:
    """The output of a short run is the same each time; wherryd and its spawner keep no descriptor or thread of it."""
    wanted = hashlib.sha256(b"".join(b"%d\n" % n for n in range(1, 5001))).hexdigest()
    command = "docker run --rm busybox seq 1 5000 | sha256sum"
    for _ in range(3):
        engine.run("sh", "-c", command)
    engine.assert_nothing_runs()
    before = [descriptors(engine.pid), descriptors(engine.spawner), len(os.listdir(f"/proc/{engine.pid}/task"))]
    count = 500 if FULL else 60
    began = time.monotonic()
    for number in range(count):
        # back to back and over each other
        done = engine.run("sh", "-c", command if number % 2 else f"({command}) & {command}; wait")
        assert set(done.out.split()) == {wanted, "-"}, f"run {number}: {done}"
    print(f"\n{count} runs in {time.monotonic() - began:.1f} s")
    engine.assert_nothing_runs()

    def kept() -> bool:
        return (
            descriptors(engine.pid) <= before[0] + 2
            and descriptors(engine.spawner) <= before[1] + 2
            # the pool of threads grows to its size, and not beyond
            and len(os.listdir(f"/proc/{engine.pid}/task")) <= before[2] + 16
        )

    until(kept, f"descriptors and threads are given back: {before}")


def test_failed_starts_keep_nothing(engine: EngineProcess) -> None:
    """Starts that fail, early or late, give back their descriptors, links and cgroups; the clients are ended."""
    engine.docker("run", "-d", "--name", "holder", "-p", "127.0.0.1:28378:80", "busybox", "sleep", "1000")
    failing = (
        ("busybox", "nowhere"),
        ("-p", "127.0.0.1:28378:80", "busybox", "true"),
        ("-w", "/proc/1/x", "busybox", "true"),
        ("--network", "container:nobody", "busybox", "true"),
    )
    for flags in failing:
        engine.docker("run", "-i", *flags, check=False)
    before = descriptors(engine.pid)
    for _ in range(5):
        for flags in failing:
            assert engine.docker("run", "-i", *flags, check=False).code in (125, 126, 127, 128)
    until(lambda: descriptors(engine.pid) <= before + 2, f"descriptors are given back: {before}")
    assert len(engine.links()) == 1
    until(lambda: len(os.listdir(engine.roots.sandboxes)) == 1, "the run root holds the holder alone")


@pytest.mark.parametrize("command", COMMANDS, ids=["docker", "wherry"])
def test_much_input(engine: EngineProcess, command: str) -> None:
    """Hundreds of megabytes through stdin arrive whole."""
    size = 1024 if FULL else 192
    block = os.urandom(1 << 20)
    digest = hashlib.sha256()
    for _ in range(size):
        digest.update(block)
    path = engine.base / "block"
    path.write_bytes(block)
    began = time.monotonic()
    feed = f"i=0; while [ $i -lt {size} ]; do cat {path}; i=$((i+1)); done | {command} run --rm -i busybox sha256sum"
    done = engine.run("sh", "-c", feed, seconds=300)
    seconds = time.monotonic() - began
    print(f"\n{size} MB in {seconds:.1f} s: {size / seconds:.0f} MB/s")
    assert done.out.split()[0] == digest.hexdigest()


@pytest.mark.parametrize("flags", ["--rm", "--rm -i", "-i --name writer"])
@pytest.mark.parametrize("writer", ["yes", "cat /dev/zero", "seq 1 100000000"])
def test_a_reader_that_leaves(engine: EngineProcess, flags: str, writer: str) -> None:
    """`… | head -1` ends, and nothing is left of the run but what was asked to stay."""
    done = engine.run("sh", "-c", f"docker run {flags} busybox {writer} </dev/null | head -c 2 | wc -c", seconds=30)
    assert done.out.strip() == "2"
    if "--rm" not in flags:
        engine.docker("rm", "-f", "writer")
    else:
        engine.remove_all()
    engine.assert_nothing_runs()


def test_control_c_ends_a_run(engine: EngineProcess) -> None:
    """Ctrl-C under --init --rm: 130, and nothing is left; without a terminal SIGINT does the same."""
    terminal = Terminal(["docker", "run", "--init", "--rm", "-it", "busybox", "sleep", "1000"], engine.env)
    try:
        terminal.ready()
        until(lambda: engine.docker("ps", "-q").out, "it runs")
        terminal.type("\x03")
        assert terminal.wait() == 130
    finally:
        terminal.close()
    engine.assert_nothing_runs()
    with subprocess.Popen(
        ["docker", "run", "--init", "--rm", "busybox", "sh", "-c", "echo up; exec sleep 1000"],
        env=engine.env,
        stdout=subprocess.PIPE,
    ) as client:
        assert client.stdout is not None
        assert client.stdout.readline() == b"up\n"
        client.send_signal(signal.SIGINT)
        assert client.wait(10) == 130
    engine.assert_nothing_runs()


def test_a_killed_client_stalls_nobody(engine: EngineProcess) -> None:
    """kill -9 of the client in the middle: the container goes on, another attached client gets everything."""
    script = "while [ ! -e /go ]; do sleep 0.01; done; i=0; while [ $i -lt 2000 ]; do i=$((i+1)); echo line $i; done"
    engine.docker("run", "-d", "--name", "talker", "busybox", "sh", "-c", script)
    attach = ["docker", "attach", "--no-stdin", "--sig-proxy=false", "talker"]
    clients = [
        subprocess.Popen(attach, env=engine.env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) for _ in range(3)
    ]
    log = json.loads(Path(f"{engine.roots.sandbox(_id(engine, 'talker'))}/state.json").read_text())
    until(lambda: sockets(log["monitor"]["pid"]) >= 3 + 2, "all clients are attached")
    # the third never reads, the second dies
    clients[1].kill()
    engine.docker("exec", "talker", "touch", "/go")
    assert clients[0].stdout is not None
    assert clients[0].stdout.read() == b"".join(b"line %d\n" % n for n in range(1, 2001))
    for client in clients:
        if client.stdout is not None:
            client.stdout.close()
        client.wait(10)
    assert engine.docker("wait", "talker").out == "0\n"
    engine.docker("rm", "talker")
    engine.assert_nothing_runs()


def _id(engine: EngineProcess, name: str) -> str:
    return engine.docker("inspect", "-f", "{{.Id}}", name).out.strip()


def _comm(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""  # it has ended


def sockets(pid: int) -> int:
    """How many sockets a process holds."""
    found = 0
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            found += os.readlink(f"/proc/{pid}/fd/{name}").startswith("socket:")
        except FileNotFoundError:
            continue
    return found


def test_a_killed_run_client(engine: EngineProcess) -> None:
    """`docker run` killed with -9: its container can be seen, stopped and removed, a big writer too."""
    for writer in ("sleep 1000", "cat /dev/zero"):
        name = f"left-{writer.split()[0]}"
        with subprocess.Popen(
            ["docker", "run", "--name", name, "busybox", *writer.split()],
            env=engine.env,
            stdout=subprocess.PIPE,
        ) as client:
            until(lambda: engine.docker("ps", "-q").out, "it runs")
            client.kill()
        assert engine.docker("inspect", "-f", "{{.State.Running}}", name).out == "true\n"
        engine.docker("stop", "-t", "0", name)
        engine.docker("rm", name)
    engine.assert_nothing_runs()


def test_logs_equal_what_was_attached(engine: EngineProcess) -> None:
    """Both streams, in order each, are the same for two attached clients and for `docker logs`."""
    script = "i=0; while [ $i -lt 3000 ]; do i=$((i+1)); echo out $i; echo err $i >&2; done; printf tail"
    engine.docker("create", "--name", "both", "busybox", "sh", "-c", script)
    argv = ["docker", "attach", "--no-stdin", "--sig-proxy=false", "both"]
    with subprocess.Popen(
        ["docker", "start", "-a", "both"], env=engine.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as first:
        out, err = first.communicate(timeout=30)
    wanted = b"".join(b"out %d\n" % n for n in range(1, 3001)) + b"tail"
    assert out == wanted
    assert err == b"".join(b"err %d\n" % n for n in range(1, 3001))
    logged = engine.docker("logs", "both")
    assert (logged.out.encode(), logged.err.encode()) == (out, err)
    assert engine.run(*argv, code=None).code == 1
    engine.docker("rm", "both")


@pytest.mark.parametrize("flags", [(), ("-f",)], ids=["past", "follow"])
@pytest.mark.parametrize("command", COMMANDS, ids=["docker", "wherry"])
def test_a_log_that_is_cut_is_no_whole_log(engine: EngineProcess, command: str, flags: tuple[str, ...]) -> None:
    """Where its reader is killed the client says so and fails: a part of a log is not taken for the whole."""
    script = "seq 1 1000000; exec sleep 1000"
    engine.docker("run", "-d", "--name", "cut", "--log-opt", "max-size=200m", "busybox", "sh", "-c", script)
    until(lambda: engine.docker("logs", "--tail", "1", "cut").out == "1000000\n", "all is written")

    def readers() -> list[int]:
        return [pid for pid in engine.processes() if _comm(pid) == "wherry-logs"]

    until(lambda: not readers(), "nobody reads")
    argv = [command, "logs", *flags, "cut"]
    with subprocess.Popen(argv, env=engine.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as client:
        # which does not read on: its pipe is full, and then the reader's socket
        until(readers, "a reader")
        for pid in readers():
            os.kill(pid, signal.SIGKILL)
        out, err = client.communicate(timeout=60)
    assert client.returncode == 1
    assert err.strip() in ("unexpected EOF", "the engine closed the connection")
    assert not out.endswith("1000000\n")
    engine.docker("rm", "-f", "cut")


def test_two_clients_get_everything(engine: EngineProcess) -> None:
    """Two windows on one container: both see all of five megabytes, and the log has it too."""
    script = "while [ ! -e /go ]; do sleep 0.01; done; seq 1 700000"
    engine.docker("run", "-d", "--name", "twice", "--log-opt", "max-size=200m", "busybox", "sh", "-c", script)
    argv = "docker attach --no-stdin --sig-proxy=false twice | sha256sum"
    clients = [
        subprocess.Popen(["sh", "-c", argv], env=engine.env, stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    state = json.loads(Path(f"{engine.roots.sandbox(_id(engine, 'twice'))}/state.json").read_text())
    until(lambda: sockets(state["monitor"]["pid"]) >= 2 + 2, "both are attached")
    engine.docker("exec", "twice", "touch", "/go")
    wanted = hashlib.sha256(b"".join(b"%d\n" % n for n in range(1, 700_001))).hexdigest()
    assert [client.communicate(timeout=60)[0].split()[0] for client in clients] == [wanted] * 2
    assert engine.run("sh", "-c", "docker logs twice | sha256sum").out.split()[0] == wanted
    engine.docker("rm", "twice")


def test_a_writer_without_readers_never_blocks(engine: EngineProcess) -> None:
    """A container that writes a hundred megabytes to nobody comes to its end, and its log stays capped."""
    engine.docker(
        "run", "-d", "--name", "alone", "busybox", "sh", "-c", "head -c 100000000 /dev/zero | tr '\\0' x; echo"
    )
    assert engine.run("docker", "wait", "alone", seconds=60).out == "0\n"
    data = Path(engine.roots.container(_id(engine, "alone")))
    size = sum(path.stat().st_size for path in data.glob("*-json.log*"))
    assert size < 40 << 20
    engine.docker("rm", "alone")


def test_a_name_and_a_port_are_free_when_the_run_returns(engine: EngineProcess) -> None:
    """`docker run --rm` with the same name and the same published port, back to back, is never refused."""
    for _ in range(10):
        for command in COMMANDS:
            flags = ("--rm", "--name", "same", "-p", "127.0.0.1:28377:80")
            engine.run(command, "run", *flags, "busybox", "true")
    for _ in range(5):
        engine.docker("run", "-d", "--name", "same", "-p", "127.0.0.1:28377:80", "busybox", "sleep", "1000")
        engine.docker("rm", "-f", "same")
    engine.assert_nothing_runs()


def test_docker_py_reads_the_log_of_what_it_removes(engine: EngineProcess) -> None:
    """`containers.run(remove=True)` asks for the log, waits, removes the container, and reads only then."""
    with contextlib.closing(docker.DockerClient(base_url=engine.host, timeout=60)) as client:
        for _ in range(15):
            assert client.containers.run("busybox", ["echo", "hello"], remove=True) == b"hello\n"
