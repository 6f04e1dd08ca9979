"""HTTP/1.1 to an engine, over a unix or TCP socket: requests, streamed bodies, and the hijack.

Paths carry no version, which means the newest that the engine speaks: one round trip less than to ask first.
Everything blocks; a command that must look at several things at once polls `fileno()`.
"""

import _socket
import os
import select

from wherry.client.errors import CannotConnect, ProtocolError, ServerError
from wherry.client.quickjson import dumps, loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from wherry.client.address import Address

    Query = Mapping[str, object]

_RECEIVE = 256 * 1024
_MAX_HEAD = 64 * 1024
_SAFE = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")


def quote(text: str, keep: str = "") -> str:
    """Percent-encode one piece of a path or query; `keep` names further characters that may stay."""
    kept = keep.encode()
    return "".join(chr(b) if b in _SAFE or b in kept else f"%{b:02X}" for b in text.encode("utf-8", "surrogateescape"))


def target(path: str, query: "Query | None" = None) -> str:
    """Join a path and its query. None and "" values are left out; true is 1, false 0; lists and dicts are JSON."""
    pairs = []
    for key, value in (query or {}).items():
        if value is None or value == "":
            continue
        pairs.append(f"{quote(key)}={quote(_word(value))}")
    return f"{path}?{'&'.join(pairs)}" if pairs else path


def _word(value: object) -> str:
    if isinstance(value, bool):
        return "1" if value else "0"
    return dumps(value) if isinstance(value, (dict, list)) else str(value)


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
        self.owner: Client | None = None
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

    def adopt(self, owner: "Client") -> None:
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


class Pending:
    """A request that was sent; `finish()` waits for its answer."""

    __slots__ = ("_again", "client", "connection")

    def __init__(self, client: "Client", connection: Connection, again: "tuple[Any, ...] | None") -> None:
        self.client = client
        self.connection = connection
        self._again = again

    def finish(self) -> Response:
        """The answer, its status not judged."""
        try:
            response = self.connection.head()
        except ProtocolError:
            if self._again is None or self.connection.fresh:
                raise
            # an idle connection that the engine had closed meanwhile
            self.connection.close()
            self.connection = self.client.connect()
            self.connection.send(*self._again)
            response = self.connection.head()
        self.connection.fresh = False
        response.adopt(self.client)
        return response


class Client:
    """Requests to one engine.

    Args:
        address: where it listens.
        autostart: called with the address and the refusal when nobody answers at the default socket; it returns
            when the engine listens, or raises.
    """

    def __init__(self, address: "Address", autostart: "Any | None" = None) -> None:
        self.address = address
        self._autostart = autostart
        self._idle: list[Connection] = []

    def connect(self) -> Connection:
        """A new connection. Raises `CannotConnect`."""
        try:
            return self._dial()
        except OSError as error:
            if self._autostart is None or self.address.chosen or not self.address.path:
                raise _refused(self.address, error) from None
            self._autostart(self.address, error)
            try:
                return self._dial()
            except OSError as again:
                raise _refused(self.address, again) from None

    def _dial(self) -> Connection:
        address = self.address
        if address.ssh:
            from wherry.client import ssh

            return Connection(ssh.dial(address), "wherry", ssh.gone(address))
        if address.path:
            sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
            try:
                sock.connect(address.path)
            except OSError:
                sock.close()
                raise
            return Connection(sock, "wherry")
        if address.tls is not None:
            from wherry.client import tls

            return tls.dial(address, address.tls)
        from wherry.client import tcp

        return Connection(tcp.dial(address), f"{address.host}:{address.port}")

    def close(self) -> None:
        """Close the connections that are kept for later."""
        while self._idle:
            self._idle.pop().close()

    def give_back(self, connection: Connection) -> None:
        """Keep a connection whose answer was read for the next request."""
        if connection.sock.fileno() >= 0 and connection not in self._idle:
            self._idle.append(connection)

    def begin(
        self,
        method: str,
        path: str,
        query: "Query | None" = None,
        body: object = None,
        *,
        upload: int | None = None,
        headers: "Mapping[str, str] | None" = None,
    ) -> Pending:
        """Send a request. `body` is JSON, or bytes that are sent as they are; `upload` a descriptor to stream."""
        fields = dict(headers or {})
        data: bytes | None = None
        if body is not None:
            data = body if isinstance(body, bytes) else dumps(body).encode("utf-8", "surrogatepass")
            fields.setdefault("Content-Type", "application/json")
        request = (method, target(path, query), fields, data)
        connection = self._idle.pop() if self._idle and upload is None else self.connect()
        try:
            connection.send(*request, upload)
        except ProtocolError:
            if connection.fresh:
                raise
            connection.close()
            connection = self.connect()
            connection.send(*request, upload)
        return Pending(self, connection, request if upload is None else None)

    def request(
        self,
        method: str,
        path: str,
        query: "Query | None" = None,
        body: object = None,
        *,
        upload: int | None = None,
        headers: "Mapping[str, str] | None" = None,
    ) -> Response:
        """Send a request and wait for its head. Raises `ServerError` for a status of 400 and above."""
        return self.begin(method, path, query, body, upload=upload, headers=headers).finish().check()

    def call(self, method: str, path: str, query: "Query | None" = None, body: object = None) -> "Any":
        """Send a request and decode its JSON answer (None when there is none)."""
        return self.request(method, path, query, body).json()

    def hijack(self, path: str, query: "Query | None" = None, body: object = None) -> "tuple[Connection, bytes]":
        """POST a request that turns its connection into a raw stream.

        Returns:
            The connection, whose socket is the stream from now on, and the bytes of it that are already here.
        """
        fields = {"Connection": "Upgrade", "Upgrade": "tcp"}
        data: bytes | None = None
        if body is not None:
            data = dumps(body).encode("utf-8", "surrogatepass")
            fields["Content-Type"] = "application/json"
        connection = self.connect()
        connection.send("POST", target(path, query), fields, data)
        response = connection.head()
        if response.status not in (101, 200):
            try:
                response.check()
            finally:
                connection.close()
            raise ProtocolError(f"unable to upgrade to tcp, received {response.status}")
        return connection, connection.leftover()


def _is_regular(fd: int) -> bool:
    # poll always reports a regular file ready, and refuses nothing: asking would only cost a call
    return (os.fstat(fd).st_mode & 0o170000) == 0o100000


def _refused(address: "Address", error: OSError) -> CannotConnect:
    import errno

    from wherry.client import access

    if error.errno == errno.EACCES:
        return CannotConnect(
            f"permission denied at {address.text}: ask root to add you to the group of the socket"
            f" ({access.how_to_join(address.path)}), then log in again"
        )
    if address.path and error.errno not in (errno.ENOENT, errno.ECONNREFUSED, errno.ENOTDIR):
        return CannotConnect(f"Cannot connect to the Wherry daemon at {address.text}: {os.strerror(error.errno or 0)}")
    return CannotConnect(f"Cannot connect to the Wherry daemon at {address.text}. Is wherryd running?")
