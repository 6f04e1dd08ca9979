"""Requests and replies over a message channel, from wherryd's event loop."""

import asyncio
import os
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from wherry.errors import DescriptorsLost, KernelError, WherryError, from_wire
from wherry.linux.channel import Channel, close_all

Event = dict[str, Any]


class Requests:
    """Requests and replies over a channel, from the event loop.

    Args:
        channel: owned; becomes non-blocking.
        on_message: gets what is not a reply.
        on_close: called once when the other side has gone.
        gone: makes the error of requests that get no answer.
    """

    def __init__(
        self,
        channel: Channel,
        on_message: Callable[[Event], None],
        on_close: Callable[[], None],
        gone: Callable[[], Exception],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._channel: Channel | None = channel
        self._on_message = on_message
        self._on_close = on_close
        self._gone = gone
        self._seq = 0
        self._pending: dict[int, asyncio.Future[tuple[Event, dict[str, int]]]] = {}
        self._queue: deque[tuple[Event, dict[str, int]]] = deque()
        channel.sock.setblocking(False)
        self._fd = channel.fileno()
        self._loop.add_reader(self._fd, self.read)

    @property
    def open(self) -> bool:
        return self._channel is not None

    async def request(self, message: Event, fds: Mapping[str, int] | None = None) -> tuple[Event, dict[str, int]]:
        """Send and wait; `fds` stay the caller's. Raises the error that came back, or `gone()`."""
        if self._channel is None:
            raise self._gone()
        self._seq += 1
        seq = self._seq
        future: asyncio.Future[tuple[Event, dict[str, int]]] = self._loop.create_future()
        self._pending[seq] = future
        try:
            self.post({**message, "seq": seq}, fds)
            return await future
        finally:
            self._pending.pop(seq, None)

    def post(self, message: Event, fds: Mapping[str, int] | None = None) -> None:
        """Send without waiting for anything, in order; `fds` stay the caller's. Nothing is sent once it is closed."""
        if self._channel is not None:
            # duplicated: the caller may close its own before a full socket lets the message go
            self._queue.append((message, _duplicates(fds or {})))
            self._flush()

    def close(self) -> None:
        """Close; pending requests fail. `on_close` is not called."""
        channel, self._channel = self._channel, None
        if channel is None:
            return
        self._loop.remove_reader(self._fd)
        self._loop.remove_writer(self._fd)
        channel.close()
        for _, fds in self._queue:
            close_all(list(fds.values()))
        self._queue.clear()
        for future in self._pending.values():
            if not future.done():
                future.set_exception(self._gone())
                future.exception()  # whoever waited may be gone: no complaint then
        self._pending.clear()

    def _closed(self) -> None:
        if self._channel is not None:
            self.close()
            self._on_close()

    def _flush(self) -> None:
        channel = self._channel
        while channel is not None and self._queue:
            message, fds = self._queue[0]
            try:
                channel.send(message, fds)
            except BlockingIOError:
                self._loop.add_writer(self._fd, self._flush)
                return
            except WherryError as error:  # over the size of a message: this request only
                future = self._pending.get(message.get("seq", 0))
                if future is not None and not future.done():
                    future.set_exception(error)
            except OSError:
                # it takes nothing more; what it has said before is still to be heard
                while self.read():
                    continue
                self._closed()
                return
            self._queue.popleft()
            close_all(list(fds.values()))
        if channel is not None:
            self._loop.remove_writer(self._fd)

    def read(self) -> bool:
        """Take what has come; called by the loop, and by who knows that these are the last words.

        Returns:
            Whether there may be more.
        """
        for _ in range(64):
            channel = self._channel
            if channel is None:
                return False
            try:
                received = channel.receive()
            except BlockingIOError:
                return False
            except DescriptorsLost as error:
                lost = self._pending.get(error.facts.get("seq", 0))
                if lost is not None and not lost.done():
                    lost.set_exception(error)
                continue
            except (OSError, WherryError):
                received = None
            if received is None:
                self._closed()
                return False
            message, fds = received
            if "seq" not in message:
                close_all(list(fds.values()))
                self._on_message(message)
                continue
            future = self._pending.get(message["seq"]) if message["seq"] is not None else None
            if future is None or future.done():
                close_all(list(fds.values()))
            elif "error" in message:
                close_all(list(fds.values()))
                future.set_exception(from_wire(message["error"]))
            else:
                future.set_result((message, fds))
        return True


def _duplicates(fds: Mapping[str, int]) -> dict[str, int]:
    """Duplicate all, or none: raises KernelError at the limit of descriptors."""
    made: dict[str, int] = {}
    try:
        for name, fd in fds.items():
            made[name] = os.dup(fd)
    except OSError as error:
        close_all(list(made.values()))
        raise KernelError("dup", error.errno or 0) from None
    return made
