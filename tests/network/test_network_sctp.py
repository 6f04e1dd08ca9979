"""A published SCTP port: a real INIT chunk from a neighbour reaches the container, translated.

Kernels without SCTP sockets have no SCTP server to ask, so the packet is sent and received raw.
"""

import os
import select
import socket
import struct
from collections.abc import Iterator

import pytest
from tests.e2e.harness import until
from tests.network.test_network_docker_user import HOST, World

from wherry.linux import netns

pytestmark = pytest.mark.root

SCTP = socket.IPPROTO_SCTP
INIT = 1
PUBLISHED, INSIDE, SOURCE = 9899, 36412, 40000
_POLYNOMIAL = 0x82F63B78


def crc32c(data: bytes) -> int:
    """The checksum of SCTP (RFC 9260, appendix A)."""
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (_POLYNOMIAL if value & 1 else 0)
    return value ^ 0xFFFFFFFF


def init_chunk(port: int) -> bytes:
    """A packet that opens an association with a port."""
    tag = struct.unpack("!I", os.urandom(4))[0] | 1
    chunk = struct.pack("!BBHIIHHI", INIT, 0, 20, tag, 1 << 16, 1, 1, tag)
    head = struct.pack("!HHI", SOURCE, port, 0)
    return head + struct.pack("<I", crc32c(head + bytes(4) + chunk)) + chunk


@pytest.fixture
def world() -> Iterator[World]:
    """A host with an engine, and its neighbour."""
    made = World()
    try:
        made.engine.start()
        made.engine.wherry("image", "bootstrap", "busybox")
        yield made
        made.engine.assert_no_traceback()
    finally:
        made.close()


def test_an_sctp_port_is_translated(world: World) -> None:
    """Address, and port where the kernel tracks SCTP, are the container's; an unpublished port leads nowhere."""
    world.engine.docker("run", "-d", "--name", "core", "-p", f"{PUBLISHED}:{INSIDE}/sctp", "busybox", "sleep", "1000")
    assert f"{PUBLISHED}->{INSIDE}/sctp" in world.engine.docker("ps").out
    pid = world.engine.docker("inspect", "-f", "{{.State.Pid}}", "core").out.strip()
    address = world.engine.docker("inspect", "-f", "{{.NetworkSettings.IPAddress}}", "core").out.strip()
    there = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
    try:
        heard = netns.inside(there, lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, SCTP))
    finally:
        os.close(there)
    sender = world.at(world.neighbour, lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, SCTP))
    with heard, sender:
        sender.sendto(init_chunk(PUBLISHED + 1), (HOST, 0))

        def arrives() -> bool:
            sender.sendto(init_chunk(PUBLISHED), (HOST, 0))
            return bool(select.select([heard], [], [], 0.5)[0])

        until(arrives, "the INIT chunk arrives in the container")
        packet = heard.recv(2048)
        payload = packet[(packet[0] & 15) * 4 :]
        assert socket.inet_ntoa(packet[16:20]) == address
        assert struct.unpack("!HH", payload[:4]) == (SOURCE, INSIDE)
        assert payload[12] == INIT
