"""ssh agents for steps: a socket of ours, behind which the client's agent answers.

The agent (or the key) is on the client's machine and stays there: each connection that a step makes to the socket
becomes one that the client makes to its agent, carried over the API. What goes through is in no file and no log.
"""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager

from wherry.errors import WherryError

AT_ONCE = 16
_CHUNK = 64 * 1024

Ask = Callable[[str], Awaitable[tuple[socket.socket, bytes]]]
"""Gives a connection to the client's agent of an id (non-blocking, the caller closes it), and its first bytes."""


class Agents:
    """The agents of one build.

    Args:
        ids: those that the client offers.
        ask: asks it for a connection.
    """

    def __init__(self, ids: Collection[str], ask: Ask) -> None:
        self._ids = frozenset(ids)
        self._ask = ask
        self._gate = asyncio.Semaphore(AT_ONCE)

    def __contains__(self, id_: str) -> bool:
        return id_ in self._ids

    @asynccontextmanager
    async def listen(
        self, id_: str, directory: str, *, mode: int | None = None, uid: int | None = None, gid: int | None = None
    ) -> AsyncIterator[str]:
        """Answer at a socket in an empty directory until the block ends; gives its path.

        Raises:
            OSError: it cannot be made.
        """
        path = f"{directory}/agent"
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
            server.setblocking(False)
            top = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                # by descriptor: such a path may have 107 bytes
                server.bind(f"/proc/self/fd/{top}/agent")
            finally:
                os.close(top)
            os.chown(path, uid or 0, gid or 0)
            os.chmod(path, 0o600 if mode is None else mode)
            server.listen(AT_ONCE)
            accepting = asyncio.ensure_future(self._accept(server, id_))
            try:
                yield path
            finally:
                accepting.cancel()
                await asyncio.wait([accepting])
                os.unlink(path)

    async def _accept(self, server: socket.socket, id_: str) -> None:
        loop = asyncio.get_running_loop()
        running: set[asyncio.Task[None]] = set()
        try:
            while True:
                await self._gate.acquire()
                try:
                    step, _ = await loop.sock_accept(server)
                except BaseException:
                    self._gate.release()
                    raise
                task = asyncio.ensure_future(self._serve(step, id_))
                running.add(task)
                task.add_done_callback(running.discard)
        finally:
            for task in running:
                task.cancel()
            if running:
                await asyncio.wait(running)

    async def _serve(self, step: socket.socket, id_: str) -> None:
        try:
            with step:
                step.setblocking(False)
                client, first = await self._ask(id_)
                with client:
                    await asyncio.get_running_loop().sock_sendall(step, first)
                    await _join(step, client)
        except (OSError, WherryError):
            pass  # the step sees that its connection ends
        finally:
            self._gate.release()


async def _join(one: socket.socket, other: socket.socket) -> None:
    """Carry bytes both ways until either side ends."""
    ways = [asyncio.ensure_future(_carry(one, other)), asyncio.ensure_future(_carry(other, one))]
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in ways:
            way.cancel()
        await asyncio.wait(ways)


async def _carry(source: socket.socket, target: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    try:
        while data := await loop.sock_recv(source, _CHUNK):
            await loop.sock_sendall(target, data)
    except OSError:
        return
