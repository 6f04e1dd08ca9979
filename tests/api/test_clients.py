"""The clients people use: the docker command and docker-py, against the fake engine."""

import fcntl
import gc
import os
import pty
import select
import struct
import subprocess
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

from tests import peers

from .fake_containers import ID
from .fake_streams import count, echo, shell

DOCKER = peers.docker()


def docker_environment(server: Any, directory: Path) -> dict[str, str]:
    """The environment of a docker command that knows only this server."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(directory),
        "DOCKER_HOST": f"unix://{server.path}",
        "DOCKER_CLI_HINTS": "false",
        "TERM": "xterm",
    }


def run(server: Any, directory: Path, *args: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run a docker command."""
    return subprocess.run(
        [DOCKER, *args],
        input=stdin,
        capture_output=True,
        timeout=30,
        check=False,
        env=docker_environment(server, directory),
    )


def test_docker_version_and_lists(server: Any, tmp_path: Path) -> None:
    """version, info, ps, images, network ls and history understand what they get."""
    known = "{{.Client.DefaultAPIVersion}} {{.Client.APIVersion}}"
    done = run(server, tmp_path, "version", "--format", "{{.Server.Version}} {{.Server.APIVersion}} " + known)
    version, newest, *client = done.stdout.decode().split()
    assert (version, newest, done.stderr) == ("0.1.0", "1.51", b"")
    # a client that is older than the engine gets to speak the newest version that it knows
    assert client[0] == client[1]
    assert run(server, tmp_path, "ps", "-q", "--no-trunc").stdout.decode() == f"{ID}\n"
    assert b"ubuntu" in run(server, tmp_path, "images").stdout
    assert b"bridge" in run(server, tmp_path, "network", "ls").stdout
    assert run(server, tmp_path, "history", "busybox").returncode == 0
    assert run(server, tmp_path, "info", "--format", "{{.NCPU}}").stdout == b"2\n"


def test_docker_run_with_input(server: Any, tmp_path: Path) -> None:
    """`docker run -i` sends all of its input, reads all output after its half-close, and exits with the code."""
    server.engine.containers.behaviour = count
    done = run(server, tmp_path, "run", "-i", "--rm", "busybox", "cat", stdin=b"x" * 3_000_000)
    assert (done.stdout, done.stderr, done.returncode) == (b"3000000", b"", 7)
    names = [call[0] for call in server.engine.containers.calls]
    assert names[:4] == ["create", "attach", "wait", "start"]


def test_docker_run_with_a_terminal(server: Any, tmp_path: Path) -> None:
    """`docker run -it` on a pty: prompt, typed line, answer, window size, exit code."""
    server.engine.containers.behaviour = shell
    pid, master = pty.fork()
    if pid == 0:
        os.execve(DOCKER, [DOCKER, "run", "-it", "busybox"], docker_environment(server, tmp_path))
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 99, 0, 0))
    seen = b""

    def wait_for(mark: bytes) -> None:
        nonlocal seen
        deadline = time.monotonic() + 20
        while mark not in seen:
            assert time.monotonic() < deadline, seen
            if select.select([master], [], [], 0.1)[0]:
                seen += os.read(master, 65536)

    try:
        wait_for(b"/ # ")
        os.write(master, b"hello\r")
        wait_for(b"HELLO")
        os.write(master, b"exit\r")
        wait_for(b"EXIT")
        _, status = os.waitpid(pid, 0)
        pid = 0
        assert os.waitstatus_to_exitcode(status) == 7
    finally:
        os.close(master)
        if pid:
            os.kill(pid, 9)
            os.waitpid(pid, 0)
    assert ("resize", ID, 33, 99) in server.engine.containers.calls


def test_docker_exec_and_logs(server: Any, tmp_path: Path) -> None:
    """exec keeps its input and exit code; logs separates the two streams; errors come with Docker's words."""
    done = run(server, tmp_path, "exec", "-i", "c1", "cat", stdin=b"abc")
    assert (done.stdout, done.returncode) == (b"abc<end>", 5)
    assert run(server, tmp_path, "exec", "-d", "c1", "true").returncode == 0
    done = run(server, tmp_path, "logs", "-f", "--tail", "3", "c1")
    assert (done.stdout, done.stderr) == (b"one\nthree\n", b"two\n")
    done = run(server, tmp_path, "logs", "nope")
    assert done.stderr.endswith(b": No such container: nope\n")
    assert run(server, tmp_path, "stop", "c1").returncode == 0
    done = run(server, tmp_path, "run", "missing")
    assert done.returncode == 125
    assert b"pull access denied for missing" in done.stderr


def test_docker_images(server: Any, tmp_path: Path) -> None:
    """save, load, import, tag and rmi."""
    saved = tmp_path / "saved.tar"
    assert run(server, tmp_path, "save", "-o", str(saved), "busybox").returncode == 0
    assert saved.stat().st_size == 101000
    done = run(server, tmp_path, "load", "-i", str(saved))
    assert (done.stdout, done.stderr) == (b"Loaded image: busybox:latest\n", b"")
    assert server.engine.images.received == saved.read_bytes()
    assert run(server, tmp_path, "import", "-", "a:b", stdin=b"tar").stdout.startswith(b"sha256:")
    assert run(server, tmp_path, "tag", "busybox", "x/y:z").returncode == 0
    assert run(server, tmp_path, "rmi", "busybox").stdout == b"Untagged: busybox\n"
    assert run(server, tmp_path, "events", "--until", "1", "--format", "{{.Action}}").stdout == b"create\nstart\n"


@pytest.fixture
def client(server: Any) -> Iterator[docker.DockerClient]:
    """A docker-py client."""
    found = docker.DockerClient(base_url=f"unix://{server.path}", timeout=20)
    yield found
    found.close()
    # docker-py leaves the sockets of its streams to the collector, which warns
    del found
    gc.collect()


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_docker_py_streams(server: Any, client: Any) -> None:
    """logs, attach and exec, streamed and whole, give the same bytes."""
    container = client.containers.get("c1")
    assert container.logs() == b"one\ntwo\nthree\n"
    assert b"".join(container.logs(stream=True, follow=True)) == b"one\ntwo\nthree\n"
    assert next(iter(client.api.logs("c1", stream=True))) == b"one\n"
    sock = container.attach_socket(params={"stdin": 1, "stdout": 1, "stream": 1})
    sock._sock.sendall(b"hi")
    sock._sock.shutdown(1)
    assert sock.read() == b"\x01\0\0\0\0\0\0\x02hi\x01\0\0\0\0\0\0\x05<end>"
    sock.close()

    def short(stream: Any, tail: bytes) -> None:
        # docker-py reads past its buffer: what comes along with the head is lost to it
        while any(fcntl.ioctl(stream, termios.TIOCOUTQ, bytes(4))):
            time.sleep(0.001)
        stream.sendall(b"\x01\0\0\0\0\0\0\x04out\n\x02\0\0\0\0\0\0\x04err\n")

    server.engine.containers.behaviour = short
    assert b"".join(container.attach(stream=True)) == b"out\nerr\n"
    # an exec that writes at once loses nothing
    server.engine.containers.behaviour = lambda stream, tail: stream.sendall(
        b"\x01\0\0\0\0\0\0\x04out\n\x02\0\0\0\0\0\0\x04err\n"
    )
    code, output = container.exec_run(["true"], demux=True)
    assert (code, output) == (5, (b"out\n", b"err\n"))
    assert not container.exec_run(["true"], detach=True).output
    server.engine.containers.tty = True
    server.engine.containers.behaviour = lambda stream, tail: stream.sendall(b"raw\r\n")
    assert container.exec_run(["true"], tty=True).output == b"raw\r\n"


def test_docker_py_calls(server: Any, client: Any) -> None:
    """Version, lists, create with its nulls, wait, events, images and errors by their class."""
    assert client.version()["ApiVersion"] == "1.51"
    assert client.ping()
    assert [found.id for found in client.containers.list()] == [ID]
    container = client.containers.create("busybox", ["cat"], ports={"80/tcp": None}, environment={"A": "b"})
    made = server.engine.containers.requests[-1]
    assert (made.env, made.host_config.network_mode) == (["A=b"], "default")
    container.start()
    server.engine.exited.set()
    assert container.wait()["StatusCode"] == 7
    container.stop()
    container.remove(force=True)
    assert [event["Action"] for event in client.events(decode=True, until=1)] == ["create", "start"]
    assert client.images.get("hub.c.163.com/public/ubuntu:14.04").tags[0] == "busybox:latest"
    assert sum(map(len, client.images.get("busybox").save())) == 101000
    assert client.images.load(b"tar")
    for name in ("gensokyo.jp/kirisame", "gensokyo.jp//kirisame"):
        with pytest.raises(docker.errors.ImageNotFound):
            client.images.get(name)
    with pytest.raises(docker.errors.NotFound):
        client.containers.get("nope")
    with pytest.raises(docker.errors.ImageNotFound):
        client.containers.create("missing")
    with pytest.raises(docker.errors.APIError, match="not a swarm manager"):
        client.services.list()


def test_docker_py_with_every_version(server: Any) -> None:
    """A pinned client of any version from 1.24 on is answered."""
    server.engine.containers.behaviour = echo
    for version in ("1.24", "1.41", "1.44", "1.51"):
        api: Any = docker.APIClient(base_url=f"unix://{server.path}", version=version, timeout=20)
        assert api.version()["MinAPIVersion"] == "1.24"
        assert api.images()[0]["Id"].startswith("sha256:")
        assert api.inspect_image("busybox")["Os"] == "linux"
        api.close()
