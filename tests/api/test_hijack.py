"""Connections that stop being HTTP, spoken by hand."""

import errno
import os
import socket
import struct
import time
from typing import Any

import pytest

from wherry.errors import Conflict

from .fake_streams import count, echo, frame
from .raw import Reader, ask, request

UPGRADE = "Connection: Upgrade\r\nUpgrade: tcp\r\n"
ATTACH = "/containers/c1/attach?stream=1&stdin=1&stdout=1"
HEAD_101 = (
    b"HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.multiplexed-stream\r\n"
    b"Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
)


def attach_request(headers: str = UPGRADE, path: str = ATTACH) -> bytes:
    return request("POST", path, headers=headers + "Content-Length: 0\r\n")


def until(condition: Any, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.002)


@pytest.fixture(params=["unix", "tcp"])
def sock(request: pytest.FixtureRequest, server: Any) -> Any:
    with server.connect() if request.param == "unix" else server.connect_tcp() as connection:
        yield connection


def test_upgraded_stream_echoes_and_half_close_is_not_the_end(server: Any, sock: socket.socket) -> None:
    """The client's half-close reaches the stream, which may still answer."""
    sock.sendall(attach_request())
    reader = Reader(sock)
    assert reader.until(b"\r\n\r\n") == HEAD_101
    sock.sendall(b"hello")
    assert reader.exactly(13) == frame(b"hello")
    sock.shutdown(socket.SHUT_WR)
    assert reader.rest() == frame(b"<end>")


def test_bytes_sent_along_with_the_head_come_first(server: Any, sock: socket.socket) -> None:
    """What was sent in the same packet as the head travels as the tail."""
    sock.sendall(attach_request() + b"GET / HTTP/1.1\r\n\r\n")
    sock.shutdown(socket.SHUT_WR)
    reader = Reader(sock)
    assert reader.until(b"\r\n\r\n") == HEAD_101
    assert reader.rest() == frame(b"GET / HTTP/1.1\r\n\r\n") + frame(b"<end>")
    assert server.engine.tails == [b"GET / HTTP/1.1\r\n\r\n"]


def test_a_megabyte_behind_the_head_arrives_whole(server: Any, sock: socket.socket) -> None:
    """No byte of a large pipelined input is lost or taken for HTTP."""
    server.engine.containers.behaviour = count
    sock.sendall(attach_request() + b"x" * (1 << 20))
    sock.shutdown(socket.SHUT_WR)
    reader = Reader(sock)
    reader.until(b"\r\n\r\n")
    assert reader.rest() == frame(b"1048576")


def test_head_that_comes_byte_by_byte(server: Any, sock: socket.socket) -> None:
    """A head in pieces is still one head."""
    data = attach_request() + b"tail"
    for at in range(len(data)):
        sock.sendall(data[at : at + 1])
        if at < 10 or at > len(data) - 10:
            time.sleep(0.001)
    sock.shutdown(socket.SHUT_WR)
    reader = Reader(sock)
    assert reader.until(b"\r\n\r\n") == HEAD_101
    rest = reader.rest()
    while rest and rest != frame(b"<end>"):
        size = struct.unpack(">L", rest[4:8])[0]
        rest = rest[8 + size :]
    assert rest == frame(b"<end>")


def test_without_upgrade_the_status_is_200(server: Any, sock: socket.socket) -> None:
    """Old clients ask for no upgrade and get raw-stream, as from dockerd."""
    sock.sendall(attach_request(headers="") + b"in")
    sock.shutdown(socket.SHUT_WR)
    reader = Reader(sock)
    assert reader.until(b"\r\n\r\n") == b"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\n"
    assert reader.rest() == frame(b"in") + frame(b"<end>")


@pytest.mark.parametrize(
    ("prefix", "tty", "kind"),
    [
        ("/v1.41", False, "raw-stream"),
        ("/v1.42", False, "multiplexed-stream"),
        ("/v1.51", True, "raw-stream"),
        ("", False, "multiplexed-stream"),
    ],
)
def test_content_type_follows_version_and_terminal(server: Any, prefix: str, tty: bool, kind: str) -> None:
    """multiplexed-stream exists from 1.42, and only where frames are."""
    server.engine.containers.tty = tty
    with server.connect() as sock:
        sock.sendall(attach_request(path=prefix + ATTACH))
        sock.shutdown(socket.SHUT_WR)
        assert f"Content-Type: application/vnd.docker.{kind}\r\n".encode() in Reader(sock).until(b"\r\n\r\n")


def test_exec_start_reads_its_body_and_keeps_the_tail(server: Any, sock: socket.socket) -> None:
    """The JSON body is not the stream, and the stream not the body."""
    sock.sendall(request("POST", "/exec/e1/start", '{"Detach":false,"Tty":false}', headers=UPGRADE) + b"stdin")
    sock.shutdown(socket.SHUT_WR)
    reader = Reader(sock)
    assert reader.until(b"\r\n\r\n") == HEAD_101
    assert reader.rest() == frame(b"stdin") + frame(b"<end>")
    assert server.engine.containers.calls[-1][0] == "exec_start"


def test_exec_start_with_a_chunked_body_in_pieces(server: Any, sock: socket.socket) -> None:
    """Some clients send the small body chunked, after the head."""
    head = request("POST", "/exec/e1/start", headers=UPGRADE + "Content-Type: application/json\r\n")
    head = head.replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n")
    for piece in (head, b"1\r\n{\r\n", b'e\r\n"Detach":false\r\n1', b"\r\n}\r\n0\r\n", b"\r\ntail"):
        sock.sendall(piece)
        time.sleep(0.01)
    sock.shutdown(socket.SHUT_WR)
    reader = Reader(sock)
    assert reader.until(b"\r\n\r\n") == HEAD_101
    assert reader.rest() == frame(b"tail") + frame(b"<end>")
    assert server.engine.containers.calls[-1][2].detach is False


def test_detached_exec_leaves_the_connection_alone(server: Any, sock: socket.socket) -> None:
    """A detached exec start is an ordinary answer on a connection that goes on."""
    answer = ask(sock, "POST", "/exec/e1/start", '{"Detach":true}')
    assert (answer.status, answer.body) == (200, b"")
    assert ask(sock, "GET", "/_ping").body == b"OK"


def test_refused_hijack_goes_on_as_http(server: Any, sock: socket.socket) -> None:
    """An error on a hijack route is plain HTTP, and the connection may be used again."""
    answer = ask(sock, "POST", "/containers/nope/attach?stream=1", headers=UPGRADE + "Content-Length: 0\r\n")
    assert (answer.status, answer.message) == (404, "No such container: nope")
    answer = ask(sock, "POST", "/exec/nope/start", "{}", headers=UPGRADE)
    assert (answer.status, answer.message) == (404, "No such exec instance: nope")
    assert ask(sock, "GET", "/_ping").body == b"OK"
    sock.sendall(attach_request())
    assert Reader(sock).until(b"\r\n\r\n") == HEAD_101
    sock.shutdown(socket.SHUT_WR)


def test_refused_hijack_with_a_tail_ends_the_connection(server: Any, sock: socket.socket) -> None:
    """Input for a stream that never was is not taken for the next request."""
    server.engine.containers.raises = Conflict("container c1 is paused")
    sock.sendall(attach_request() + b"DELETE /containers/c1 HTTP/1.1\r\nHost: x\r\n\r\n")
    reader = Reader(sock)
    answer = reader.response()
    assert answer.status == 409
    assert answer.headers["connection"] == "close"
    assert reader.rest() == b""
    assert [call[0] for call in server.engine.containers.calls] == ["attach"]


def test_hijack_after_keep_alive_requests(server: Any, sock: socket.socket) -> None:
    """A connection that served other requests can be taken over."""
    for _ in range(3):
        assert ask(sock, "GET", "/_ping").body == b"OK"
    assert ask(sock, "POST", "/containers/c1/start").status == 204
    sock.sendall(attach_request() + b"x")
    sock.shutdown(socket.SHUT_WR)
    reader = Reader(sock)
    assert reader.until(b"\r\n\r\n") == HEAD_101
    assert reader.rest() == frame(b"x") + frame(b"<end>")


def test_hijack_pipelined_behind_another_request_is_refused_cleanly(server: Any) -> None:
    """The parser has already seen the stream's bytes: say so instead of losing them."""
    with server.connect() as sock:
        sock.sendall(request("GET", "/_ping") + attach_request())
        reader = Reader(sock)
        assert reader.response().body == b"OK"
        answer = reader.response()
        assert answer.status == 400
        assert "on its own" in answer.message


def test_hijack_sent_while_another_request_runs(server: Any) -> None:
    """The answer to the earlier request does not disturb the hijack that waits behind it."""

    def hold() -> None:
        server.engine.containers.exit = server.loop.create_future()

    server.call(hold)
    with server.connect() as sock:
        sock.sendall(request("POST", "/containers/c1/wait"))
        reader = Reader(sock)
        reader.head()
        sock.sendall(attach_request() + b"tail")
        # the hijack request has been read once the server has turned its loop
        assert server.call(lambda: True)
        server.call(lambda: server.engine.containers.exit.set_result({"StatusCode": 0}))
        reader.until(b"0\r\n\r\n")
        assert reader.until(b"\r\n\r\n") == HEAD_101
        sock.shutdown(socket.SHUT_WR)
        assert reader.rest() == frame(b"tail") + frame(b"<end>")


def test_client_that_vanishes_ends_the_stream(server: Any) -> None:
    """A closed connection is seen by the stream, and the server lives on."""
    for _ in range(20):
        sock = server.connect()
        sock.sendall(attach_request() + b"x")
        sock.close()
    until(lambda: len(server.engine.threads) > 0 and not any(t.is_alive() for t in server.engine.threads))
    with server.connect() as sock:
        assert ask(sock, "GET", "/_ping").body == b"OK"


def test_no_descriptor_left_for_a_stream(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What prevents the hand-over is told as HTTP, before the head."""

    def fail(_: int) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    with server.connect() as sock:
        with monkeypatch.context() as patch:
            patch.setattr(os, "dup", fail)
            assert ask(sock, "POST", ATTACH, headers=UPGRADE + "Content-Length: 0\r\n").status == 503
        sock.sendall(attach_request())
        assert Reader(sock).until(b"\r\n\r\n") == HEAD_101


def test_client_that_vanishes_in_the_middle_of_a_head(server: Any) -> None:
    """Half a hijack request leaves nothing behind."""
    before = server.descriptors()
    for part in (4, 20, 60, 100):
        with server.connect() as sock:
            sock.sendall(attach_request()[:part])
    with server.connect() as sock:
        assert ask(sock, "GET", "/_ping").body == b"OK"
    until(lambda: server.descriptors() <= before)


def test_many_hijacks_at_once_with_requests_between(server: Any) -> None:
    """A hundred streams run side by side while keep-alive requests are answered; no descriptor is left."""
    fds = server.descriptors()
    with server.connect() as plain:
        socks = []
        for number in range(100):
            sock = server.connect() if number % 2 else server.connect_tcp()
            sock.sendall(attach_request() + b"%03d" % number)
            socks.append(sock)
            assert ask(plain, "GET", "/_ping").body == b"OK"
        for number, sock in enumerate(socks):
            reader = Reader(sock)
            assert reader.until(b"\r\n\r\n") == HEAD_101
            assert reader.exactly(11) == frame(b"%03d" % number)
            sock.sendall(b"again")
            assert reader.exactly(13) == frame(b"again")
        for sock in socks:
            sock.shutdown(socket.SHUT_WR)
            assert Reader(sock).rest() == frame(b"<end>")
            sock.close()
        assert ask(plain, "GET", "/version").status == 200
    until(lambda: not any(thread.is_alive() for thread in server.engine.threads))
    until(lambda: server.descriptors() <= fds)


def test_stream_outlives_the_server(server: Any) -> None:
    """What was handed over does not end with the server."""
    sock = server.connect()
    sock.sendall(attach_request())
    reader = Reader(sock)
    reader.until(b"\r\n\r\n")
    until(lambda: server.engine.threads)
    server.stop()
    sock.sendall(b"still")
    assert reader.exactly(13) == frame(b"still")
    sock.shutdown(socket.SHUT_WR)
    assert reader.rest() == frame(b"<end>")
    sock.close()


@pytest.mark.parametrize("version", ["1.1", "1.0"])
def test_logs_say_where_they_end(server: Any, sock: socket.socket, version: str) -> None:
    """The log reader writes the body, with a last chunk; for HTTP/1.0 it ends with the connection."""
    asked = request("GET", "/containers/c1/logs?stdout=1&stderr=1&follow=1&tail=5")
    sock.sendall(asked.replace(b"HTTP/1.1", f"HTTP/{version}".encode()))
    reader = Reader(sock)
    answer = reader.response()
    assert answer.status == 200
    assert answer.headers["connection"] == "close"
    assert answer.headers["content-type"] == "application/vnd.docker.multiplexed-stream"
    assert "content-length" not in answer.headers
    assert answer.headers.get("transfer-encoding") == ("chunked" if version == "1.1" else None)
    assert answer.body == frame(b"one\n") + frame(b"two\n", 2) + frame(b"three\n")
    assert reader.rest() == b""
    options = server.engine.containers.calls[-1][2]
    assert (options.follow, options.tail) == (True, "5")


@pytest.mark.parametrize("size", [5000, 40000])
def test_hijack_head_with_large_headers(server: Any, size: int) -> None:
    """A long header does not change what is kept as the tail."""
    server.engine.containers.behaviour = echo
    with server.connect() as sock:
        sock.sendall(attach_request(headers=UPGRADE + f"X-Pad: {'p' * size}\r\n") + b"tail")
        sock.shutdown(socket.SHUT_WR)
        reader = Reader(sock)
        assert reader.until(b"\r\n\r\n") == HEAD_101
        assert reader.rest() == frame(b"tail") + frame(b"<end>")


@pytest.mark.parametrize(
    "data",
    [
        request("POST", ATTACH, headers=UPGRADE + "Content-Length: 5x\r\n"),
        request("POST", ATTACH, headers=UPGRADE + "Content-Length: 0\r\nContent-Length: 1\r\n") + b"x",
        request("POST", ATTACH, headers=UPGRADE + " folded: 1\r\nContent-Length: 0\r\n"),
        request("POST", ATTACH, headers="no colon\r\n"),
        request("POST", ATTACH, headers="Content-Length: 3\r\nTransfer-Encoding: chunked\r\n") + b"0\r\n\r\n",
        request("POST", ATTACH, headers="X: " + "y" * 70000 + "\r\n"),
        b"POST " + b"/containers/c1/attach" * 1000,
    ],
)
def test_malformed_hijack_heads_get_400(server: Any, data: bytes) -> None:
    """What the parser refuses is refused, with a body that says so, and nothing is attached."""
    with server.connect() as sock:
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
        reader = Reader(sock)
        if reader.more() or reader.buffer:
            assert reader.response().status == 400
    assert server.engine.tails == []
    with server.connect() as sock:
        assert ask(sock, "GET", "/_ping").body == b"OK"
