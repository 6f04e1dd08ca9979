"""Published ports that netd relays: IPv6 towards containers without, and `::1`.

The socket that holds such a port for its container listens, and netd accepts from it: nobody is refused in between. The
monitor keeps its copy, from which a later netd gets its own.
"""

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from wherry.containers.model import Container
from wherry.errors import NotSupported, PortUnavailable, WherryError
from wherry.linux.channel import close_all, pair
from wherry.network.ports import HeldPort, PublishedPort
from wherry.networking.netd import NetdLine
from wherry.values.jsontypes import Json

log = logging.getLogger("wherry.names")

_BACKLOG = 1024
_BUFFER = 212992
_TRIES = 400
_TRY_PAUSE = 0.005

Place = tuple[str, str, int]  # protocol, address, port


class Relays:
    """All relays of one engine.

    Args:
        line: the connection to netd, if there is one.
        ensure: starts netd.
        find: a container by id; None where there is none.
        keep: runs a coroutine in the background, under a name.
    """

    def __init__(
        self,
        line: Callable[[], NetdLine | None],
        ensure: Callable[[], Coroutine[Any, Any, None]],
        find: Callable[[str], Container | None],
        keep: Callable[[str, Coroutine[Any, Any, None]], None],
    ) -> None:
        self._line = line
        self._ensure = ensure
        self._find = find
        self._keep = keep
        self._ports: dict[str, dict[Place, PublishedPort]] = {}  # by owner

    def __bool__(self) -> bool:
        return bool(self._ports)

    def publish(self, owner: str, held: Sequence[HeldPort]) -> None:
        """Relay these ports of a container from now on, and no others of it. Nothing is waited for.

        Args:
            owner: the container's id.
            held: with their sockets where they are new; they stay the caller's.

        Raises:
            PortUnavailable: a socket cannot listen, since another does.
        """
        for one in held:
            if one.fd >= 0:
                _listen(one)
        before = self._ports.get(owner, {})
        now = self._ports[owner] = {_place(one.port): one.port for one in held}
        if not now:
            del self._ports[owner]
        line = self._line()
        if line is None:
            self._keep("start netd for a relay", self._ensure())  # and it is told then
            return
        for place in before.keys() - now.keys():
            line.send({"op": "no-relay", "id": _key(owner, place)})
        for one in held:
            line.send(_message(owner, one.port), {"socket": one.fd} if one.fd >= 0 else None)

    def adopt(self, owner: str, held: Sequence[HeldPort]) -> None:
        """Remember what a living container's ports are; netd is told when it is found."""
        if held:
            self._ports[owner] = {_place(one.port): one.port for one in held}

    async def withdraw(self, owner: str) -> None:
        """Relay none of a container's ports any more; they are free when this returns."""
        ports, line = self._ports.pop(owner, {}), self._line()
        if line is None or not ports:
            return
        for place in ports:
            line.send({"op": "no-relay", "id": _key(owner, place)})
        try:
            await line.sync()
        except (ConnectionError, TimeoutError) as error:
            log.warning("netd: %s", error)

    def restore(self, line: NetdLine, held: Sequence[str]) -> None:
        """netd has started, or was found again: give it what it lacks, take back what is nobody's.

        Args:
            held: ids of the relays that it has.
        """
        wanted = {_key(owner, place): owner for owner, ports in self._ports.items() for place in ports}
        for key in set(held) - wanted.keys():
            line.send({"op": "no-relay", "id": key})
        for owner in {wanted[key] for key in wanted.keys() - set(held)}:
            self._keep(f"relays of {owner[:12]}", self._fetch(owner))

    async def _fetch(self, owner: str) -> None:
        """Get the sockets from the container's monitor."""
        for _ in range(_TRIES):
            container, line = self._find(owner), self._line()
            if container is None or line is None or owner not in self._ports:
                return
            if container.monitor is not None and container.running:
                try:
                    self._give(line, owner, await _sockets_of(container))
                    return
                except NotSupported as error:
                    log.warning("relays of %s: %s", owner[:12], error)
                    return  # a monitor of an older version
                except (WherryError, OSError) as error:
                    log.info("relays of %s: %s", owner[:12], error)
            await asyncio.sleep(_TRY_PAUSE)

    def _give(self, line: NetdLine, owner: str, fds: list[int]) -> None:
        try:
            for fd in fds:
                port = self._ports.get(owner, {}).get(_place_of(fd))
                if port is not None:
                    _listen(HeldPort(port, fd))
                    line.send(_message(owner, port), {"socket": fd})
        finally:
            close_all(fds)


async def _sockets_of(container: Container) -> list[int]:
    """The sockets by which a container's monitor holds its ports; the caller closes them."""
    if container.monitor is None:
        return []
    ours, theirs = pair()
    fds: list[int] = []
    try:
        try:
            await container.monitor.request("ports", fds={"to": theirs.fileno()})
        finally:
            theirs.close()
        # all has been sent by now, and the end
        while (received := ours.receive()) is not None:
            fds += received[1].values()
    except BaseException:
        close_all(fds)
        raise
    finally:
        ours.close()
    return fds


def _listen(held: HeldPort) -> None:
    with socket.socket(fileno=os.dup(held.fd)) as sock:
        try:
            if held.port.protocol == "tcp":
                # its connections have this from it: in TIME_WAIT they must not keep the next owner from the port
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                sock.listen(_BACKLOG)
            else:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        except OSError as error:
            reason = os.strerror(error.errno or 0).lower()
            words = f"failed to bind host port for {held.port}: {reason}"
            raise PortUnavailable(words, host_ip=held.port.host_ip, host_port=held.port.host_port) from None


def _message(owner: str, port: PublishedPort) -> Json:
    return {
        "op": "relay",
        "id": _key(owner, _place(port)),
        "protocol": port.protocol,
        "address": port.container_ip,
        "port": port.container_port,
    }


def _place(port: PublishedPort) -> Place:
    return port.protocol, port.host_ip, port.host_port


def _place_of(fd: int) -> Place:
    with socket.socket(fileno=os.dup(fd)) as sock:
        protocol = "udp" if sock.type == socket.SOCK_DGRAM else "tcp"
        address = sock.getsockname()
        return protocol, str(address[0]), int(address[1])


def _key(owner: str, place: Place) -> str:
    return f"{owner}/{place[1]}/{place[2]}/{place[0]}"
