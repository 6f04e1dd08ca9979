"""The process that speaks TLS with the API's clients, so that wherryd need not. `api/secured.py` executes it.

It runs as nobody. For each client whose handshake succeeds it makes a pair of unix sockets, gives wherryd one end, and
relays between the other end and the client. wherryd treats its end as a connection to its unix socket: it can hand it
to a monitor. When wherryd goes, the process stops listening, and ends when its last connection does.

wherryd sends:

    {"op": "serve"} with `certificate`, `key`, perhaps `authority`, and the listening sockets `0`, `1` …
    {"op": "renew"} with `certificate`, `key`, perhaps `authority`

The process sends:

    {"op": "connection"} and `plain`
    {"op": "refused", "client", "reason", "unsaid"}       at most five in ten seconds; `unsaid` counts those before
"""

import os
import resource
import socket
import time
import traceback
from collections import deque
from errno import EMFILE, ENFILE, ENOBUFS, ENOMEM

from wherry.errors import InvalidArgument
from wherry.linux.channel import Channel, close_all
from wherry.linux.loop import IN, OUT, Loop
from wherry.linux.nobody import become_nobody
from wherry.linux.tls import server_context, words
from wherry.linux.tlsrelay import Relay
from wherry.monitor.child import close_all_but, remember_arguments, set_title, settle_signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ssl

_MOST = 1024
_MOST_SHAKING = 256
_DESCRIPTORS_EACH = 2
_SPARE_DESCRIPTORS = 64
_ACCEPTED_AT_ONCE = 32
_SWEEP_SECONDS = 0.5
_PAUSE_SECONDS = 0.2
_REPORT_SECONDS = 10.0
_REPORTS = 5
_KEEPALIVE = {socket.TCP_KEEPIDLE: 30, socket.TCP_KEEPINTVL: 10, socket.TCP_KEEPCNT: 6}
"""A peer that vanished is noticed within a minute and a half."""


def main(fd: int) -> None:
    """Serve until wherryd and the last client are gone.

    Args:
        fd: our end of the channel to wherryd.
    """
    close_all_but((0, 1, 2, fd))
    settle_signals()
    remember_arguments()
    set_title("wherry-tls")
    become_nobody()
    Front(Channel.from_fd(fd)).run()


class Front:
    """The process's state.

    Args:
        channel: to wherryd; owned.
    """

    def __init__(self, channel: Channel) -> None:
        self._loop = Loop(_complain, lambda: None)
        self._channel: Channel | None = channel
        self._unsent: deque[tuple[dict[str, object], dict[str, int]]] = deque()
        self._context: ssl.SSLContext | None = None
        self._listeners: list[socket.socket] = []
        self._relays: set[Relay] = set()
        self._shaking: dict[Relay, str] = {}
        """Handshakes under way, the oldest first, with the clients' addresses."""
        self._reported: deque[float] = deque()
        self._unsaid = 0
        self._sweeps = False
        room = (resource.getrlimit(resource.RLIMIT_NOFILE)[0] - _SPARE_DESCRIPTORS) // _DESCRIPTORS_EACH
        self._most = max(16, min(_MOST, room))
        channel.sock.setblocking(False)
        self._watch_channel()

    def run(self) -> None:
        """Serve."""
        self._loop.run()

    # ---- wherryd

    def _watch_channel(self) -> None:
        if self._channel is not None:
            self._loop.watch(self._channel.fileno(), IN | (OUT if self._unsent else 0), self._channel_ready)

    def _channel_ready(self, bits: int) -> None:
        channel = self._channel
        if channel is None:
            return
        if bits & OUT:
            self._flush()
        try:
            received = channel.receive()
        except BlockingIOError:
            return
        except (OSError, InvalidArgument):
            received = None
        if received is None:
            self._orphaned()
            return
        message, fds = received
        try:
            self._renew(fds)
            if message["op"] == "serve":
                for name in sorted(name for name in fds if name.isdecimal()):
                    self._listen(socket.socket(fileno=os.dup(fds[name])))
        finally:
            close_all(list(fds.values()))

    def _renew(self, fds: dict[str, int]) -> None:
        # OpenSSL reads certificates by path; whoever came with an older one stays
        paths = {name: f"/proc/self/fd/{fd}" for name, fd in fds.items()}
        self._context = server_context(paths["certificate"], paths["key"], paths.get("authority"))

    def _orphaned(self) -> None:
        """wherryd is gone, or ends: streams that it has handed over go on."""
        channel, self._channel = self._channel, None
        if channel is not None:
            self._loop.unwatch(channel.fileno())
            channel.close()
        for listener in self._listeners:
            self._loop.unwatch(listener.fileno())
            listener.close()
        self._listeners.clear()
        while self._unsent:
            close_all(list(self._unsent.popleft()[1].values()))
        for relay in list(self._shaking):
            relay.abort()
        if not self._sweeps:
            self._loop.stop()

    def _send(self, message: dict[str, object], fds: dict[str, int]) -> None:
        """Send, now or when there is room; the descriptors are closed then."""
        if self._channel is None:
            close_all(list(fds.values()))
            return
        self._unsent.append((message, fds))
        self._flush()
        self._watch_channel()

    def _flush(self) -> None:
        while self._unsent and self._channel is not None:
            message, fds = self._unsent[0]
            try:
                self._channel.send(message, fds)
            except BlockingIOError:
                return
            except OSError:
                self._orphaned()
                return
            self._unsent.popleft()
            close_all(list(fds.values()))
        self._watch_channel()

    # ---- clients

    def _listen(self, listener: socket.socket) -> None:
        listener.setblocking(False)
        self._listeners.append(listener)
        self._loop.watch(listener.fileno(), IN, lambda _bits: self._accept(listener))

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(_ACCEPTED_AT_ONCE):
            try:
                wire, address = listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno in (EMFILE, ENFILE, ENOBUFS, ENOMEM):
                    self._pause(listener)
                return
            host = str(address[0])
            self._begin(wire, host, f"[{host}]:{address[1]}" if ":" in host else f"{host}:{address[1]}")

    def _pause(self, listener: socket.socket) -> None:
        self._loop.unwatch(listener.fileno())

        def again() -> None:
            if listener in self._listeners:
                self._loop.watch(listener.fileno(), IN, lambda _bits: self._accept(listener))

        self._loop.call_later(_PAUSE_SECONDS, again)

    def _begin(self, wire: socket.socket, host: str, client: str) -> None:
        if len(self._shaking) >= _MOST_SHAKING:
            self._make_room()
        if len(self._relays) >= self._most:
            self._relays = {relay for relay in self._relays if not relay.closed}
        if self._context is None or len(self._relays) >= self._most:
            wire.close()
            self._refused(client, "too many connections")
            return
        wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in _KEEPALIVE.items():
            wire.setsockopt(socket.IPPROTO_TCP, option, value)

        def joined() -> socket.socket:
            ours, theirs = socket.socketpair()
            self._shaking.pop(relay, None)
            self._send({"op": "connection"}, {"plain": theirs.detach()})
            return ours

        def ended(error: Exception | None) -> None:
            if self._shaking.pop(relay, None) is not None and error is not None:
                self._refused(client, words(error))

        relay = Relay(self._loop, wire, self._context, joined, ended)
        self._relays.add(relay)
        self._shaking[relay] = host
        if not self._sweeps:
            self._sweeps = True
            self._loop.call_later(_SWEEP_SECONDS, self._sweep)

    def _make_room(self) -> None:
        """End the oldest handshake of the address that has the most under way."""
        counts: dict[str, int] = {}
        for host in self._shaking.values():
            counts[host] = counts.get(host, 0) + 1
        busiest = max(counts, key=lambda host: counts[host])
        next(relay for relay, host in self._shaking.items() if host == busiest).abort(
            ConnectionAbortedError("too many handshakes")
        )

    def _refused(self, client: str, reason: str) -> None:
        now = time.monotonic()
        while self._reported and self._reported[0] < now - _REPORT_SECONDS:
            self._reported.popleft()
        if len(self._reported) >= _REPORTS:
            self._unsaid += 1
            return
        self._reported.append(now)
        self._send({"op": "refused", "client": client, "reason": reason, "unsaid": self._unsaid}, {})
        self._unsaid = 0

    def _sweep(self) -> None:
        now = time.monotonic()
        for relay in list(self._relays):
            relay.expire(now)
            if relay.closed:
                self._relays.discard(relay)
        self._sweeps = bool(self._relays)
        if self._sweeps:
            self._loop.call_later(_SWEEP_SECONDS, self._sweep)
        elif self._channel is None:
            self._loop.stop()


def _complain(error: BaseException) -> None:
    # to wherryd's log
    traceback.print_exception(error)
