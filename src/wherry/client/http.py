"""HTTP/1.1 to an engine, over a unix or TCP socket: requests, streamed bodies, and the hijack.

Paths carry no version, which means the newest that the engine speaks: one round trip less than to ask first.
Everything blocks; a command that must look at several things at once polls `fileno()`.
"""

import _socket
import os

from wherry.client.connection import Connection, Response
from wherry.client.errors import CannotConnect, ProtocolError
from wherry.client.quickjson import dumps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from wherry.client.address import Address

    Query = Mapping[str, object]

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
