"""A listening socket whose connections leave room for what is being answered.

asyncio's own server accepts until the process has no descriptor left; then the requests that it accepted fail. This one
leaves new connections in the kernel's queue while only half of the reserve is free (`linux.descriptors`).
"""

import asyncio
import logging
import socket
from collections.abc import Callable

from wherry.linux import descriptors
from wherry.linux.background import background

log = logging.getLogger("wherry.api")

_AT_ONCE = 64
_LOOK_SECONDS = 0.05
_TAKE_SECONDS = 60.0


class Acceptor:
    """Accepts the connections of one socket, until it is closed.

    Args:
        sock: bound, non-blocking; owned.
        factory: makes the protocol of a connection.
        backlog: listen(2)'s.
    """

    def __init__(self, sock: socket.socket, factory: Callable[[], asyncio.Protocol], backlog: int) -> None:
        self._sock = sock
        self._factory = factory
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        sock.listen(backlog)
        self._loop.add_reader(sock, self._accept)

    def close(self) -> None:
        """Stop listening; accepted connections go on."""
        if self._timer is not None:
            self._timer.cancel()
        self._loop.remove_reader(self._sock)
        self._sock.close()

    def _accept(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                accepted, _ = self._sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                log.error("no connection can be accepted: %s", error.strerror)
                self._pause()
                return
            accepted.setblocking(False)
            background().start("take a connection", self._serve(accepted), _TAKE_SECONDS, awaited=False)
            most = _most()
            if accepted.fileno() >= most and descriptors.beyond(most):
                log.warning(
                    "new connections wait: %d of the %d descriptors that wherryd may have are in use",
                    most,
                    descriptors.limit(),
                )
                self._pause()
                return

    async def _serve(self, accepted: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(self._factory, accepted)
        except OSError as error:
            log.info("a connection ended before it was served: %s", error)
            accepted.close()

    def _pause(self) -> None:
        self._loop.remove_reader(self._sock)
        self._timer = self._loop.call_later(_LOOK_SECONDS, self._resume)

    def _resume(self) -> None:
        if descriptors.beyond(_most()):
            self._timer = self._loop.call_later(_LOOK_SECONDS, self._resume)
        else:
            self._timer = None
            self._loop.add_reader(self._sock, self._accept)


def _most() -> int:
    """With how many descriptors in use no further connection is accepted."""
    return descriptors.limit() - descriptors.reserve() // 2
