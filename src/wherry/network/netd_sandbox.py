"""One container's server: the two sockets at 127.0.0.11 that its monitor opened in its network namespace.

The monitor's channel is the sandbox's life: when it closes, everything of the sandbox is closed, or its namespace would
stay. Over it netd asks for sockets to upstream servers.
"""

import _socket
import time

from wherry.errors import WherryError
from wherry.linux.channel import Channel, close_all
from wherry.linux.loop import IN, OUT
from wherry.network.dns_message import (
    AAAA,
    FORMERR,
    MAX_MESSAGE,
    PTR,
    SERVFAIL,
    A,
    BadMessage,
    Query,
    answer,
    encode_name,
    parse_query,
    truncated,
)
from wherry.network.dns_message import (
    IN as INTERNET,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from wherry.linux.loop import Loop
    from wherry.network.dns_names import Asker, Names
    from wherry.network.netd_forward import Forward, Forwarder

    class Server(Protocol):
        """What a sandbox needs of netd."""

        loop: Loop
        names: Names
        forwarder: Forwarder

        def catch_up(self) -> None:
            """Take what wherryd has said: whoever asks after a start must find what started."""

        def host_servers(self) -> "list[str]":
            """The host's upstream servers, for whom none was given."""

        def gone(self, sandbox: "Sandbox") -> None:
            """The sandbox is closed."""


TTL = 600
_DATAGRAMS_AT_ONCE = 16
_MAX_CONNECTIONS = 64
_MAX_FORWARDS = 512
# by TCP, each of which may hold an answer of 64 KiB
_MAX_STREAM_FORWARDS = 64
# a question and an OPT record are much smaller; what is forwarded is held until it is answered
_MAX_FORWARDED = 4096
_IDLE_SECONDS = 15.0
_MAX_UNSENT = 1 << 18


class Sandbox:
    """See the module.

    Args:
        server: netd.
        id_: the container's id.
        channel: from its monitor; owned.
        udp, tcp: descriptors of the two sockets; owned.
    """

    def __init__(self, server: "Server", id_: str, channel: Channel, udp: int, tcp: int) -> None:
        self.id = id_
        self._server = server
        self._channel: Channel | None = channel
        self._udp = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM, 0, udp)
        self._tcp = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM, 0, tcp)
        self._connections: set[_Connection] = set()
        self._forwards: set[Forward] = set()
        self._streams = 0
        self._sequence = 0
        self._waiting: dict[int, Callable[[_socket.socket | None], None]] = {}
        self._udp.setblocking(False)
        self._tcp.setblocking(False)
        server.loop.watch(channel.fileno(), IN, self._monitor)
        server.loop.watch(self._udp.fileno(), IN, self._datagrams)
        server.loop.watch(self._tcp.fileno(), IN, self._accept)

    def close(self) -> None:
        """Close every socket of the sandbox."""
        channel, self._channel = self._channel, None
        if channel is None:
            return
        for fd in (channel.fileno(), self._udp.fileno(), self._tcp.fileno()):
            self._server.loop.unwatch(fd)
        channel.close()
        self._udp.close()
        self._tcp.close()
        for connection in tuple(self._connections):
            connection.close()
        for forward in tuple(self._forwards):
            forward.drop()
        self._forwards.clear()
        self._waiting.clear()
        self._server.gone(self)

    def sweep(self, now: float) -> None:
        """Close connections that have said nothing for long."""
        for connection in [c for c in self._connections if c.heard + _IDLE_SECONDS < now]:
            connection.close()

    # ---- the monitor

    def _monitor(self, _bits: int) -> None:
        while self._channel is not None:
            try:
                received = self._channel.receive()
            except BlockingIOError:
                return
            except (OSError, WherryError):
                received = None
            if received is None:
                self.close()
                return
            message, fds = received
            waiting = self._waiting.pop(int(message.get("seq") or 0), None)
            fd = fds.pop("socket", -1)
            close_all(list(fds.values()))
            if waiting is None:
                if fd >= 0:
                    close_all([fd])
            elif fd < 0:
                waiting(None)
            else:
                waiting(_socket.socket(int(message["family"]), int(message["kind"]), 0, fd))

    def _give(self, family: int, kind: int, given: "Callable[[_socket.socket | None], None]") -> None:
        if self._channel is None:
            return
        self._sequence += 1
        try:
            self._channel.send({"seq": self._sequence, "family": int(family), "kind": int(kind)})
        except OSError:
            given(None)  # it has a hundred of our requests unanswered
            return
        self._waiting[self._sequence] = given

    # ---- UDP

    def _datagrams(self, _bits: int) -> None:
        for _ in range(_DATAGRAMS_AT_ONCE):
            try:
                data, sender = self._udp.recvfrom(MAX_MESSAGE)
            except (BlockingIOError, ConnectionRefusedError):
                return
            self._server.catch_up()
            if self._channel is None:
                return
            self._serve(data, False, self._sender(sender))

    def _sender(self, client: "tuple[str, int]") -> "Callable[[bytes], None]":
        def send(reply: bytes) -> None:
            if self._channel is None:
                return
            try:
                self._udp.sendto(reply, client)
            except OSError:
                return  # its buffer is full, or it is gone: it will ask again

        return send

    # ---- TCP

    def _accept(self, _bits: int) -> None:
        try:
            fd, _ = self._tcp._accept()  # type: ignore[attr-defined]
        except OSError:
            return
        sock = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM, 0, fd)
        if len(self._connections) >= _MAX_CONNECTIONS:
            sock.close()
            return
        self._connections.add(_Connection(self, sock))

    @property
    def loop(self) -> "Loop":
        """netd's."""
        return self._server.loop

    def dropped(self, connection: "_Connection") -> None:
        """A connection is closed."""
        self._connections.discard(connection)

    def stream_query(self, data: bytes, reply: "Callable[[bytes], None]") -> None:
        """Serve a query that came over TCP."""
        self._server.catch_up()
        self._serve(data, True, reply)

    # ---- answers

    def _serve(self, data: bytes, stream: bool, reply: "Callable[[bytes], None]") -> None:
        try:
            query = parse_query(data)
        except BadMessage as bad:
            if bad.reply:
                reply(bad.reply)
            return
        asker = self._server.names.askers.get(self.id)
        if asker is None:
            reply(answer(query, (), code=SERVFAIL))
            return
        limit = MAX_MESSAGE if stream else query.size
        own = self._own(query, asker, limit)
        if own is not None:
            reply(own)
        elif not asker.forward:
            reply(answer(query, (), code=SERVFAIL))
        elif asker.dotted_only and query.kind in (A, AAAA) and "." not in query.name:
            reply(answer(query, ()))
        else:
            self._forward(data, query, asker, stream, limit, reply)

    def _own(self, query: Query, asker: "Asker", limit: int) -> "bytes | None":
        if query.klass != INTERNET:
            return None
        names = self._server.names
        if query.kind == PTR:
            found = names.reverse(asker, query.name)
            if found is None:
                return None
            try:
                return answer(query, [(PTR, TTL, encode_name(found))], limit=limit)
            except ValueError:
                return answer(query, (), code=FORMERR)  # a name that the protocol cannot carry
        addresses = names.lookup(asker, query.name, query.kind)
        if addresses is None:
            return None
        return answer(query, [(query.kind, TTL, address) for address in addresses], limit=limit)

    def _forward(
        self,
        data: bytes,
        query: Query,
        asker: "Asker",
        stream: bool,
        limit: int,
        reply: "Callable[[bytes], None]",
    ) -> None:
        if len(data) > _MAX_FORWARDED:
            reply(answer(query, (), code=FORMERR))
            return
        if len(self._forwards) >= _MAX_FORWARDS or (stream and self._streams >= _MAX_STREAM_FORWARDS):
            reply(answer(query, (), code=SERVFAIL))
            return
        made: list[Forward] = []

        def done(found: "bytes | None") -> None:
            if made:
                self._forwards.discard(made[0])
                self._streams -= stream
            reply(answer(query, (), code=SERVFAIL) if found is None else truncated(found, limit))

        forward = self._server.forwarder.ask(
            self.id, data, query.question, asker.servers or self._server.host_servers(), stream, self._give, done
        )
        if forward is not None and forward in self._server.forwarder.pending:
            made.append(forward)
            self._forwards.add(forward)
            self._streams += stream


class _Connection:
    """A client over TCP: queries and answers with their lengths before them (RFC 7766)."""

    __slots__ = ("_in", "_out", "_sandbox", "_socket", "heard")

    def __init__(self, sandbox: Sandbox, sock: "_socket.socket") -> None:
        self._sandbox = sandbox
        self._socket = sock
        self._in = bytearray()
        self._out = b""
        self.heard = time.monotonic()
        sock.setblocking(False)
        sandbox.loop.watch(sock.fileno(), IN, self._ready)

    def close(self) -> None:
        """Close it; answers that come later go nowhere."""
        if self._socket.fileno() >= 0:
            self._sandbox.loop.unwatch(self._socket.fileno())
            self._socket.close()
            self._sandbox.dropped(self)

    def _ready(self, bits: int) -> None:
        if bits & OUT:
            self._flush()
        if self._socket.fileno() < 0 or not bits & ~OUT:
            return
        try:
            data = self._socket.recv(MAX_MESSAGE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            return
        self.heard = time.monotonic()
        self._in += data
        while self._socket.fileno() >= 0 and len(self._in) >= 2:
            whole = 2 + int.from_bytes(self._in[:2], "big")
            if len(self._in) < whole:
                return
            message = bytes(self._in[2:whole])
            del self._in[:whole]
            self._sandbox.stream_query(message, self._reply)

    def _reply(self, message: bytes) -> None:
        if self._socket.fileno() < 0:
            return
        self._out += len(message).to_bytes(2, "big") + message
        if len(self._out) > _MAX_UNSENT:
            self.close()  # it asks, and does not read
            return
        self._flush()

    def _flush(self) -> None:
        try:
            while self._out:
                self._out = self._out[self._socket.send(self._out) :]
        except BlockingIOError:
            self._sandbox.loop.watch(self._socket.fileno(), IN | OUT, self._ready)
            return
        except OSError:
            self.close()
            return
        self._sandbox.loop.watch(self._socket.fileno(), IN, self._ready)
