"""Attached clients: many at once, slow ones, those that come by a WebSocket, detach or only watch."""

import asyncio
import contextlib
import hashlib
import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import docker as docker_py
import pytest

from tests.e2e.harness import BIN, EngineProcess, until
from tests.e2e.terminal import Terminal

pytestmark = pytest.mark.root

COMMANDS = ("docker", str(BIN / "wherry"))
MEGABYTES = 20
BURST = f"until [ -e /go ]; do sleep 0.02; done; yes 0123456789abcde | head -c {MEGABYTES << 20}"


def attached(engine: EngineProcess, name: str) -> int:
    """How many sockets of clients the monitor holds."""
    id_ = engine.docker("inspect", "-f", "{{.Id}}", name).out.strip()
    for pid in engine.processes():
        with contextlib.suppress(OSError):
            if Path(f"/proc/{pid}/cmdline").read_text().rstrip("\0") == f"wherry-monitor {id_}":
                links = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
                return sum(link.startswith("socket:") for link in links)
    return 0


class Burst:
    """A container that writes 20 MB once it may, and ten clients of it.

    Args:
        engine: where.
        name: the container's.
        into: directory of the clients' files.
    """

    def __init__(self, engine: EngineProcess, name: str, into: Path) -> None:
        self._engine, self._name = engine, name
        engine.docker("run", "-d", "--name", name, "busybox", "sh", "-c", BURST)
        before = attached(engine, name)
        self.files = [into / f"{name}-{number}" for number in range(10)]
        self.clients = []
        for number, path in enumerate(self.files):
            with open(path, "wb") as out:
                words = [COMMANDS[number % 2], "attach", "--no-stdin", "--sig-proxy=false", name]
                self.clients.append(subprocess.Popen(words, stdout=out, env=engine.env))
        try:
            until(lambda: attached(engine, name) == before + 10, "all are attached")
        except BaseException:
            self.close()
            raise

    def run(self, waited: list["subprocess.Popen[bytes]"]) -> tuple[float, float]:
        """Seconds from the word to go until the container has ended, and until these clients have."""
        began = time.monotonic()
        self._engine.docker("exec", self._name, "touch", "/go")
        self._engine.docker("wait", self._name)
        ended = time.monotonic() - began
        for client in waited:
            assert client.wait(60) == 0
        return ended, time.monotonic() - began

    def close(self) -> None:
        """End the clients."""
        for client in self.clients:
            client.kill()
            client.wait()


def test_ten_clients_one_stopped(engine: EngineProcess, tmp_path: Path) -> None:
    """The container and nine go at the rate that they have without it; the tenth, stopped by SIGSTOP, gets every byte
    once it goes on."""
    free = Burst(engine, "m0", tmp_path)
    try:
        usual, usual_all = free.run(free.clients)
    finally:
        free.close()
    burst = Burst(engine, "m1", tmp_path)
    try:
        stopped, *others = burst.clients
        stopped.send_signal(signal.SIGSTOP)
        ended, took = burst.run(others)
        print(f"\n{MEGABYTES} MB to nine of ten: container {ended:.2f} s, clients {took:.2f} s; ", end="")
        print(f"to all ten: {usual:.2f} and {usual_all:.2f} s")
        # a rate and not a stall: what else this machine does may double either
        assert ended < 3 * usual + 1
        assert took < 3 * usual_all + 1
        stopped.send_signal(signal.SIGCONT)
        assert stopped.wait(60) == 0
    finally:
        burst.close()
    wanted = hashlib.sha256((b"0123456789abcde\n" * (MEGABYTES << 16))[: MEGABYTES << 20]).hexdigest()
    for path in burst.files:
        assert hashlib.sha256(path.read_bytes()).hexdigest() == wanted, path


@pytest.mark.parametrize("command", COMMANDS, ids=["docker", "wherry"])
def test_a_client_that_only_watches(engine: EngineProcess, command: str) -> None:
    """Without stdin and signals: what the client gets is its own affair, the container keeps its input and goes on."""
    engine.docker("run", "-di", "--name", "w1", "busybox", "sh", "-c", "while read x; do echo got $x; done; echo end")
    before = attached(engine, "w1")
    pipe = subprocess.PIPE
    watching = [command, "attach", "--no-stdin", "--sig-proxy=false", "w1"]
    watcher = subprocess.Popen(watching, stdin=pipe, stdout=pipe, env=engine.env, bufsize=0)
    typist = subprocess.Popen([command, "attach", "--sig-proxy=false", "w1"], stdin=pipe, stdout=pipe, env=engine.env)
    try:
        until(lambda: attached(engine, "w1") == before + 2, "both are attached")
        assert watcher.stdin is not None
        assert watcher.stdout is not None
        assert typist.stdin is not None
        watcher.stdin.write(b"nothing\n")
        typist.stdin.write(b"one\n")
        typist.stdin.flush()
        assert select.select([watcher.stdout], [], [], 20)[0], "nothing came"
        assert watcher.stdout.read(100) == b"got one\n"
    finally:
        for client in (watcher, typist):
            client.kill()
            client.communicate()
    assert engine.docker("inspect", "-f", "{{.State.Running}}", "w1").out == "true\n"


@pytest.mark.parametrize("command", COMMANDS, ids=["docker", "wherry"])
def test_detach_keys_of_ones_own(engine: EngineProcess, command: str) -> None:
    """The client leaves, the container goes on; other keys are the container's."""
    engine.docker("run", "-dit", "--name", "k1", "busybox", "sh")
    terminal = Terminal([command, "attach", "--detach-keys", "ctrl-a,x", "k1"], engine.env)
    try:
        terminal.type("echo $((40+2))\r")
        terminal.expect("42")
        terminal.type(b"\x10\x11")
        terminal.type(b"\x01x")
        assert terminal.wait() in (0, 1)  # the docker command takes it for an error
    finally:
        terminal.close()
    assert engine.docker("inspect", "-f", "{{.State.Running}}", "k1").out == "true\n"


@contextlib.asynccontextmanager
async def websocket(engine: EngineProcess, name: str, query: str) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    """A WebSocket that is attached."""
    connector = aiohttp.UnixConnector(engine.roots.socket)
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        session.ws_connect(f"http://docker/v1.45/containers/{name}/attach/ws?{query}") as socket,
    ):
        yield socket


async def collected(socket: aiohttp.ClientWebSocketResponse, until_: bytes | None = None) -> bytes:
    """Binary frames joined, to the end or until some text has come."""
    data = b""
    async with asyncio.timeout(30):
        async for message in socket:
            assert message.type is aiohttp.WSMsgType.BINARY
            data += message.data
            if until_ is not None and until_ in data:
                break
    return data


def test_websocket(engine: EngineProcess) -> None:
    """Input and output both ways, unframed; the past by `logs`; the end closes; refusals have a status."""
    engine.docker("run", "-di", "--name", "ws1", "busybox", "sh", "-c", "echo past; while read x; do echo got $x; done")

    async def talk() -> None:
        async with websocket(engine, "ws1", "stream=1&stdin=1&stdout=1&stderr=1&logs=1") as socket:
            assert await collected(socket, b"past\n") == b"past\n"
            await socket.send_str("text\n")
            assert await collected(socket, b"text\n") == b"got text\n"
            await socket.send_bytes(b"bytes\n")
            assert await collected(socket, b"bytes\n") == b"got bytes\n"
        async with websocket(engine, "ws1", "stream=1&stdout=1") as socket:
            await asyncio.to_thread(engine.docker, "kill", "ws1")
            assert await collected(socket) == b""
            assert socket.close_code == 1000
        for name, query, status in (("nope", "stream=1", 404), ("ws1", "stream=1&detachKeys=nope", 400)):
            with pytest.raises(aiohttp.WSServerHandshakeError) as refusal:
                async with websocket(engine, name, query):
                    pass
            assert refusal.value.status == status

    asyncio.run(talk())


def test_websocket_at_full_rate(engine: EngineProcess) -> None:
    """Five megabytes arrive whole, though the client begins to read late."""
    size = 5 << 20
    burst = BURST.replace(str(MEGABYTES << 20), str(size))
    id_ = engine.docker("run", "-d", "--name", "ws2", "busybox", "sh", "-c", burst).out.strip()

    async def read() -> bytes:
        async with websocket(engine, "ws2", "stream=1&stdout=1") as socket:
            await asyncio.to_thread(engine.docker, "exec", "ws2", "touch", "/go")
            log = Path(f"{engine.roots.container(id_)}/{id_}-json.log")
            await asyncio.to_thread(until, lambda: log.stat().st_size > size >> 2, "it has written much")
            return await collected(socket)

    assert asyncio.run(read()) == (b"0123456789abcde\n" * (size >> 4))[:size]


def _past_and_present(engine: EngineProcess, id_: str) -> socket.socket:
    """Attach to what was said before and what comes; byte by byte, as what follows the head is the container's."""
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(20)
    connection.connect(engine.host.removeprefix("unix://"))
    query = "stdout=1&stderr=1&stream=1&logs=1"
    upgrade = "Connection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 0"
    connection.sendall(f"POST /containers/{id_}/attach?{query} HTTP/1.1\r\nHost: d\r\n{upgrade}\r\n\r\n".encode())
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += connection.recv(1)
    assert head.startswith(b"HTTP/1.1 101 ")
    return connection


def test_past_and_present_of_one_that_is_started_at_once(engine: EngineProcess) -> None:
    """Who asks for what was said before, and what comes, gets all of it, each once, however soon the start is."""
    client = docker_py.APIClient(base_url=engine.host)
    try:
        for number in range(10):
            id_ = client.create_container("busybox", ["sh", "-c", f"echo {number}"])["Id"]
            frame = b"\x01\0\0\0\0\0\0\x02%d\n" % number
            for runs in (1, 2, 3):
                with _past_and_present(engine, id_) as connection:
                    client.start(id_)
                    client.wait(id_)
                    told = b""
                    while piece := connection.recv(1000):
                        told += piece
                assert told == runs * frame
            client.remove_container(id_)
    finally:
        client.close()


def _asked(engine: EngineProcess, path: str, body: bytes = b"") -> socket.socket:
    """Ask for a stream as a program does whose name nobody knows."""
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(60)
    connection.connect(engine.host.removeprefix("unix://"))
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    connection.sendall(head.encode() + body)
    return connection


def _first_read(connection: socket.socket) -> bytes:
    """What a buffered reader gets at once when it comes late to the head of an answer."""
    connection.recv(1, socket.MSG_PEEK)
    time.sleep(0.15)  # a busy client: all that could arrive has arrived
    return connection.recv(1 << 16)


def test_nothing_follows_a_head_before_it_is_taken(engine: EngineProcess) -> None:
    """Attach and exec: the first read holds the head and nothing else, however late it is and whoever asks."""
    client = docker_py.APIClient(base_url=engine.host)
    try:
        id_ = client.create_container("busybox", ["sh", "-c", "yes"])["Id"]
        created = client.create_container("busybox", ["echo", "said"])["Id"]
        client.start(id_)
        for _ in range(3):
            exec_id = client.exec_create(id_, ["echo", "said"])["Id"]
            with _asked(engine, f"/exec/{exec_id}/start", b"{}") as connection:
                assert _first_read(connection).endswith(b"\r\n\r\n")
                assert connection.recv(1000) == b"\x01\0\0\0\0\0\0\x05said\n"
            with _asked(engine, f"/containers/{id_}/attach?stream=1&stdout=1") as connection:
                assert _first_read(connection).endswith(b"\r\n\r\n")
                assert connection.recv(1000).endswith(b"y\n")
            with _asked(engine, f"/containers/{id_}/attach?logs=1&stdout=1") as connection:
                assert _first_read(connection).endswith(b"\r\n\r\n")
                assert connection.recv(1000)[:1] == b"\x01"
            with _asked(engine, f"/containers/{created}/attach?stream=1&stdout=1") as connection:
                connection.recv(1, socket.MSG_PEEK)
                client.start(created)  # by somebody who has not read the head either
                assert connection.recv(1 << 16).split(b"\r\n\r\n")[0].startswith(b"HTTP/1.1 101 ")
                client.wait(created)
        client.remove_container(created, force=True)
        client.remove_container(id_, force=True)
    finally:
        client.close()


def test_a_window_is_set_right_after_the_head_of_an_exec(engine: EngineProcess) -> None:
    """`POST /exec/ID/resize` as soon as the 101 is there waits for the process; dockerd does the same."""
    client = docker_py.APIClient(base_url=engine.host)
    try:
        id_ = client.create_container("busybox", ["sleep", "1000"])["Id"]
        client.start(id_)
        for _ in range(10):
            exec_id = client.exec_create(id_, ["sh", "-c", "sleep 0.3; stty size"], tty=True, stdin=True)["Id"]
            with _asked(engine, f"/exec/{exec_id}/start", b'{"Tty": true}') as connection:
                assert connection.recv(1 << 16).startswith(b"HTTP/1.1 101 ")
                client.exec_resize(exec_id, height=33, width=77)
                told = b""
                while piece := connection.recv(1000):
                    told += piece
            assert told == b"33 77\r\n"
        client.remove_container(id_, force=True)
    finally:
        client.close()
