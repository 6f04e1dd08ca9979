"""The line to netd: messages that wait for nobody, in order, with descriptors (`network/netd.py` has the messages)."""

import _socket
import asyncio
import os
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from wherry.errors import WherryError
from wherry.linux.channel import Channel, close_all
from wherry.linux.sockets import connect_at

SOCKET = "netd.sock"
HELPER = {"module": "wherry.network.netd", "socket": SOCKET}
SYNC_SECONDS = 10.0

Message = dict[str, Any]


class NetdLine:
    """One control connection.

    Args:
        run_dir: netd's run directory.
        on_closed: called once when netd has closed it.

    Raises:
        OSError: nobody listens.
    """

    def __init__(self, run_dir: str, on_closed: Callable[[], None]) -> None:
        self._run_dir = run_dir
        self._on_closed = on_closed
        self._loop = asyncio.get_running_loop()
        self._queue: deque[tuple[Message, dict[str, int]]] = deque()
        self._waiting: dict[int, asyncio.Future[Message]] = {}
        self._sequence = 0
        self._channel: Channel | None = Channel(self._connect())
        self._fd = self._channel.fileno()
        self._loop.add_reader(self._fd, self._readable)
        self.send({"op": "control"})

    def _connect(self) -> _socket.socket:
        return connect_at(self._run_dir, SOCKET, _socket.SOCK_SEQPACKET, blocking=False)

    def another(self) -> int:
        """A further connection, for a monitor; the caller closes it. Raises OSError."""
        return self._connect().detach()

    def send(self, message: Message, fds: Mapping[str, int] | None = None) -> None:
        """Send, now if there is room; descriptors stay the caller's."""
        if self._channel is not None:
            self._queue.append((message, {name: os.dup(fd) for name, fd in (fds or {}).items()}))
            self._flush()

    async def sync(self) -> Message:
        """Wait until netd has taken everything; gives what it then holds (`sandboxes`, `relays`).

        Raises:
            ConnectionError: it is gone.
            TimeoutError: it does not answer.
        """
        if self._channel is None:
            raise ConnectionError("netd is gone")
        self._sequence += 1
        future: asyncio.Future[Message] = self._loop.create_future()
        self._waiting[self._sequence] = future
        self.send({"op": "sync", "seq": self._sequence})
        async with asyncio.timeout(SYNC_SECONDS):
            return await future

    def close(self) -> None:
        """Close it; netd goes on with what it has."""
        channel, self._channel = self._channel, None
        if channel is None:
            return
        self._loop.remove_reader(self._fd)
        self._loop.remove_writer(self._fd)
        channel.close()
        for _, fds in self._queue:
            close_all(list(fds.values()))
        self._queue.clear()
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(ConnectionError("netd is gone"))
                future.exception()  # whoever waited may be gone: no complaint then
        self._waiting.clear()

    def _lost(self) -> None:
        if self._channel is not None:
            self.close()
            self._on_closed()

    def _flush(self) -> None:
        while self._channel is not None and self._queue:
            message, fds = self._queue[0]
            try:
                self._channel.send(message, fds)
            except BlockingIOError:
                self._loop.add_writer(self._fd, self._flush)
                return
            except OSError:
                self._lost()
                return
            self._queue.popleft()
            close_all(list(fds.values()))
        if self._channel is not None:
            self._loop.remove_writer(self._fd)

    def _readable(self) -> None:
        while self._channel is not None:
            try:
                received = self._channel.receive()
            except BlockingIOError:
                return
            except (OSError, WherryError):
                received = None
            if received is None:
                self._lost()
                return
            message, fds = received
            close_all(list(fds.values()))
            future = self._waiting.pop(int(message.get("seq") or 0), None)
            if future is not None and not future.done():
                future.set_result(message)
