"""One HTTP/1.1 connection to an engine: a request goes out, its answer is read as it arrives."""

import _socket
import os
import select

from wherry.client.errors import ProtocolError, ServerError
from wherry.client.quickjson import loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any, Protocol

    class Owner(Protocol):
        """Keeps connections for later requests."""

        def give_back(self, connection: "Connection") -> None: ...


_RECEIVE = 256 * 1024
_MAX_HEAD = 64 * 1024


class _Upload:
    """A request body that is read from a descriptor and sent in chunks while the answer may already arrive."""

    __slots__ = ("done", "fd", "pending")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.pending = memoryview(b"")
        self.done = False

    def refill(self) -> None:
        data = os.read(self.fd, _RECEIVE)
        if data:
            self.pending = memoryview(b"%x\r\n%b\r\n" % (len(data), data))
        else:
            self.pending = memoryview(b"0\r\n\r\n")
            self.done = True


class Connection:
    """One connection. Not for use by two threads."""

    __slots__ = ("_buffer", "_upload", "bodiless", "cause", "fresh", "gone", "host", "sock")

    def __init__(self, sock: "_socket.socket", host: str, gone: str = "the engine closed the connection") -> None:
        self.sock = sock
        self.host = host
        self.gone = gone  # what to say when the other side ends it
        self.cause = ""  # why it broke, where something below it knows that better
        self.fresh = True
        self.bodiless = False  # the answer to HEAD tells of a body that does not come
        self._buffer = b""
        self._upload: _Upload | None = None

    def fileno(self) -> int:
        return self.sock.fileno()

    def close(self) -> None:
        self.sock.close()

    def broken(self, message: str) -> ProtocolError:
        """Close it; the error that says why."""
        self.sock.close()
        return ProtocolError(self.cause or message)

    def send(
        self,
        method: str,
        target: str,
        headers: "Mapping[str, str] | None" = None,
        body: bytes | None = None,
        upload: int | None = None,
    ) -> None:
        """Send one request; `upload` is a descriptor whose content is the body."""
        self.bodiless = method == "HEAD"
        lines = [f"{method} {target} HTTP/1.1", f"Host: {self.host}", "User-Agent: Wherry-Client"]
        if headers:
            lines += [f"{name}: {value}" for name, value in headers.items()]
        if upload is not None:
            lines.append("Transfer-Encoding: chunked")
        elif body is not None or method == "POST":
            lines.append(f"Content-Length: {len(body or b'')}")
        head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
        self._send(head + body if body else head)
        if upload is not None:
            self._upload = _Upload(upload)

    def _send(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[self.sock.send(view, _socket.MSG_NOSIGNAL) :]
            except InterruptedError:
                continue
            except OSError as error:
                raise self.broken(f"{self.gone}: {os.strerror(error.errno or 0)}") from None

    def _receive(self) -> bytes:
        while self._upload is not None:
            if self._pump(self._upload):
                break
        try:
            return self.sock.recv(_RECEIVE)
        except OSError as error:
            raise self.broken(f"{self.gone}: {os.strerror(error.errno or 0)}") from None

    def _pump(self, upload: _Upload) -> bool:
        """Send some of the body; returns whether something of the answer is there."""
        poll = select.poll()
        poll.register(self.sock, select.POLLIN | (select.POLLOUT if upload.pending else 0))
        if not upload.pending:
            if upload.done:
                self._upload = None
                return True
            if not _is_regular(upload.fd):
                poll.register(upload.fd, select.POLLIN)
        ready = dict(poll.poll() if upload.pending or not _is_regular(upload.fd) else [(upload.fd, select.POLLIN)])
        if ready.get(self.sock.fileno(), 0) & ~select.POLLOUT:
            return True
        if upload.fd in ready and not upload.pending:
            upload.refill()
        if upload.pending:
            try:
                flags = _socket.MSG_NOSIGNAL | _socket.MSG_DONTWAIT
                upload.pending = upload.pending[self.sock.send(upload.pending, flags) :]
            except BlockingIOError:
                return False
            except OSError:  # the engine stopped reading: its answer says why
                self._upload = None
                return True
        return False

    def take(self, limit: int = _RECEIVE) -> bytes:
        """Whatever is there, at least one byte; b"" when the peer closed."""
        if not self._buffer:
            return self._receive() if limit >= _RECEIVE else self._take_some(limit)
        return self._take_some(limit)

    def _take_some(self, limit: int) -> bytes:
        if not self._buffer:
            self._buffer = self._receive()
        data, self._buffer = self._buffer[:limit], self._buffer[limit:]
        return data

    def line(self) -> bytes:
        """One line without its end. Raises `ProtocolError` at the end of the stream."""
        while True:
            end = self._buffer.find(b"\n")
            if end >= 0:
                line, self._buffer = self._buffer[:end], self._buffer[end + 1 :]
                return line.rstrip(b"\r")
            if len(self._buffer) > _MAX_HEAD:
                raise self.broken("the engine sent a line without end")
            more = self._receive()
            if not more:
                raise self.broken(self.gone)
            self._buffer += more

    @property
    def has_more(self) -> bool:
        """Something was received and not taken yet: polling would wait for what comes after it."""
        return bool(self._buffer)

    def leftover(self) -> bytes:
        """Bytes that were read behind the head and belong to a hijacked stream."""
        data, self._buffer = self._buffer, b""
        return data

    def head(self) -> "Response":
        """Wait for an answer's head."""
        while True:
            parts = self.line().split(b" ", 2)
            if len(parts) < 2 or not parts[0].startswith(b"HTTP/1.") or not parts[1].isdigit():
                raise self.broken("the engine does not speak HTTP")
            headers: dict[str, str] = {}
            while line := self.line():
                name, _, value = line.partition(b":")
                headers[name.strip().lower().decode("latin-1")] = value.strip().decode("latin-1")
            status = int(parts[1])
            if status >= 200 or status == 101:
                return Response(self, status, headers)

    def uploading(self) -> bool:
        return self._upload is not None


class Response:
    """An answer whose body is read as it arrives."""

    __slots__ = ("_chunked", "_ended", "_left", "connection", "headers", "owner", "status")

    def __init__(self, connection: Connection, status: int, headers: dict[str, str]) -> None:
        self.connection = connection
        self.status = status
        self.headers = headers
        self.owner: Owner | None = None
        self._chunked = headers.get("transfer-encoding", "").lower() == "chunked" and not connection.bodiless
        self._ended = False
        self._left = -1  # until the connection closes
        if self._chunked or status in (204, 304) or status < 200 or connection.bodiless:
            self._left = 0
        elif "content-length" in headers:
            self._left = int(headers["content-length"])
        if self._left == 0 and not self._chunked:
            self._finish()

    def fileno(self) -> int:
        return self.connection.fileno()

    def read_some(self) -> bytes:
        """The next piece of the body; b"" at its end. Raises `ProtocolError` when it is cut short."""
        if self._ended:
            return b""
        if self._chunked and self._left == 0:
            size = self.connection.line().split(b";")[0].strip()
            try:
                self._left = int(size, 16)
            except ValueError:
                raise self.connection.broken("the engine sent a bad chunk") from None
            if self._left == 0:
                while self.connection.line():
                    continue
                self._finish()
                return b""
        data = self.connection.take(_RECEIVE if self._left < 0 else min(self._left, _RECEIVE - 1))
        if not data:
            if self._left >= 0:
                raise self.connection.broken("unexpected EOF")
            self.connection.close()
            self._ended = True
            return b""
        if self._left > 0:
            self._left -= len(data)
            if self._chunked and self._left == 0:
                self.connection.line()
            elif self._left == 0:
                self._finish()
        return data

    def _finish(self) -> None:
        self._ended = True
        close = self.headers.get("connection", "").lower() == "close" or self.connection.uploading()
        if close and self.status != 101:
            self.connection.close()
        elif self.owner is not None and self.status != 101:
            self.owner.give_back(self.connection)

    def adopt(self, owner: "Owner") -> None:
        """Give the connection back to its client once the body is read."""
        self.owner = owner
        if self._ended:
            self._finish()

    def read(self) -> bytes:
        """The rest of the body."""
        pieces = []
        while piece := self.read_some():
            pieces.append(piece)
        return b"".join(pieces)

    def json(self) -> "Any":
        """The body as JSON; None when it is empty."""
        data = self.read()
        return loads(data) if data.strip() else None

    def documents(self) -> "Iterator[Any]":
        """A stream of JSON documents, one a line (Docker ends each with a line feed)."""
        rest = b""
        while piece := self.read_some():
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                if line.strip():
                    yield loads(line)
        if rest.strip():
            yield loads(rest)

    def check(self) -> "Response":
        """Raises `ServerError` with the engine's words when this is an error."""
        if self.status < 400:
            return self
        data = self.read()
        message = ""
        try:
            document = loads(data)
            message = str(document.get("message", "")) if isinstance(document, dict) else ""
        except ValueError:
            message = ""
        raise ServerError(self.status, message or data.decode("utf-8", "replace").strip() or f"status {self.status}")


def _is_regular(fd: int) -> bool:
    # poll always reports a regular file ready, and refuses nothing: asking would only cost a call
    return (os.fstat(fd).st_mode & 0o170000) == 0o100000
