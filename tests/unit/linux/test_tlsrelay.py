"""A TLS connection joined with a plain socket: both ways, both ends, versions, what is cut off, what never speaks."""

import hashlib
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.certificates import SERVER, Authority, Pair

from wherry.linux import tlsrelay
from wherry.linux.loop import Loop
from wherry.linux.taken import is_taken
from wherry.linux.tls import client_context, server_context, words
from wherry.linux.tlsrelay import Relay

SIZE = 8 << 20


class Files:
    """An authority, a server's certificate and a client's."""

    def __init__(self, directory: Path) -> None:
        self.authority = Authority(directory)
        self.server = self.authority.sign("server", SERVER)
        self.client = self.authority.sign("client")

    def server_context(self) -> ssl.SSLContext:
        """The server's, with client certificates."""
        return server_context(str(self.server.certificate), str(self.server.key), str(self.authority.path))

    def client_context(self, pair: Pair | None = None) -> ssl.SSLContext:
        """A client's, by default with the good certificate."""
        shown = pair or self.client
        return client_context(str(self.authority.path), str(shown.certificate), str(shown.key))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """The files of this module's tests."""
    return Files(tmp_path_factory.mktemp("certificates"))


class Stalling(socket.socket):
    """A socket whose peer takes nothing for a while."""

    stalled = False

    def send(self, data: Any, flags: int = 0) -> int:
        """Send, or have no room."""
        if self.stalled:
            raise BlockingIOError
        return super().send(data, flags)


class Served:
    """A relay in a thread: `wire` is a client's TCP connection to it, `plain` the socket behind it."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.failures: list[BaseException] = []
        self.ends: list[Exception | None] = []
        ours, self.plain = socket.socketpair()
        self._unused = ours
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.wire = socket.create_connection(listener.getsockname(), timeout=10)
            accepted, _ = listener.accept()
        self.server = wire = Stalling(fileno=accepted.detach())
        self.plain.settimeout(10)
        self.loop = Loop(self.failures.append, lambda: None)
        self.relay = Relay(self.loop, wire, context, lambda: ours, self.ends.append)
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while not self.relay.closed:
            self.loop.once(0.05)
            self.relay.expire(time.monotonic())

    def close(self) -> None:
        """End it; it must have met no unexpected error, and end by itself."""
        self.wire.close()
        self.plain.close()
        self._thread.join(20)
        self._unused.close()
        assert not self._thread.is_alive()
        assert not self.failures


@pytest.fixture
def served(files: Files) -> Iterator[Served]:
    """One connection to a server that wants certificates."""
    made = Served(files.server_context())
    try:
        yield made
    finally:
        made.close()


def until(condition: Callable[[], object]) -> None:
    """Poll until it is true."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        select.select([], [], [], 0.005)


def received(sock: socket.socket | ssl.SSLSocket) -> bytes:
    """Everything up to the end."""
    pieces = []
    while piece := sock.recv(1 << 16):
        pieces.append(piece)
    return b"".join(pieces)


class Peer:
    """A TLS client that can half-close: Python's own sockets cannot."""

    def __init__(self, wire: socket.socket, context: ssl.SSLContext) -> None:
        self.wire = wire
        context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF  # Python's default takes a cut for an end
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")
        self._do(self.tls.do_handshake)

    def _do(self, action: object) -> object:
        assert callable(action)
        while True:
            try:
                result: object = action()
            except ssl.SSLWantReadError:
                self.wire.sendall(self.outgoing.read())
                data = self.wire.recv(1 << 16)
                self.incoming.write(data) if data else self.incoming.write_eof()
                continue
            self.wire.sendall(self.outgoing.read())
            return result

    def send(self, data: bytes) -> None:
        """Send."""
        self.tls.write(data)
        self.wire.sendall(self.outgoing.read())

    def end(self) -> None:
        """Send close_notify; TCP stays open."""
        try:
            self.tls.unwrap()
        except ssl.SSLWantReadError:
            pass
        self.wire.sendall(self.outgoing.read())

    def rest(self) -> bytes:
        """Everything up to the other side's close_notify."""
        pieces = []
        while True:
            try:
                piece = self._do(lambda: self.tls.read(1 << 14))
            except ssl.SSLZeroReturnError:
                break
            assert isinstance(piece, bytes)
            if not piece:
                break
            pieces.append(piece)
        return b"".join(pieces)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_each_direction_ends_by_itself(files: Files, served: Served, version: ssl.TLSVersion) -> None:
    """The client ends its side and gets all of the answer; then the other way round, in both versions of TLS."""
    context = files.client_context()
    context.minimum_version = context.maximum_version = version
    peer = Peer(served.wire, context)
    peer.send(b"a request")
    peer.end()
    assert received(served.plain) == b"a request"
    served.plain.sendall(b"an answer")
    served.plain.shutdown(socket.SHUT_WR)
    assert peer.rest() == b"an answer"
    other = Served(files.server_context())
    try:
        peer = Peer(other.wire, context)
        other.plain.sendall(b"first")
        other.plain.shutdown(socket.SHUT_WR)
        assert peer.rest() == b"first"
        for _ in range(3):
            peer.send(b"x" * 100_000)
        peer.end()
        assert received(other.plain) == b"x" * 300_000
    finally:
        other.close()
    assert other.ends == [None]


def test_much_goes_both_ways_at_once(files: Files, served: Served) -> None:
    """Each side sends without reading at first: what is kept is bounded, and nothing is lost."""
    up, down = bytes(range(256)) * (SIZE >> 8), bytes(reversed(range(256))) * (SIZE >> 8)
    secured = files.client_context().wrap_socket(served.wire, server_hostname="localhost")
    got: dict[str, bytes] = {}

    def answer() -> None:
        served.plain.sendall(down)

    def take() -> None:
        pieces = 0
        digest = hashlib.sha256()
        while pieces < SIZE:
            piece = served.plain.recv(1 << 16)
            pieces += len(piece)
            digest.update(piece)
        got["up"] = digest.digest()

    threads = [threading.Thread(target=answer), threading.Thread(target=take)]
    threads[0].start()
    # the answer's way fills up: nobody reads it
    assert select.select([], [], [], 0.05) == ([], [], [])
    threads[1].start()
    sender = threading.Thread(target=lambda: secured.sendall(up))
    sender.start()
    sender.join(30)
    total, digest = 0, hashlib.sha256()
    while total < SIZE:
        piece = secured.recv(1 << 16)
        assert piece
        total += len(piece)
        digest.update(piece)
    for thread in threads:
        thread.join(30)
    assert digest.digest() == hashlib.sha256(down).digest()
    assert got["up"] == hashlib.sha256(up).digest()
    secured.close()


def test_a_piece_is_a_record(files: Files, served: Served) -> None:
    """What was written apart arrives apart: a client that reads an answer's head through a buffer loses nothing."""
    secured = files.client_context().wrap_socket(served.wire, server_hostname="localhost")
    for piece in (b"HTTP/1.1 101 UPGRADED\r\n\r\n", b"output"):
        served.plain.sendall(piece)
        until(lambda: is_taken(served.plain.fileno()))
    assert secured.recv(1 << 16) == b"HTTP/1.1 101 UPGRADED\r\n\r\n"
    assert secured.recv(1 << 16) == b"output"
    secured.close()


def test_a_connection_that_is_cut_off_is_an_error(files: Files, served: Served) -> None:
    """FIN without close_notify."""
    secured = files.client_context().wrap_socket(served.wire, server_hostname="localhost")
    secured.sendall(b"half of it")
    assert served.plain.recv(100) == b"half of it"
    socket.socket.shutdown(secured, socket.SHUT_WR)
    assert served.plain.recv(100) == b""
    until(lambda: served.ends)
    assert isinstance(served.ends[0], ConnectionResetError)
    secured.close()


@pytest.mark.parametrize("kind", ["none", "foreign", "expired", "server"])
def test_other_clients_are_refused_before_anything_is_joined(files: Files, kind: str, tmp_path: Path) -> None:
    """Without a certificate, with one of another authority, expired, or for servers: an alert says so."""
    alert, told = {
        "none": ("certificate required", "client didn't provide a certificate"),
        "foreign": ("unknown certificate authority", "certificate signed by unknown authority"),
        "expired": ("expired certificate", "certificate has expired"),
        "server": ("unsupported certificate", "certificate specifies an incompatible key usage"),
    }[kind]
    context = client_context(str(files.authority.path), None, None)
    if kind != "none":
        authority = Authority(tmp_path, "other") if kind == "foreign" else files.authority
        pair = authority.sign(f"bad-{kind}", SERVER if kind == "server" else None, expired=kind == "expired")
        context = files.client_context(pair)
    made = Served(files.server_context())
    try:
        secured = context.wrap_socket(made.wire, server_hostname="localhost")
        # TLS 1.3: the client may send before the server has looked at its certificate
        secured.sendall(b"GET /info HTTP/1.1\r\n\r\n" * 100)
        with pytest.raises(ssl.SSLError) as caught:
            secured.recv(1)
        assert words(caught.value, "localhost") == f"remote error: tls: {alert}"
        secured.close()
    finally:
        made.close()
    assert not made.relay.established
    assert len(made.ends) == 1 and made.ends[0] is not None
    assert told in words(made.ends[0])


def test_plain_http_is_told_so(served: Served) -> None:
    """In dockerd's words."""
    served.wire.sendall(b"GET /_ping HTTP/1.1\r\nHost: d\r\n\r\n")
    text = received(served.wire)
    assert text.startswith(b"HTTP/1.0 400 Bad Request\r\n")
    assert text.endswith(b"Client sent an HTTP request to an HTTPS server.\n")


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated:DeprecationWarning")
def test_old_tls_is_refused(files: Files, served: Served) -> None:
    """TLS 1.1 has no place, whatever OpenSSL's configuration allows."""
    context = files.client_context()
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(ssl.SSLError, match=r"(?i)protocol"):
        context.wrap_socket(served.wire, server_hostname="localhost")
    until(lambda: served.ends)
    assert words(served.ends[0] or OSError()) == "tls: unsupported protocol"


def test_no_session_is_resumed(files: Files) -> None:
    """A ticket would stand for a certificate that nobody has seen again."""
    made = Served(files.server_context())
    try:
        secured = files.client_context().wrap_socket(made.wire, server_hostname="localhost")
        made.plain.sendall(b"x")
        assert secured.recv(1) == b"x"
        assert secured.session is None or not secured.session.has_ticket
        secured.close()
    finally:
        made.close()


def test_a_handshake_that_takes_too_long_is_ended(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that sends nothing, or a byte now and then."""
    monkeypatch.setattr(tlsrelay, "HANDSHAKE_SECONDS", 0.2)
    made = Served(files.server_context())
    try:
        made.wire.sendall(b"\x16")
        assert made.wire.recv(10) == b""
    finally:
        made.close()
    assert isinstance(made.ends[0], TimeoutError)


def test_the_server_that_closes_is_not_broken_off(files: Files, served: Served) -> None:
    """The peer of the plain socket closes it while the client sends: the client still gets all of the answer."""
    secured = files.client_context().wrap_socket(served.wire, server_hostname="localhost")
    secured.sendall(b"x" * 1000)
    served.plain.sendall(b"no" * 50_000)
    served.plain.close()
    secured.sendall(b"x" * 1000)
    assert received(secured) == b"no" * 50_000
    secured.close()


def test_a_client_that_takes_its_time_gets_all(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer has ended long before a pager shows its last page: the end waits, too."""
    monkeypatch.setattr(tlsrelay, "LINGER_SECONDS", 0.05)
    made = Served(files.server_context())
    try:
        peer = Peer(made.wire, files.client_context())
        until(lambda: made.relay.established)
        made.server.stalled = True
        made.plain.close()
        until(lambda: made.ends)
        before = time.monotonic()
        until(lambda: made.relay.closed or time.monotonic() > before + 0.5)
        assert not made.relay.closed
        made.server.stalled = False
        assert peer.rest() == b""
    finally:
        made.close()
    assert made.ends == [None]
