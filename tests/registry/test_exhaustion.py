"""What a stranger can do to the server with connections alone: hold them, starve them, send what is not HTTP."""

import contextlib
import json
import os
import resource
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.registry.harness import Client

COMMAND = [sys.executable, "-m", "wherry.registry"]
HEADS = (
    b"POST /token HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc",
    b"POST /tok",
    b"",
    b"PATCH /v2/r/blobs/uploads/x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nabc",
)


class Server:
    """`wherry-registry serve` in a process of its own, with few descriptors."""

    def __init__(self, root: Path, descriptors: int, config: dict[str, Any], accounts: bool) -> None:
        root.mkdir(parents=True, exist_ok=True)
        (root / "config.yml").write_text(json.dumps(config))
        if accounts:
            add = [*COMMAND, "user", "add", "--root", str(root), "--admin", "--password-stdin", "alice"]
            subprocess.run(add, input=b"correct horse battery\n", check=True)
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            self.port = int(sock.getsockname()[1])
        self.log = root / "log"
        limited = ["sh", "-c", 'ulimit -n "$0"; exec "$@"', str(descriptors)]
        serve = [*COMMAND, "serve", "--root", str(root), "--addr", f"127.0.0.1:{self.port}"]
        with open(self.log, "wb") as file:
            self.process = subprocess.Popen([*limited, *serve, "--config", str(root / "config.yml")], stderr=file)
        deadline = time.monotonic() + 60
        while b'"message": "serving"' not in self.log.read_bytes():
            assert self.process.poll() is None and time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.02)
        self.client = Client("127.0.0.1", self.port)

    def connect(self, data: bytes = b"", source: str = "127.0.0.1") -> socket.socket:
        """Open a connection and send something."""
        sock = socket.create_connection(("127.0.0.1", self.port), timeout=20, source_address=(source, 0))
        sock.sendall(data)
        return sock

    def sockets(self) -> int:
        """How many sockets the server has open."""
        found = 0
        for link in Path(f"/proc/{self.process.pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                found += os.readlink(link).startswith("socket:")
        return found

    def raw(self, data: bytes) -> bytes:
        """Send something; returns the beginning of what comes back."""
        with self.connect(data) as sock:
            return sock.recv(65536)


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Start servers; all end with the test."""
    running: list[Server] = []

    def start(descriptors: int = 1024, *, accounts: bool = True, **config: Any) -> Server:
        running.append(Server(tmp_path / "root", descriptors, config, accounts))
        return running[-1]

    yield start
    for server in running:
        server.process.kill()
        server.process.wait(30)


def ended(sock: socket.socket, seconds: float = 20) -> bool:
    """Whether the server closes a connection within so many seconds."""
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        if not select.select([sock], [], [], left)[0]:
            return False
        try:
            if not sock.recv(1 << 20):
                return True
        except ConnectionResetError:
            return True
    return False


def test_attack_slow_connections_leave_the_registry_serving(serve: Callable[..., Server]) -> None:
    """More silent connections than the server has descriptors: honest clients are answered, the log stays small."""
    server = serve(512)
    silent = [server.connect(HEADS[number % len(HEADS)], f"127.0.0.{2 + number % 3}") for number in range(560)]
    try:
        for _ in range(10):
            deadline = time.monotonic() + 60
            while True:
                try:
                    assert server.client("GET", "/healthz").status == 200
                    break
                except OSError:  # a new connection waits until an old one has been silent for a second
                    assert time.monotonic() < deadline, "an honest client is not answered"
                    time.sleep(0.05)
        descriptors = len(os.listdir(f"/proc/{server.process.pid}/fd"))
        assert descriptors < 512
    finally:
        for sock in silent:
            sock.close()
    assert server.log.stat().st_size < 200_000
    assert "Traceback" not in server.log.read_text()


def test_the_descriptor_limit_is_raised(serve: Callable[..., Server]) -> None:
    """The soft limit becomes the hard one."""
    server = serve(700, accounts=False)
    soft, hard = resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE)
    assert (soft, hard) == (700, 700)
    server.process.terminate()
    server.process.wait(30)
    environment = subprocess.run(
        ["sh", "-c", f"ulimit -Sn 300; ulimit -Hn 900; exec {sys.executable} -c '{_RAISE}'"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert environment.stdout == "900 900\n"


_RAISE = (
    "import resource; from wherry.registry.listener import raise_descriptor_limit; "
    "print(raise_descriptor_limit(), resource.getrlimit(resource.RLIMIT_NOFILE)[0])"
)


def test_one_address_has_a_share(serve: Callable[..., Server]) -> None:
    """An address that uses up its connections takes none from another."""
    server = serve(accounts=False, limits={"connections": 40, "connections_per_address": 10}, timeouts={"head": "1h"})
    greedy = [server.connect(b"GET / HT", "127.0.0.2") for _ in range(60)]
    kept = server.connect(b"GET /healthz HT", "127.0.0.3")
    try:
        deadline = time.monotonic() + 20
        while len(os.listdir(f"/proc/{server.process.pid}/fd")) > 40:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert server.client("GET", "/healthz").status == 200
        kept.sendall(b"TP/1.1\r\nHost: x\r\n\r\n")
        assert kept.recv(100).startswith(b"HTTP/1.1 200")
    finally:
        for sock in (*greedy, kept):
            sock.close()


def test_clients_that_keep_the_server_waiting_are_left(serve: Callable[..., Server]) -> None:
    """A head that does not end, a body that stops, an answer that nobody takes: closed; a slow reader is not."""
    server = serve(accounts=False, timeouts={"head": "1s", "body": "3s", "idle": "2s"})
    data = os.urandom(24 << 20)
    digest = server.client.push_blob("r", data)
    get = f"GET /v2/r/blobs/{digest} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    location = server.client.start("r")
    patch = f"PATCH {location} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc".encode()
    before = server.sockets()
    slow = server.connect(get)
    waiting = [server.connect(part) for part in (b"GET /v2/ HTT", b"", patch)]
    deaf = server.connect(get)
    # the slow reader takes a little at a time, for longer than all timeouts together
    began = time.monotonic()
    taken = 0
    while time.monotonic() - began < 5:
        taken += len(slow.recv(64 << 10))
        time.sleep(0.05)
    for sock in waiting:
        assert ended(sock), "still open"
    deadline = time.monotonic() + 20
    while server.sockets() > before + 1:  # the slow reader's
        assert time.monotonic() < deadline, "a client that takes nothing is still waited for"
        time.sleep(0.05)
    while taken < len(data):
        piece = slow.recv(1 << 20)
        assert piece, "a slow reader was cut off"
        taken += len(piece)
    for sock in (slow, deaf, *waiting):
        sock.close()


def form(kind: bytes, body: bytes) -> bytes:
    """A request with a form."""
    return b"POST /token HTTP/1.1\r\nHost: x\r\nContent-Type: %b\r\nContent-Length: %d\r\n\r\n%b" % (
        kind,
        len(body),
        body,
    )


MALFORMED = [
    form(b"multipart/form-data; boundary=abc", b""),
    form(b"multipart/form-data", b""),
    form(b"multipart/form-data; boundary=a", b"--a\r\n"),
    form(b"application/x-www-form-urlencoded; charset=zzz", b"a=b"),
    form(b"application/x-www-form-urlencoded", b"a=\xff"),
    b"POST /token HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"POST /sign-in HTTP/1.1\r\nHost: x\r\nOrigin: http://[\r\nContent-Length: 0\r\n\r\n",
    b"GET /v2/ HTTP/1.1\r\nHost: x\r\nExpect: \xff\r\n\r\n",
    b"GET /v2/ HTTP/1.1\r\nHost: x\r\nExpect: \xc3\xa4\r\n\r\n",
    b"GET http://[::1 HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET / HTTP/1.1\r\nAuthorization Basic c2VjcmV0\r\n\r\n",
    b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03\r\n\r\n",
    b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 500 + b"\r\n",
]


def test_malformed_requests_are_refused_in_one_line(serve: Callable[..., Server]) -> None:
    """What is not HTTP, or not a form: 4xx, one short line of log each, no traceback, no credential."""
    server = serve()
    for data in MALFORMED:
        answer = server.raw(data)
        assert answer.startswith((b"HTTP/1.1 4", b"HTTP/1.0 4")), (data[:80], answer[:200])
    server.process.terminate()
    assert server.process.wait(30) == 0
    log = server.log.read_text()
    assert "Traceback" not in log and "c2VjcmV0" not in log
    lines = [line for line in log.splitlines() if '"message": "serving"' not in line and '"ending"' not in line]
    assert len(lines) == len(MALFORMED)
    assert all(len(line) < 1000 for line in lines)
