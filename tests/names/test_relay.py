"""Ports on `::1`, relayed by netd: streams with half-closes and back-pressure, datagrams, refusals, another netd."""

import asyncio
import hashlib
import os
import socket
import threading
from typing import Any

import pytest

from wherry.errors import PortUnavailable
from wherry.linux.channel import Channel
from wherry.network.ports import HeldPort, PublishedPort
from wherry.networking.names import Names, Nothing
from wherry.paths import Roots
from wherry.sandbox.helpers import Helpers

from .conftest import helpers_of, kill

pytestmark = pytest.mark.root
SECONDS = 20.0
OWNER = "c" * 64


class Config:
    """daemon.json's names."""

    dns: list[str] = []  # noqa: RUF012
    dns_options: list[str] = []  # noqa: RUF012


class Monitor:
    """Holds the ports' sockets, and lends them."""

    pid = 1

    def __init__(self, held: list[HeldPort]) -> None:
        self.held = held

    async def request(self, op: str, *, fds: dict[str, int]) -> dict[str, Any]:
        """The operation `ports`."""
        assert op == "ports"
        channel = Channel.from_fd(os.dup(fds["to"]))
        channel.send({}, {f"port:{number}": one.fd for number, one in enumerate(self.held)})
        channel.close()
        return {}


class Owner:
    """A container that runs."""

    id = OWNER
    running = True

    def __init__(self, held: list[HeldPort]) -> None:
        self.monitor = Monitor(held)


class Containers(list[Owner]):
    """The registry."""

    def find(self, _reference: str) -> Owner:
        """There is one."""
        return self[0]


class View(Nothing):
    """No networks, and one container's ports."""

    def __init__(self, held: list[HeldPort]) -> None:
        self._held = held

    def relayed_by(self, _container: Any) -> list[HeldPort]:
        """Without the sockets, as after an adoption."""
        return [HeldPort(one.port) for one in self._held]


def _names(helpers: Helpers, held: list[HeldPort]) -> Names:
    names = Names(helpers, Config(), Containers([Owner(held)]))  # type: ignore[arg-type]
    names.watch(View(held))
    return names


def _hold(protocol: str, port: int, target: int) -> HeldPort:
    """A port of ::1, bound, as `HostPorts` has it."""
    kind = socket.SOCK_DGRAM if protocol == "udp" else socket.SOCK_STREAM
    sock = socket.socket(socket.AF_INET6, kind)
    sock.bind(("::1", port))
    return HeldPort(PublishedPort(protocol, "::1", port, "127.0.0.1", target), sock.detach())


def _free_port() -> int:
    with socket.socket(socket.AF_INET6) as probe:
        probe.bind(("::1", 0))
        return int(probe.getsockname()[1])


def _stream_server() -> socket.socket:
    """Reads to the end, then answers with the digest of what came, twice a megabyte of it, and ends."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(SECONDS)

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection, connection.makefile("rb") as file:
                data = file.read()
                connection.sendall(hashlib.sha256(data).digest() + bytes(2 << 20))

    threading.Thread(target=serve, daemon=True).start()
    return listener


def _talk(port: int, data: bytes) -> bytes:
    with socket.create_connection(("::1", port), SECONDS) as client:
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)
        with client.makefile("rb") as file:
            return file.read()


def test_ports_are_relayed(roots: Roots) -> None:
    """Both protocols, whole and with their ends; over a new netd and a new wherryd; elsewhere; and withdrawn."""

    async def main() -> None:
        server, other = _stream_server(), _stream_server()
        echo = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        echo.bind(("127.0.0.1", 0))
        echo.settimeout(SECONDS)
        port = _free_port()
        held = [_hold("tcp", port, server.getsockname()[1]), _hold("udp", port, echo.getsockname()[1])]
        async with helpers_of(roots) as helpers:
            names = _names(helpers, held)
            try:
                names.relays.publish(OWNER, held)
                # nobody waited for netd: who connects already is in the queue
                sent = os.urandom(3 << 20)
                for answer in await asyncio.gather(*(asyncio.to_thread(_talk, port, sent) for _ in range(5))):
                    assert answer[:32] == hashlib.sha256(sent).digest()
                    assert len(answer) == 32 + (2 << 20)
                with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as client:
                    client.settimeout(SECONDS)
                    client.sendto(b"hello", ("::1", port))
                    data, sender = await asyncio.to_thread(echo.recvfrom, 100)
                    echo.sendto(data + b"!", sender)
                    assert await asyncio.to_thread(client.recv, 100) == b"hello!"
                helper = helpers.helper("netd", {})
                old = helper.pid
                kill(old)
                # in the queue of a socket that the monitor still has
                assert len(await asyncio.to_thread(_talk, port, b"again")) == 32 + (2 << 20)
                assert helper.pid != old
            finally:
                names.close()
                server.close()
                echo.close()
        async with helpers_of(roots) as helpers:  # as a later wherryd
            names = _names(helpers, held)
            try:
                await names.start()
                moved = PublishedPort("tcp", "::1", port, "127.0.0.1", other.getsockname()[1])
                names.relays.publish(OWNER, [HeldPort(moved), HeldPort(held[1].port)])
                assert len(await asyncio.to_thread(_talk, port, b"other")) == 32 + (2 << 20)
                await names.relays.withdraw(OWNER)
                with pytest.raises(ConnectionRefusedError):
                    _talk(port, b"")
            finally:
                names.close()
                other.close()
                for one in held:
                    one.close()
                await helpers.close(remove=True)

    asyncio.run(main())


def test_a_port_that_another_listens_on_is_refused(roots: Roots) -> None:
    """In words; nothing is relayed then."""

    async def main() -> None:
        with socket.socket(socket.AF_INET6) as first, socket.socket(socket.AF_INET6) as second:
            for sock in (first, second):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            first.bind(("::1", 0))
            number = first.getsockname()[1]
            second.bind(("::1", number))
            second.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 0)
            first.listen()
            async with helpers_of(roots) as helpers:
                names = _names(helpers, [])
                held = HeldPort(PublishedPort("tcp", "::1", number, "127.0.0.1", 1), second.fileno())
                with pytest.raises(PortUnavailable, match="address already in use"):
                    names.relays.publish(OWNER, [held])
                assert not names.relays
                names.close()

    asyncio.run(main())
