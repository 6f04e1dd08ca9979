"""HAProxy's runtime API and its master's: a command for each connection, over unix sockets (management.txt, 9.3)."""

import asyncio
import csv
import socket

from wherry.errors import Unavailable
from wherry.linux.sockets import connect_at
from wherry.proxy.config import ADMIN_SOCKET, MASTER_SOCKET, NOWHERE

SECONDS = 5.0
RELOAD_SECONDS = 20.0
_LIMIT = 16 << 20
_POLL = 0.02

Row = dict[str, str]


class Runtime:
    """A running HAProxy.

    Args:
        directory: where its sockets are.
    """

    def __init__(self, directory: str) -> None:
        self._directory = directory

    async def fill(self, backend: str, slot: int, address: str, port: int) -> None:
        """Put a server into a slot (from 0) and give it traffic.

        Raises:
            Unavailable: HAProxy does not answer, or refuses.
        """
        server = f"{backend}/s{slot + 1}"
        await self._set(f"set server {server} addr {address} port {port}")
        await self._set(f"set server {server} state ready")

    async def drain(self, backend: str, slot: int) -> None:
        """Give a slot no new requests; those under way go on."""
        await self._set(f"set server {backend}/s{slot + 1} state drain")

    async def empty(self, backend: str, slot: int, *, cut: bool) -> None:
        """Take a slot out; with `cut`, what it still carries is ended, since nobody is there any more."""
        server = f"{backend}/s{slot + 1}"
        await self._set(f"set server {server} state maint")
        if cut:
            await self._set(f"shutdown sessions server {server}")
        host, _, port = NOWHERE.partition(":")
        await self._set(f"set server {server} addr {host} port {port}")

    async def sessions(self, backend: str, slot: int) -> int:
        """How many requests a slot carries now."""
        for row in await self.statistics():
            if row["pxname"] == backend and row["svname"] == f"s{slot + 1}":
                return int(row["scur"] or 0)
        return 0

    async def statistics(self) -> list[Row]:
        """Every frontend, backend and server, with HAProxy's own names for the columns."""
        text = await self.command("show stat")
        lines = text.lstrip("# ").splitlines()
        return list(csv.DictReader(line for line in lines if line))

    async def servers(self) -> dict[tuple[str, str], tuple[str, int, bool]]:
        """What is in each slot: (backend, server) -> address, port, and whether it gets traffic."""
        found = {}
        lines = (await self.command("show servers state")).splitlines()
        for line in lines[2:]:
            fields = line.split()
            if len(fields) > 18:
                found[fields[1], fields[3]] = (fields[4], int(fields[18]), fields[6] == "0")
        return found

    async def reload(self) -> None:
        """Read the configuration again: a new worker takes the listening sockets over, the old one finishes its work.

        Raises:
            Unavailable: the configuration is refused, and the old worker goes on; or it does not answer.
        """
        failed, workers = await self._processes()
        try:
            await self.command("reload", MASTER_SOCKET)
        except Unavailable:
            pass  # the master executes itself anew, and may close the connection as it likes
        async with asyncio.timeout(RELOAD_SECONDS):
            while True:
                await asyncio.sleep(_POLL)
                try:
                    now_failed, now = await self._processes()
                except Unavailable:
                    continue  # the master executes itself anew
                if now_failed > failed:
                    raise Unavailable("HAProxy refuses its configuration; its log says why")
                if now and now[0] not in workers and await self._answers(now[0]):
                    return

    async def ready(self) -> None:
        """Wait until it answers.

        Raises:
            Unavailable: it does not, for long.
        """
        deadline = asyncio.get_running_loop().time() + RELOAD_SECONDS
        while True:
            try:
                await self.command("show info")
            except Unavailable:
                if asyncio.get_running_loop().time() > deadline:
                    raise
            else:
                return
            await asyncio.sleep(_POLL)

    async def _answers(self, worker: int) -> bool:
        try:
            text = await self.command("show info")
        except Unavailable:
            return False
        return f"\nPid: {worker}\n" in text

    async def _processes(self) -> tuple[int, list[int]]:
        """How many reloads have failed, and the pids of the workers, the current one first."""
        text = await self.command("show proc", MASTER_SOCKET)
        failed, workers = 0, []
        for line in text.splitlines():
            fields = line.split()
            if len(fields) > 2 and fields[1] == "master":
                _, _, count = line.partition("[failed:")
                failed = int(count.partition("]")[0] or 0)
            elif len(fields) > 2 and fields[1] == "worker":
                workers.append(int(fields[0]))
        return failed, workers

    async def _set(self, command: str) -> None:
        answer = (await self.command(command)).strip()
        # it answers changes with words, or with nothing; only these begin so
        if answer.startswith(("No such", "Unknown", "Require", "Invalid", "Permission", "'set server")):
            raise Unavailable(f"HAProxy: {command}: {answer.splitlines()[0]}")

    async def command(self, command: str, name: str = ADMIN_SOCKET) -> str:
        """One command; gives what it answers.

        Raises:
            Unavailable: it does not answer.
        """
        try:
            async with asyncio.timeout(SECONDS):
                sock = connect_at(self._directory, name, socket.SOCK_STREAM, blocking=False)
                return await _exchange(socket.socket(fileno=sock.detach()), command)
        except (OSError, TimeoutError) as error:
            raise Unavailable(f"HAProxy does not answer: {error or 'no answer in time'}") from None


async def _exchange(sock: socket.socket, command: str) -> str:
    reader, writer = await asyncio.open_unix_connection(sock=sock, limit=_LIMIT)
    try:
        writer.write(command.encode() + b"\n")
        writer.write_eof()
        return (await reader.read(-1)).decode(errors="replace")
    finally:
        writer.close()
