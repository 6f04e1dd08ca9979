"""netd for real, with sandboxes that are a network namespace each, and a DNS client."""

import asyncio
import os
import socket
import struct
import threading
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from wherry.linux import netns
from wherry.linux.loop import Loop
from wherry.linux.netlink import Netlink
from wherry.linux.rtnetlink import add_address, get_link
from wherry.monitor.resolver import Resolver
from wherry.network.dns_message import AAAA, PTR, A
from wherry.network.sandbox import create_namespace
from wherry.networking.netd import HELPER, NetdLine
from wherry.paths import Roots
from wherry.sandbox.helpers import Helper

from .conftest import helpers_of

T = TypeVar("T")
SECONDS = 10.0
__all__ = ["AAAA", "PTR", "A", "Answer", "Lab", "Sandbox", "Upstream", "ask_on", "open_lab", "query"]


def query(name: str, kind: int = A, *, id_: int = 0x1234, size: int = 0, klass: int = 1) -> bytes:
    """A DNS query; with `size`, it has an OPT record."""
    labels = b"".join(bytes([len(part)]) + part for part in name.encode("latin-1").split(b".") if part)
    head = struct.pack("!6H", id_, 0x0100, 1, 0, 0, 1 if size else 0)
    opt = b"\0" + struct.pack("!2HIH", 41, size, 0, 0) if size else b""
    return head + labels + b"\0" + struct.pack("!2H", kind, klass) + opt


def _name(data: bytes, position: int) -> tuple[str, int]:
    labels: list[str] = []
    end = 0
    for _ in range(128):
        length = data[position]
        if length >= 0xC0:
            end = end or position + 2
            position = struct.unpack_from("!H", data, position)[0] & 0x3FFF
        elif length:
            labels.append(data[position + 1 : position + 1 + length].decode("latin-1"))
            position += 1 + length
        else:
            return ".".join(labels), end or position + 1
    raise AssertionError("a name without end")


class Answer:
    """A parsed response: `code`, `truncated`, `records` (type, time to live, value as text)."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.id, flags, questions, answers, _, _ = struct.unpack_from("!6H", data)
        assert flags & 0x8000
        self.code = flags & 0xF
        self.truncated = bool(flags & 0x0200)
        position = 12
        for _ in range(questions):
            _, position = _name(data, position)
            position += 4
        self.records: list[tuple[int, int, str]] = []
        for _ in range(answers):
            _, position = _name(data, position)
            kind, _, ttl, length = struct.unpack_from("!2HIH", data, position)
            position += 10
            value = data[position : position + length]
            if kind in (A, AAAA):
                text = socket.inet_ntop(socket.AF_INET if kind == A else socket.AF_INET6, value)
            else:
                text = _name(data, position)[0] if kind == PTR else value.hex()
            self.records.append((kind, ttl, text))
            position += length

    @property
    def values(self) -> list[str]:
        return [value for _, _, value in self.records]


def ask_on(sock: socket.socket, data: bytes) -> Answer:
    """Ask by UDP."""
    sock.sendto(data, ("127.0.0.11", 53))
    while True:
        reply = sock.recv(65535)
        if reply[:2] == data[:2]:
            return Answer(reply)


class Sandbox:
    """A network namespace with what a monitor holds for it."""

    def __init__(self, lab: "Lab") -> None:
        self.id = uuid.uuid4().hex * 2
        self.fd = create_namespace()
        self.resolver = Resolver(self.fd)
        self._lab = lab
        self._sockets: list[socket.socket] = []

    def socket(self, kind: int = socket.SOCK_DGRAM) -> socket.socket:
        """A socket in the namespace."""
        made: socket.socket = netns.inside(self.fd, lambda: socket.socket(socket.AF_INET, kind))
        made.settimeout(SECONDS)
        self._sockets.append(made)
        return made

    def add_address(self, address: str) -> None:
        """Give the namespace's loopback interface an address."""

        def add() -> None:
            with Netlink() as netlink:
                netlink.run([add_address(get_link(netlink, "lo").index, f"{address}/32")])

        netns.inside(self.fd, add)

    def lend(self) -> None:
        """Lend the sockets, as the monitor does when wherryd asks."""
        self._lab.in_loop(lambda: self.resolver.lend(self._lab.loop, self.id, self._lab.line.another()))

    async def ask(self, name: str, kind: int = A, *, tcp: bool = False, **values: Any) -> Answer:
        """Ask 127.0.0.11 from inside."""
        data = query(name, kind, **values)
        return await asyncio.to_thread(self._ask_tcp if tcp else self._ask_udp, data)

    def _ask_udp(self, data: bytes) -> Answer:
        sock = self.socket()
        sock.settimeout(2.0)
        for _ in range(10):
            # as every resolver does: a datagram may be lost where a thousand came at once
            try:
                return ask_on(sock, data)
            except TimeoutError:
                continue
        raise AssertionError("no answer")

    def _ask_tcp(self, data: bytes) -> Answer:
        sock = self.socket(socket.SOCK_STREAM)
        sock.connect(("127.0.0.11", 53))
        sock.sendall(len(data).to_bytes(2, "big") + data)
        with sock.makefile("rb") as file:
            return Answer(file.read(int.from_bytes(file.read(2), "big")))

    def close(self) -> None:
        """Close all."""
        for sock in self._sockets:
            sock.close()
        self._lab.in_loop(self.resolver.close)
        os.close(self.fd)


class Upstream:
    """A name server in a sandbox: answers every A question with 192.0.2.53, UDP and TCP."""

    def __init__(self, sandbox: Sandbox, address: str) -> None:
        sandbox.add_address(address)
        self.asked: list[bytes] = []
        self.big = False
        self._udp = sandbox.socket()
        self._udp.bind((address, 53))
        self._tcp = sandbox.socket(socket.SOCK_STREAM)
        self._tcp.bind((address, 53))
        self._tcp.listen()
        self._udp.settimeout(None)
        self._tcp.settimeout(None)
        for work in (self._serve_udp, self._serve_tcp):
            threading.Thread(target=work, daemon=True).start()

    def reply(self, data: bytes, stream: bool) -> bytes:
        """What it answers."""
        question = data[12 : data.index(b"\0", 12) + 5]
        if self.big and not stream:
            return data[:2] + struct.pack("!5H", 0x8380, 1, 0, 0, 0) + question
        records = 100 if self.big else 1
        record = struct.pack("!3HIH", 0xC00C, 1, 1, 60, 4) + bytes([192, 0, 2, 53])
        return data[:2] + struct.pack("!5H", 0x8180, 1, records, 0, 0) + question + record * records

    def _serve_udp(self) -> None:
        try:
            while True:
                data, sender = self._udp.recvfrom(65535)
                if not data:
                    return
                self.asked.append(data)
                # a stranger's guess before the answer: another id
                self._udp.sendto(bytes([data[0] ^ 1]) + self.reply(data, False)[1:], sender)
                self._udp.sendto(self.reply(data, False), sender)
        except OSError:
            return

    def _serve_tcp(self) -> None:
        try:
            while True:
                with self._tcp.accept()[0] as connection, connection.makefile("rb") as file:
                    data = file.read(int.from_bytes(file.read(2), "big"))
                    self.asked.append(data)
                    reply = self.reply(data, True)
                    message = len(reply).to_bytes(2, "big") + reply
                    connection.sendall(message[:5])
                    connection.sendall(message[5:])
        except OSError:
            return

    def close(self) -> None:
        """Stop."""
        for sock in (self._udp, self._tcp):
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue


class Lab:
    """netd under its monitor, the line to it, and sandboxes whose monitor is a thread of the test."""

    def __init__(self, helper: Helper) -> None:
        self.helper = helper
        self.line = NetdLine(helper.run_dir, lambda: None)
        self.loop = Loop(self._failed, lambda: None)
        self.sandboxes: list[Sandbox] = []
        self.failures: list[BaseException] = []
        self._calls: list[tuple[Callable[[], Any], threading.Event]] = []
        self._wake_read, self._wake_write = os.pipe()
        self.loop.watch(self._wake_read, 1, self._called)
        self._thread = threading.Thread(target=self.loop.run, daemon=True)
        self._thread.start()

    def _failed(self, error: BaseException) -> None:
        self.failures.append(error)

    def _called(self, _bits: int) -> None:
        os.read(self._wake_read, 4096)
        while self._calls:
            call, done = self._calls.pop(0)
            try:
                call()
            finally:
                done.set()

    def in_loop(self, call: Callable[[], Any]) -> None:
        """Run in the monitors' thread, and wait."""
        done = threading.Event()
        self._calls.append((call, done))
        os.write(self._wake_write, b"x")
        assert done.wait(SECONDS)
        assert not self.failures, self.failures

    def sandbox(self, *networks: str, **asker: Any) -> Sandbox:
        """A sandbox in networks, with its sockets lent."""
        made = Sandbox(self)
        self.sandboxes.append(made)
        self.tell_asker(made, *networks, **asker)
        made.lend()
        return made

    def tell_asker(self, sandbox: Sandbox, *networks: str, **asker: Any) -> None:
        """Say what a sandbox may ask."""
        values = {"links": {}, "servers": [], "forward": False, "dotted_only": False, **asker}
        self.line.send({"op": "asker", "id": sandbox.id, "networks": list(networks), **values})

    def network(self, id_: str, name: str) -> None:
        """Make a network known."""
        self.line.send({"op": "network", "id": id_, "name": name})

    def member(self, network: str, container: str, names: list[str], *addresses: str) -> None:
        """Make a member known."""
        message = {"op": "member", "network": network, "container": container}
        self.line.send({**message, "names": names, "addresses": list(addresses)})

    async def let_go(self, sandbox: Sandbox) -> None:
        """Wait until netd has closed its copies of a sandbox's sockets."""
        async with asyncio.timeout(20):
            while True:
                if sandbox.id not in (await self.line.sync())["sandboxes"]:
                    return
                await asyncio.sleep(0.01)

    def close(self) -> None:
        """Close all; netd goes on."""
        for sandbox in self.sandboxes:
            sandbox.close()
        self.line.close()
        self.in_loop(self.loop.stop)
        self._thread.join(SECONDS)
        os.close(self._wake_read)
        os.close(self._wake_write)


@asynccontextmanager
async def open_lab(roots: Roots) -> AsyncIterator[Lab]:
    """A lab of its own; nothing is left."""
    async with helpers_of(roots) as helpers:
        helper = helpers.helper("netd", HELPER)
        await helper.ensure()
        lab = Lab(helper)
        try:
            yield lab
        finally:
            lab.close()
            await helpers.close(remove=True)
