"""The client against a server that says what the test wants it to say."""

import contextlib
import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.e2e.harness import BIN

from wherry.client.address import choose, parse
from wherry.client.errors import CannotConnect, ProtocolError, ServerError
from wherry.client.http import Client, target
from wherry.errors import InvalidArgument

Serve = Callable[..., Client]


class Server:
    """Answers each connection with the scripts given, and keeps what it was asked."""

    def __init__(self, path: Path) -> None:
        self.asked: list[bytes] = []
        self.scripts: list[list[bytes]] = []
        self.connections = 0
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.bind(str(path))
        self.socket.listen(8)
        self.thread = threading.Thread(target=self._serve)
        self.thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            # a client that has read enough of a broken answer hangs up before the rest is sent
            with connection, contextlib.suppress(ConnectionError):
                if not self.scripts:
                    return
                self.connections += 1
                for answer in self.scripts.pop(0):
                    self.asked.append(self._request(connection))
                    connection.sendall(answer)

    @staticmethod
    def _request(connection: socket.socket) -> bytes:
        data = b""
        while b"\r\n\r\n" not in data:
            more = connection.recv(65536)
            if not more:
                return data
            data += more
        head, _, body = data.partition(b"\r\n\r\n")
        if b"chunked" in head:
            while not body.endswith(b"0\r\n\r\n"):
                body += connection.recv(65536)
        for line in head.split(b"\r\n"):
            if line.lower().startswith(b"content-length:"):
                while len(body) < int(line.split(b":")[1]):
                    body += connection.recv(65536)
        return head + b"\r\n\r\n" + body

    def close(self) -> None:
        if self.socket.fileno() >= 0:
            self.socket.shutdown(socket.SHUT_RDWR)
            self.socket.close()
        self.thread.join(5)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A server on a unix socket."""
    one = Server(tmp_path / "s")
    yield one
    one.close()


@pytest.fixture
def client(tmp_path: Path, server: Server) -> Iterator[Client]:
    """A client of it."""
    one = Client(parse(f"unix://{tmp_path}/s"))
    yield one
    one.close()


def test_json_and_reuse(client: Client, server: Server) -> None:
    """Two calls go over one connection."""
    server.scripts = [[b'HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n{"a":1}', b"HTTP/1.1 204 No Content\r\n\r\n"]]
    assert client.call("GET", "/x", {"all": True, "f": {"a": ["b"]}, "no": None, "e": ""}) == {"a": 1}
    assert client.call("POST", "/y", None, {"k": "é"}) is None
    assert server.connections == 1
    assert server.asked[0].startswith(b"GET /x?all=1&f=%7B%22a%22%3A%5B%22b%22%5D%7D HTTP/1.1\r\n")
    assert server.asked[1].endswith('\r\n\r\n{"k":"é"}'.encode())


def test_stale_connection_is_replaced(client: Client, server: Server) -> None:
    """A kept connection that the server closed costs a second try, not the command."""
    empty = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    server.scripts = [[empty], [empty]]
    client.call("GET", "/a")
    client.call("GET", "/b")
    assert server.connections == 2


def test_chunked_body(client: Client, server: Server) -> None:
    """Chunks are joined, and documents in them found, wherever they are cut."""
    body = b'8;x=y\r\n{"a":1}\n\r\n3\r\n{"b\r\n5\r\n":2}\n\r\n0\r\n\r\n'
    server.scripts = [[b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body]]
    assert list(client.request("GET", "/").documents()) == [{"a": 1}, {"b": 2}]


def test_error_words(client: Client, server: Server) -> None:
    """An error has the engine's message, or its text."""
    server.scripts = [
        [
            b'HTTP/1.1 404 Not Found\r\nContent-Length: 21\r\n\r\n{"message":"No such"}',
            b"HTTP/1.1 500 Oops\r\nContent-Length: 5\r\n\r\nboom\n",
        ]
    ]
    with pytest.raises(ServerError) as caught:
        client.call("GET", "/")
    assert (caught.value.status, str(caught.value)) == (404, "Error response from daemon: No such")
    with pytest.raises(ServerError, match=r"^Error response from daemon: boom$"):
        client.call("GET", "/")


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"SSH-2.0\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
        b"x" * 100000,
    ],
)
def test_broken_answers(client: Client, server: Server, answer: bytes) -> None:
    """What is not HTTP, or ends early, is an error and not silence."""
    server.scripts = [[answer]]
    with pytest.raises(ProtocolError):
        client.request("GET", "/").read()


def test_hijack_keeps_what_came_early(client: Client, server: Server) -> None:
    """Bytes behind the head belong to the stream."""
    server.scripts = [[b"HTTP/1.1 101 UPGRADED\r\nUpgrade: tcp\r\n\r\nearly"]]
    connection, tail = client.hijack("/attach")
    assert tail + connection.sock.recv(10) == b"early"
    connection.close()
    assert b"Upgrade: tcp" in server.asked[0]


def test_refused_hijack(client: Client, server: Server) -> None:
    """A hijack that is refused says why."""
    server.scripts = [[b'HTTP/1.1 409 Conflict\r\nContent-Length: 15\r\n\r\n{"message":"x"}']]
    with pytest.raises(ServerError, match="x"):
        client.hijack("/attach")


def test_upload_streams_a_pipe(client: Client, server: Server) -> None:
    """A body is sent as it comes, however long it is."""
    server.scripts = [[b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"]]
    start, end = os.pipe()
    data = os.urandom(300000)

    def feed() -> None:
        with os.fdopen(end, "wb") as pipe:
            pipe.write(data)

    feeder = threading.Thread(target=feed)
    feeder.start()
    assert client.request("POST", "/load", upload=start).read() == b"ok"
    feeder.join()
    os.close(start)
    head, _, body = server.asked[0].partition(b"\r\n\r\n")
    assert b"Transfer-Encoding: chunked" in head
    assert _joined(body) == data


def _joined(body: bytes) -> bytes:
    found = b""
    while True:
        size, _, body = body.partition(b"\r\n")
        if size == b"0":
            return found
        found += body[: int(size, 16)]
        body = body[int(size, 16) + 2 :]


def test_answer_during_an_upload(client: Client, server: Server) -> None:
    """An engine that refuses early is heard although the body is not sent yet."""
    server.close()
    os.unlink(client.address.path)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(client.address.path)
    listener.listen(1)

    def refuse() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(100)
            connection.sendall(b'HTTP/1.1 400 Bad\r\nConnection: close\r\nContent-Length: 15\r\n\r\n{"message":"n"}')
            while connection.recv(65536):
                continue

    thread = threading.Thread(target=refuse)
    thread.start()
    start, end = os.pipe()
    os.write(end, b"some")
    with pytest.raises(ServerError, match="n"):
        client.request("POST", "/load", upload=start)
    os.close(start)
    os.close(end)
    client._idle.clear()
    thread.join(5)
    listener.close()


def test_nobody_there(tmp_path: Path) -> None:
    """Nobody at a chosen address is one line with the address."""
    with pytest.raises(
        CannotConnect, match=r"^Cannot connect to the Wherry daemon at unix://.*/no\. Is wherryd running\?"
    ):
        Client(parse(f"unix://{tmp_path}/no")).call("GET", "/")


def test_tls_by_flags_and_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Docker's rules: tlsverify, whatever its value, switches TLS on; files have default names; 2376 is its port."""
    for name in ("DOCKER_TLS_VERIFY", "WHERRY_TLS_VERIFY", "DOCKER_CERT_PATH", "WHERRY_CERT_PATH", "DOCKER_TLS"):
        monkeypatch.delenv(name, raising=False)
    assert choose("tcp://h").tls is None and choose("tcp://h").port == 2375
    secured = choose("tcp://h", {"tlsverify": False, "tlscert": "/c", "tlskey": "/k"})
    assert secured.port == 2376 and secured.tls is not None
    assert (secured.tls.authority, secured.tls.certificate, secured.tls.key) == (None, "/c", "/k")
    monkeypatch.setenv("DOCKER_TLS_VERIFY", "1")
    monkeypatch.setenv("DOCKER_CERT_PATH", "/nowhere")
    by_environment = choose("tcp://h:1").tls
    assert by_environment is not None
    assert (by_environment.authority, by_environment.certificate) == ("/nowhere/ca.pem", None)
    assert choose("unix:///x").tls is None


def test_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    """-H, then WHERRY_HOST, then DOCKER_HOST, then the default, which nobody chose."""
    monkeypatch.delenv("WHERRY_HOST", raising=False)
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    assert (choose().path, choose().chosen) == ("/run/wherry/wherry.sock", False)
    monkeypatch.setenv("DOCKER_HOST", "tcp://h:1")
    assert (choose().host, choose().port) == ("h", 1)
    monkeypatch.setenv("WHERRY_HOST", "unix:///w")
    assert (choose().path, choose("unix:///f").path) == ("/w", "/f")
    assert (parse("[::1]:5").host, parse("h").port, parse("/x/y").path) == ("::1", 2375, "/x/y")
    for text in ("foo://x", "unix://", "tcp://h:x"):
        with pytest.raises(InvalidArgument, match="invalid bind address format"):
            parse(text)


def test_targets() -> None:
    """Names are quoted for the path they stand in."""
    assert target("/a", {}) == "/a"
    assert target("/a", {"b": "c d&"}) == "/a?b=c%20d%26"


def test_a_missing_ssh_is_named() -> None:
    """An engine on another machine is reached by ssh: without ssh, the error names its package."""
    done = subprocess.run(
        [str(BIN / "wherry"), "-H", "ssh://me@far.example", "ps"],
        env={"PATH": "/nowhere"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1
    assert (
        done.stderr == "cannot connect to ssh://me@far.example: ssh is not installed (apt-get install openssh-client)\n"
    )
