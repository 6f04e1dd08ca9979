"""A container's resolver, the monitor's part: it holds the two sockets, and lends them to netd.

netd may die and another come: the sockets stay, with what waits in them. Whoever holds the channel may ask for sockets
towards upstream servers, `{"seq", "family", "kind"}`: netd itself may not enter the container's network namespace.
"""

import os

from wherry.errors import WherryError
from wherry.linux.channel import Channel, close_all
from wherry.linux.loop import IN
from wherry.network.dns_sockets import open_sockets, open_upstream

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.linux.loop import Loop


class Resolver:
    """The sockets of one sandbox.

    Args:
        netns_fd: its network namespace; stays the caller's.
        sockets: the UDP and the TCP socket where they are open already; owned.

    Raises:
        KernelError: they cannot be opened.
    """

    __slots__ = ("_channel", "_loop", "_netns_fd", "_sockets")

    def __init__(self, netns_fd: int, sockets: "tuple[int, int] | None" = None) -> None:
        self._netns_fd = netns_fd
        self._sockets = open_sockets(netns_fd) if sockets is None else sockets
        self._channel: Channel | None = None
        self._loop: Loop | None = None

    def lend(self, loop: "Loop", id_: str, fd: int) -> None:
        """Give the sockets to netd.

        Args:
            loop: the monitor's.
            id_: the container's.
            fd: a connection to netd; owned.

        Raises:
            OSError: netd is gone.
        """
        self._drop()
        channel = Channel.from_fd(fd)
        try:
            channel.sock.setblocking(False)
            channel.send({"op": "sandbox", "id": id_}, {"udp": self._sockets[0], "tcp": self._sockets[1]})
        except BaseException:
            channel.close()
            raise
        self._channel, self._loop = channel, loop
        loop.watch(channel.fileno(), IN, self._asked)

    def close(self) -> None:
        """Close everything; netd closes its copies when it sees the channel's end."""
        self._drop()
        close_all([fd for fd in self._sockets if fd >= 0])
        self._sockets = (-1, -1)

    def _drop(self) -> None:
        if self._channel is not None and self._loop is not None:
            self._loop.unwatch(self._channel.fileno())
            self._channel.close()
            self._channel = None

    def _asked(self, _bits: int) -> None:
        channel = self._channel
        if channel is None:
            return
        try:
            received = channel.receive()
            if received is not None:
                message, fds = received
                close_all(list(fds.values()))
                self._answer(channel, int(message["seq"]), int(message["family"]), int(message["kind"]))
                return
        except BlockingIOError:
            return
        except (OSError, WherryError, KeyError, TypeError, ValueError):
            pass  # netd has died, or is none: another will come
        self._drop()

    def _answer(self, channel: Channel, seq: int, family: int, kind: int) -> None:
        try:
            made = open_upstream(self._netns_fd, family, kind)
        except WherryError:
            channel.send({"seq": seq})
            return
        try:
            channel.send({"seq": seq, "family": family, "kind": kind}, {"socket": made})
        finally:
            os.close(made)
