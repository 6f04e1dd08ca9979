"""What holds for every request: headers, error answers, odd clients, what is no HTTP, and who is kept out."""

import asyncio
import socket
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.harness import until
from wherry import errors
from wherry.api.server import Server

from .fake_containers import ID
from .fake_engine import FakeEngine
from .raw import Reader, Response, ask, request


def test_ping(sock: socket.socket) -> None:
    """GET and HEAD /_ping give the headers by which clients decide version and builder."""
    for method, body in (("GET", b"OK"), ("HEAD", b"")):
        answer = ask(sock, method, "/_ping")
        assert (answer.status, answer.body) == (200, body)
        wanted = {
            "api-version": "1.51",
            "builder-version": "1",
            "cache-control": "no-cache, no-store, must-revalidate",
            "docker-experimental": "false",
            "ostype": "linux",
            "pragma": "no-cache",
            "swarm": "inactive",
        }
        assert wanted.items() <= answer.headers.items()
        assert answer.headers["server"].startswith("Wherry/")
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"
        assert answer.headers["content-length"] == str(len(body))


def test_golden_error_answer(sock: socket.socket) -> None:
    """An error is one line of JSON with dockerd's headers."""
    sock.sendall(request("GET", "/containers/nope/json"))
    reader = Reader(sock)
    head = reader.head().decode()
    lines = [line for line in head.split("\r\n") if not line.startswith(("Date:", "Server:"))]
    assert lines == [
        "HTTP/1.1 404 Not Found",
        "Api-Version: 1.51",
        "Docker-Experimental: false",
        "Ostype: linux",
        "Content-Length: 38",
        "Content-Type: application/json",
    ]
    assert reader.exactly(38) == b'{"message":"No such container: nope"}\n'


@pytest.mark.parametrize(
    ("path", "location"),
    [
        ("/containers//json", "/containers/json"),
        ("/containers/../info", "/info"),
        ("/containers/%2e%2e/json", "/json"),
        ("/images/gensokyo.jp//kirisame/json", "/images/gensokyo.jp/kirisame/json"),
        ("/v1.45//evil.example/x?a=b", "/v1.45/evil.example/x?a=b"),
        ("//evil.example/", "/evil.example/"),
        ("/..//..//etc/%0d%0aX: y", "/etc/%0D%0AX:%20y"),
    ],
)
def test_unclean_paths_are_redirected(sock: socket.socket, path: str, location: str) -> None:
    """Dots and double slashes never reach a handler; the redirect stays on this host."""
    answer = ask(sock, "GET", path.replace(" ", "%20"))
    assert (answer.status, answer.headers["location"]) == (301, location)


def test_create_with_a_chunked_body(server: Any, sock: socket.socket) -> None:
    """Length unknown in advance is fine, and so is a client that waits for 100 Continue."""
    head = request(
        "POST",
        "/containers/create",
        None,
        "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n",
    )
    sock.sendall(head)
    reader = Reader(sock)
    assert reader.head() == b"HTTP/1.1 100 Continue"
    sock.sendall(b'7\r\n{"Image\r\n9\r\n":"busy"}\r\n0\r\n\r\n')
    assert reader.response().status == 201
    assert server.engine.containers.requests[0].image == "busy"


def test_create_body_has_a_limit(sock: socket.socket) -> None:
    """A body of megabytes is refused while it comes."""
    answer = ask(sock, "POST", "/containers/create", '{"Image":"' + "x" * (5 << 20) + '"}')
    assert answer.status == 400
    assert "larger than" in answer.message


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.InvalidSpec("x"), 400),
        (errors.CommandNotFound("x"), 400),
        (errors.Forbidden("x"), 403),
        (errors.ImageNotFound("x y"), 404),
        (errors.NameInUse("x"), 409),
        (errors.NotSupported("x"), 501),
        (errors.MonitorLost("x"), 503),
        (errors.KernelError("mount", 1), 500),
        (errors.StoreCorrupt("x"), 500),
        (errors.WherryError("x"), 500),
    ],
)
def test_error_classes_become_statuses(server: Any, sock: socket.socket, error: Exception, status: int) -> None:
    """The table is looked up along the MRO, and the words are the error's."""
    server.engine.containers.raises = error
    answer = ask(sock, "POST", "/containers/c1/start")
    assert (answer.status, answer.message) == (status, str(error))


def test_foreign_error_is_logged_with_an_id(server: Any, sock: socket.socket, caplog: pytest.LogCaptureFixture) -> None:
    """A bug tells the client an id, and the log the rest."""
    server.engine.containers.raises = ValueError("secret path /x")
    answer = ask(sock, "POST", "/containers/c1/start")
    assert answer.status == 500
    assert "secret" not in answer.message
    assert "POST /containers/c1/start failed" in answer.message and "internal error" not in answer.message
    request_id = answer.message.split("request ")[1].split(" ")[0]
    assert request_id in caplog.text
    assert "ValueError" in caplog.text
    assert ask(sock, "GET", "/_ping").status == 200


def test_half_closed_client_gets_its_answer(server: Any) -> None:
    """`nc` ends its side after the request."""
    with server.connect() as sock:
        sock.sendall(request("GET", "/version"))
        sock.shutdown(socket.SHUT_WR)
        reader = Reader(sock)
        assert reader.response().status == 200
        assert reader.rest() == b""


def test_pipelined_requests_and_an_old_client(server: Any) -> None:
    """Requests sent ahead are answered in order; HTTP/1.0 gets no chunks and no keep-alive."""
    with server.connect() as sock:
        sock.sendall(request("GET", "/_ping") + request("GET", "/info") + request("POST", "/containers/c1/start"))
        reader = Reader(sock)
        assert [reader.response().status for _ in range(3)] == [200, 200, 204]
    with server.connect() as sock:
        sock.sendall(b"GET /events?until=1 HTTP/1.0\r\n\r\n")
        answer = Reader(sock).response()
        assert "transfer-encoding" not in answer.headers
        assert len(answer.body.splitlines()) == 2


@pytest.mark.parametrize(
    "data", [b"\x16\x03\x01\x02\x00\x01", b"GET / HTTP/1.1\r\nbad\r\n\r\n", b"GET  / HTTP/9.9\r\n\r\n"]
)
def test_what_is_no_http_gets_400(server: Any, data: bytes) -> None:
    """Garbage is answered in JSON, without a traceback in the log."""
    with server.connect() as sock:
        sock.sendall(data)
        answer = Reader(sock).response()
        assert answer.status == 400
        assert answer.message


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ("Host: 127.0.0.1:2375\r\n", 200),
        ("Host: localhost\r\n", 200),
        ("Host: [::1]:2375\r\n", 200),
        ("Host: docker:2375\r\n", 200),
        ("Host: evil.example:2375\r\n", 403),
        ("Host: 127.0.0.1.evil.example\r\n", 403),
        ("Host: localhost\r\nOrigin: http://evil.example\r\n", 403),
        ("Host: localhost\r\nOrigin: null\r\n", 403),
        ("Host: localhost\r\nSec-Fetch-Site: cross-site\r\n", 403),
    ],
)
def test_browsers_are_kept_out_of_tcp(server: Any, headers: str, status: int) -> None:
    """DNS rebinding and cross-site requests find nothing; the unix socket has no such callers."""
    data = f"GET /info HTTP/1.1\r\n{headers}\r\n".encode()
    with server.connect_tcp() as sock:
        sock.sendall(data)
        assert Reader(sock).response().status == status
    with server.connect() as sock:
        sock.sendall(data)
        assert Reader(sock).response().status == 200


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET /_ping HT",
        b"GET /_ping HTTP/1.1\r\nHost: localhost\r\n",
        b"POST /containers/x/attach HTTP/1.1\r\n",
        b"GET /_ping HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ],
)
def test_attack_tcp_clients_that_send_no_request(tmp_path: Path, sent: bytes) -> None:
    """Nor the rest of one, nor the next one: they are left after a time. Clients of the unix socket may wait."""

    async def scenario() -> None:
        server = Server(FakeEngine(), idle_seconds=0.3)
        bound = await server.start(["tcp://127.0.0.1:0", f"unix://{tmp_path}/s"])
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", int(bound[0].rpartition(":")[2]))
            local, local_writer = await asyncio.open_unix_connection(f"{tmp_path}/s")
            for each in (writer, local_writer):
                each.write(sent)
            got = await asyncio.wait_for(reader.read(), 20)
            assert got.startswith(b"HTTP/1.1 200 OK") == sent.endswith(b"\r\n\r\n")
            assert not local.at_eof()
            for each in (writer, local_writer):
                each.close()
        finally:
            await server.close(0.1)

    asyncio.run(scenario())


def test_large_upload_to_an_unknown_page(sock: socket.socket) -> None:
    """A body nobody wants is passed over, and the connection stays in step."""
    answer: Response = ask(sock, "POST", "/nope", b"x" * (1 << 20))
    assert answer.status == 404
    assert ask(sock, "GET", "/_ping").body == b"OK"


def test_what_is_sent_is_closed_when_its_reader_goes(server: Any) -> None:
    """A worker and the container's lock end with it: they do not wait until garbage is collected."""
    with server.connect() as sock:
        sock.sendall(request("GET", f"/containers/{ID}/archive?path=/endless"))
        assert Reader(sock).head().startswith(b"HTTP/1.1 200")
    until(lambda: server.engine.containers.closed == 1, "the archive is closed", 10)
