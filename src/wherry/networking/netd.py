"""The line to netd: messages that wait for nobody, in order, with descriptors (`network/netd.py` has the messages)."""

import _socket
import asyncio
from collections.abc import Callable, Mapping

from wherry.linux.channel import Channel, close_all
from wherry.linux.sockets import connect_at
from wherry.monitor.requests import Requests
from wherry.values.jsontypes import Json

SOCKET = "netd.sock"
HELPER = {"module": "wherry.network.netd", "socket": SOCKET}
SYNC_SECONDS = 10.0


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
        self._requests = Requests(Channel(self._connect()), _unasked, on_closed, _gone)
        self.send({"op": "control"})

    def _connect(self) -> _socket.socket:
        return connect_at(self._run_dir, SOCKET, _socket.SOCK_SEQPACKET, blocking=False)

    def another(self) -> int:
        """A further connection, for a monitor; the caller closes it. Raises OSError."""
        return self._connect().detach()

    def send(self, message: Json, fds: Mapping[str, int] | None = None) -> None:
        """Send, now if there is room; descriptors stay the caller's."""
        self._requests.post(message, fds)

    async def sync(self) -> Json:
        """Wait until netd has taken everything; gives what it then holds (`sandboxes`, `relays`).

        Raises:
            ConnectionError: it is gone.
            TimeoutError: it does not answer.
        """
        async with asyncio.timeout(SYNC_SECONDS):
            message, fds = await self._requests.request({"op": "sync"})
        close_all(list(fds.values()))
        return message

    def close(self) -> None:
        """Close it; netd goes on with what it has."""
        self._requests.close()


def _gone() -> ConnectionError:
    return ConnectionError("netd is gone")


def _unasked(_message: Json) -> None:
    """It says nothing unasked that matters here."""
