"""Ports on `::1`, relayed by netd: streams with half-closes and back-pressure, datagrams, refusals, another netd."""

import asyncio
import hashlib
import os
import socket
import threading

import pytest

from wherry.engine.helpers import Helpers
from wherry.engine.names import Names
from wherry.errors import PortUnavailable
from wherry.network.ports import PublishedPort
from wherry.paths import Roots

from .conftest import helpers_of, kill, until

pytestmark = pytest.mark.root
SECONDS = 20.0
OWNER = "c" * 64


class Config:
    """daemon.json's names."""

    dns: list[str] = []  # noqa: RUF012
    dns_options: list[str] = []  # noqa: RUF012


class Owner:
    """A container that runs."""

    running = True


class Containers(list[Owner]):
    """The registry."""

    def find(self, _reference: str) -> Owner:
        return Owner()


def _names(helpers: Helpers) -> Names:
    return Names(helpers, Config(), Containers(), lambda _network: [], lambda _container: [])  # type: ignore[arg-type]


def _free_port() -> int:
    with socket.socket(socket.AF_INET6) as probe:
        probe.bind(("::1", 0))
        return int(probe.getsockname()[1])


def _stream_server() -> socket.socket:
    """Reads to the end, then answers with the digest of what came, twice a megabyte of it, and ends."""
    listener = socket.create_server(("127.0.0.1", 0))

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
    """Both protocols, whole and with their ends; netd killed and withdrawn; a port that is taken is refused."""

    async def main() -> None:
        server = _stream_server()
        echo = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        echo.bind(("127.0.0.1", 0))
        echo.settimeout(SECONDS)
        port = _free_port()
        ports = [
            PublishedPort("tcp", "::1", port, "127.0.0.1", server.getsockname()[1]),
            PublishedPort("udp", "::1", port, "127.0.0.1", echo.getsockname()[1]),
        ]
        async with helpers_of(roots) as helpers:
            names = _names(helpers)
            try:
                await names.publish(OWNER, ports)
                await names.publish(OWNER, ports)
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
                with socket.create_server(("::1", 0), family=socket.AF_INET6) as taken:
                    number = taken.getsockname()[1]
                    with pytest.raises(PortUnavailable, match="address already in use"):
                        await names.publish(OWNER, [PublishedPort("tcp", "::1", number, "127.0.0.1", 1)])
                helper = helpers.helper("netd", {})
                old = helper.pid
                kill(old)
                await until(lambda: helper.pid not in (0, old), "netd runs again")
                await names.publish(OWNER, ports)
                assert len(await asyncio.to_thread(_talk, port, b"again")) == 32 + (2 << 20)
                names.close()
                names = _names(helpers)  # as a later wherryd
                await names.start()
                await helper.ensure()
                await names.publish(OWNER, ports)
                assert len(await asyncio.to_thread(_talk, port, b"again")) == 32 + (2 << 20)
                await names.withdraw(OWNER)
                with pytest.raises(ConnectionRefusedError):
                    _talk(port, b"")
            finally:
                names.close()
                server.close()
                echo.close()
                await helpers.close(remove=True)

    asyncio.run(main())
