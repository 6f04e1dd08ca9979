"""A monitor's line to wherryd: one connection at a time, requests in, replies and events out.

The first connection is handed over at birth; a wherryd that was started later connects to `<run_dir>/monitor.sock`, and
the newer connection replaces the older. Nothing here waits: what the other side does not take is kept until it does,
and events that nobody is there for are dropped, because state.json and exit.json say the same.
"""

import _socket
import errno

from wherry.errors import DescriptorsLost, InvalidArgument, to_wire
from wherry.linux.channel import Channel, close_all
from wherry.linux.loop import ERR, HUP, IN, OUT
from wherry.linux.sockets import listen_at
from wherry.monitor.child import private

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Callable
    from typing import Any

    from wherry.linux.loop import Loop
else:
    from _collections import deque  # `collections` would be an import for this alone

SOCKET_NAME = "monitor.sock"

# messages kept for a wherryd that does not read; beyond it is taken for dead
_MAX_QUEUE = 4096


class Control:
    """See the module.

    Args:
        loop: the monitor's.
        channel: the first connection.
        dispatch: answers a request: `(message, descriptors) -> reply values`, or None when it has taken a `replier`
            and answers later. It takes what it wants out of the descriptors; what it leaves is closed. What it raises
            is the reply.
        on_lost: called when the connection has closed and no other has taken its place.
    """

    __slots__ = ("_channel", "_dispatch", "_listener", "_loop", "_on_lost", "_queue")

    def __init__(
        self,
        loop: "Loop",
        channel: Channel,
        dispatch: "Callable[[dict[str, Any], dict[str, int]], dict[str, Any] | None]",
        on_lost: "Callable[[], None]",
    ) -> None:
        self._loop = loop
        self._dispatch = dispatch
        self._on_lost = on_lost
        self._channel: Channel | None = None
        self._listener: _socket.socket | None = None
        self._queue: deque[dict[str, Any]] = deque()
        self._take(channel)

    @property
    def connected(self) -> bool:
        return self._channel is not None

    def listen(self, run_dir: str) -> None:
        """Offer `<run_dir>/monitor.sock`, mode 0600; raises OSError."""
        self._listener = listen_at(run_dir, SOCKET_NAME, _socket.SOCK_SEQPACKET)
        self._listener.setblocking(False)
        self._loop.watch(self._listener.fileno(), IN, self._accept)

    def event(self, name: str, **values: "Any") -> None:
        """Tell wherryd, if it is there."""
        self._send({"event": name, **values})

    def replier(self, message: "dict[str, Any]") -> "Callable[[dict[str, Any], Exception | None], None]":
        """A function that answers `message` with values or an error, once; an answer to who has left is dropped."""
        channel, seq = self._channel, message.get("seq")

        def reply(values: "dict[str, Any]", error: "Exception | None") -> None:
            if self._channel is channel:
                self._send({"seq": seq, "error": to_wire(error)} if error else {"seq": seq, "ok": True, **values})

        return reply

    def close(self) -> None:
        """Close the connection and the listener; the socket file is the run directory's owner's to remove."""
        if self._listener is not None:
            self._loop.unwatch(self._listener.fileno())
            self._listener.close()
            self._listener = None
        self._drop()

    def flush(self) -> None:
        """Send what is queued, waiting up to a second for each message: the last words before the end."""
        channel = self._channel
        if channel is None:
            return
        channel.sock.settimeout(1.0)
        try:
            while self._queue:
                channel.send(self._queue.popleft())
        except OSError:
            self._queue.clear()

    # ---- inner

    def _take(self, channel: Channel) -> None:
        self._drop()
        channel.sock.setblocking(False)
        private.add(channel.fileno())
        self._channel = channel
        self._loop.watch(channel.fileno(), IN, self._ready)

    def _drop(self) -> None:
        if self._channel is not None:
            self._loop.unwatch(self._channel.fileno())
            private.discard(self._channel.fileno())
            self._channel.close()
            self._channel = None
        self._queue.clear()

    def _lost(self) -> None:
        self._drop()
        self._on_lost()

    def _accept(self, _bits: int) -> None:
        listener = self._listener
        if listener is None:
            return
        try:
            fd, _ = listener._accept()  # type: ignore[attr-defined]
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.ECONNABORTED):
                return
            raise
        self._take(Channel.from_fd(fd))

    def _ready(self, bits: int) -> None:
        channel = self._channel
        if channel is None:
            return
        if bits & OUT:
            self._send(None)
        if bits & (IN | HUP | ERR):
            try:
                received = channel.receive()
            except BlockingIOError:
                return
            except (InvalidArgument, DescriptorsLost) as error:
                self._send({"seq": error.facts.get("seq"), "error": to_wire(error)})
                return
            except OSError:
                received = None
            if received is None:
                self._lost()
                return
            self._answer(*received)

    def _answer(self, message: "dict[str, Any]", fds: "dict[str, int]") -> None:
        reply = self.replier(message)
        try:
            values = self._dispatch(message, fds)
            if values is not None:
                reply(values, None)
        except Exception as error:  # noqa: BLE001 - the caller must get an answer, whatever went wrong
            reply({}, error)
        finally:
            close_all(list(fds.values()))

    def _send(self, message: "dict[str, Any] | None") -> None:
        channel = self._channel
        if channel is None:
            return
        if message is not None:
            self._queue.append(message)
        try:
            while self._queue:
                try:
                    channel.send(self._queue[0])
                except InvalidArgument as error:  # over any size of a message
                    self._queue[0] = {"seq": self._queue[0].get("seq"), "error": to_wire(error)}
                    channel.send(self._queue[0])
                self._queue.popleft()
        except BlockingIOError:
            if len(self._queue) > _MAX_QUEUE:
                self._lost()
            else:
                self._loop.watch(channel.fileno(), IN | OUT, self._ready)
            return
        except OSError:
            self._lost()
            return
        self._loop.watch(channel.fileno(), IN, self._ready)
