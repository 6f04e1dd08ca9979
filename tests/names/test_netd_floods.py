"""netd meets upstream servers whose replies never end, and queries as large as they can be."""

import asyncio
import contextlib
import re
import socket
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from wherry.network.dns_message import FORMERR
from wherry.paths import Roots

from .lab import Lab, Sandbox, Upstream, open_lab, query

pytestmark = pytest.mark.root

Test = Callable[[Lab], Awaitable[None]]


@pytest.fixture
def in_lab(roots: Roots) -> Callable[[Test], None]:
    """Run an async test in a lab."""

    def run(test: Test) -> None:
        async def main() -> None:
            async with open_lab(roots) as lab:
                await test(lab)

        asyncio.run(main())

    return run


class EndlessServer:
    """A name server by TCP that answers under another id, and goes on sending for as long as it is read."""

    def __init__(self, sandbox: Sandbox, address: str) -> None:
        sandbox.add_address(address)
        self._listener = sandbox.socket(socket.SOCK_STREAM)
        self._listener.bind((address, 53))
        self._listener.listen(16)
        self._listener.settimeout(None)
        self.met = 0
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection = self._listener.accept()[0]
                self.met += 1
                threading.Thread(target=self._flood, args=(connection,), daemon=True).start()

    def _flood(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            data = connection.recv(65535)[2:]
            reply = bytes([data[0] ^ 1]) + data[1:2] + b"\x81\x80" + data[4:]
            connection.sendall(len(reply).to_bytes(2, "big") + reply)
            while True:
                connection.sendall(bytes(1 << 16))

    def close(self) -> None:
        """Stop."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)


def _peak(pid: int) -> int:
    """Megabytes that a process has held at most."""
    found = re.search(r"^VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) >> 10


def test_attack_a_wrong_reply_without_end(in_lab: Callable[[Test], None]) -> None:
    """A server that sends a wrong reply by TCP, and more without end, is given up at once; the next one answers."""

    async def test(lab: Lab) -> None:
        lab.network("n1", "one")
        box = lab.sandbox("n1", forward=True, servers=["10.9.9.1", "10.9.9.9"])
        endless, honest = EndlessServer(box, "10.9.9.1"), Upstream(box, "10.9.9.9")
        try:
            answers = await asyncio.gather(*(box.ask("example.org", tcp=True) for _ in range(6)))
            assert endless.met == 6
            assert [answer.values for answer in answers] == [["192.0.2.53"]] * 6
            assert _peak(lab.helper.pid) < 40
        finally:
            endless.close()
            honest.close()

    in_lab(test)


def test_attack_a_query_larger_than_any_question(in_lab: Callable[[Test], None]) -> None:
    """A query of 64 KiB is not held and forwarded."""

    async def test(lab: Lab) -> None:
        box = lab.sandbox(forward=True, servers=["10.9.9.9"])
        honest = Upstream(box, "10.9.9.9")
        try:
            data = query("example.org") + bytes(60_000)
            assert (await asyncio.to_thread(box._ask_tcp, data)).code == FORMERR
            assert honest.asked == []
        finally:
            honest.close()

    in_lab(test)
