"""Speaking HTTP by hand."""

import json
import socket
from typing import Any


def request(method: str, path: str, body: bytes | str | None = None, headers: str = "") -> bytes:
    """Render a request; a body is sent as JSON unless `headers` says otherwise."""
    data = body.encode() if isinstance(body, str) else body or b""
    lines = f"{method} {path} HTTP/1.1\r\nHost: docker\r\n{headers}"
    if body is not None:
        lines += f"Content-Length: {len(data)}\r\n"
        if "content-type" not in headers.lower():
            lines += "Content-Type: application/json\r\n"
    return f"{lines}\r\n".encode() + data


class Response:
    """A head, and a body that was delimited in one of the three ways."""

    def __init__(self, head: bytes, body: bytes) -> None:
        lines = head.decode("latin-1").split("\r\n")
        self.line = lines[0]
        self.status = int(lines[0].split()[1])
        self.headers = {line.partition(":")[0].lower(): line.partition(":")[2].strip() for line in lines[1:]}
        self.body = body

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def message(self) -> str:
        return str(self.json["message"])


class Reader:
    """Reads answers off a connection and keeps what is over."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.buffer = b""

    def more(self) -> bool:
        data = self.sock.recv(1 << 18)
        self.buffer += data
        return bool(data)

    def until(self, mark: bytes) -> bytes:
        """Read up to and with `mark`."""
        while mark not in self.buffer:
            assert self.more(), f"ended early: {self.buffer[-200:]!r}"
        found, _, self.buffer = self.buffer.partition(mark)
        return found + mark

    def exactly(self, size: int) -> bytes:
        while len(self.buffer) < size:
            assert self.more(), f"ended early: {self.buffer[-200:]!r}"
        found, self.buffer = self.buffer[:size], self.buffer[size:]
        return found

    def rest(self) -> bytes:
        """Read to the end."""
        while self.more():
            pass
        found, self.buffer = self.buffer, b""
        return found

    def head(self) -> bytes:
        return self.until(b"\r\n\r\n")[:-4]

    def response(self, *, bodiless: bool = False) -> Response:
        found = Response(self.head(), b"")
        if bodiless or found.status in (204, 304):
            return found
        if found.headers.get("transfer-encoding") == "chunked":
            while size := int(self.until(b"\r\n"), 16):
                found.body += self.exactly(size)
                assert self.exactly(2) == b"\r\n"
            assert self.exactly(2) == b"\r\n"
        elif "content-length" in found.headers:
            found.body = self.exactly(int(found.headers["content-length"]))
        else:
            found.body = self.rest()
        return found


def ask(sock: socket.socket, *args: Any, **kwargs: Any) -> Response:
    """Send a request and read its answer."""
    data = request(*args, **kwargs)
    sock.sendall(data)
    return Reader(sock).response(bodiless=args[0] == "HEAD")
