"""The only way out of the box in which git runs: a SOCKS5 server (RFC 1928) that connects to what a build may reach.

A name is resolved here, for each connection, and its addresses are judged before one of them is connected to.
"""

import asyncio
import base64
import contextlib
import ipaddress
import os
import socket
from collections.abc import Mapping
from types import TracebackType
from typing import Self
from urllib.parse import unquote

from yarl import URL

from wherry.distribution.guard import Blocked
from wherry.distribution.proxies import proxy_for
from wherry.distribution.reach import Reach
from wherry.errors import Forbidden

_CONNECT_SECONDS = 20.0
_PIECE = 1 << 16
_HEAD = 1 << 14
_MOST = 32
_VERSION, _NO_PASSWORD, _CONNECT = 5, 0, 1
_DONE, _FAILED, _NOT_ALLOWED, _UNREACHABLE = 0, 1, 2, 4
_NAME, _IPV4, _IPV6 = 3, 1, 4

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Relay:
    """Serves one checkout; an async context manager.

    Args:
        reach: what may be reached.
        scheme: `http`, `https`, `ssh` or `git`: the former two may go through the engine's own proxy.
        environment: where that is named.

    Attributes:
        refusals: why something was not connected to.
    """

    def __init__(self, reach: Reach, scheme: str, environment: Mapping[str, str] | None = None) -> None:
        self._reach = reach
        self._scheme = scheme
        self._environment = os.environ if environment is None else environment
        self._servers: list[asyncio.Server] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self.refusals: list[str] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for server in self._servers:
            server.close()
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def serve(self, listener: socket.socket) -> None:
        """Answer at a socket that listens inside a box."""
        listener.setblocking(False)
        self._servers.append(await asyncio.start_server(self._connected, sock=listener))

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            if len(self._tasks) <= _MOST:
                await self._one(reader, writer)
        except (OSError, EOFError, asyncio.IncompleteReadError, TimeoutError):
            pass  # either side went
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with asyncio.timeout(_CONNECT_SECONDS):
            host, port = await _asked(reader, writer)
            try:
                outside = await self._open(host, port)
            except (Blocked, Forbidden) as error:
                self.refusals.append(str(error))
                writer.write(_answer(_NOT_ALLOWED))
                return
            except OSError as error:
                self.refusals.append(f"{host}:{port}: {error.strerror or error}")
                writer.write(_answer(_UNREACHABLE))
                return
        writer.write(_answer(_DONE))
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_pump(reader, outside[1]))
                group.create_task(_pump(outside[0], writer))
        except* OSError:
            pass
        finally:
            outside[1].close()

    async def _open(self, host: str, port: int) -> Streams:
        proxy = None
        if self._scheme in ("http", "https"):
            shown = f"[{host}]" if ":" in host else host
            proxy = proxy_for(URL(f"{self._scheme}://{shown}:{port}"), self._environment)
        if proxy is not None:
            self._reach.check_host("127.0.0.1" if host.lower() == "localhost" else host)
            return await _through(proxy, host, port)
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        for address in addresses:
            self._reach.check(host, address)
        failure: OSError = OSError("no address")
        for address in addresses:
            try:
                # the very address that was judged: the name is not asked for again
                return await asyncio.open_connection(address, port)
            except OSError as error:
                failure = error
        raise failure


async def _asked(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> tuple[str, int]:
    """Read what a client wants to be connected to."""
    version, count = await reader.readexactly(2)
    methods = await reader.readexactly(count)
    if version != _VERSION or _NO_PASSWORD not in methods:
        raise EOFError
    writer.write(bytes((_VERSION, _NO_PASSWORD)))
    version, command, _, kind = await reader.readexactly(4)
    if version != _VERSION or command != _CONNECT:
        raise EOFError
    if kind == _NAME:
        host = (await reader.readexactly((await reader.readexactly(1))[0])).decode("ascii", "replace")
    elif kind in (_IPV4, _IPV6):
        host = str(ipaddress.ip_address(await reader.readexactly(4 if kind == _IPV4 else 16)))
    else:
        raise EOFError
    if not host or any(char.isspace() or not char.isprintable() for char in host):
        raise EOFError
    return host, int.from_bytes(await reader.readexactly(2), "big")


def _answer(code: int) -> bytes:
    return bytes((_VERSION, code, 0, _IPV4)) + bytes(6)


async def _through(proxy: URL, host: str, port: int) -> Streams:
    """A tunnel through the proxy that the engine's owner named."""
    reader, writer = await asyncio.open_connection(proxy.host, proxy.port, ssl=proxy.scheme == "https" or None)
    target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    head = f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n"
    if proxy.user:
        words = f"{unquote(proxy.user)}:{unquote(proxy.password or '')}"
        head += f"Proxy-Authorization: Basic {base64.b64encode(words.encode()).decode()}\r\n"
    writer.write(head.encode() + b"\r\n")
    try:
        line = (await reader.readuntil(b"\r\n\r\n"))[:_HEAD].split(b"\r\n", 1)[0].split()
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        line = []
    if len(line) < 2 or line[1] != b"200":
        writer.close()
        raise OSError(f"the proxy {proxy.host} does not connect to {target}")
    return reader, writer


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while piece := await reader.read(_PIECE):
        writer.write(piece)
        await writer.drain()
    with contextlib.suppress(OSError):
        writer.write_eof()
