"""What a container can do to its neighbours on a bridge: nothing where they are kept apart; never be their router."""

import errno
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.harness import EngineProcess, running
from tests.e2e.shared import lent
from tests.network.places import Place

from wherry.linux.netlink import Netlink
from wherry.linux.rtnetlink import get_link, set_link

pytestmark = pytest.mark.root

ICC = "com.docker.network.bridge.enable_icc"
PATIENCE = 1.5  # what is dropped is never answered; what is answered comes in milliseconds
ETHERTYPE = 0x88B5  # IEEE 802: for local experiments


@pytest.fixture(scope="module")
def shared() -> Iterator[EngineProcess]:
    """An engine with a network that keeps its containers apart, and one that does not."""
    with running(EngineProcess()) as engine:
        yield engine


@pytest.fixture
def engine(shared: EngineProcess) -> Iterator[EngineProcess]:
    """That engine; what a test made is removed after it."""
    with lent(shared) as engine:
        yield engine


def _start(engine: EngineProcess, name: str, network: str) -> Place:
    engine.docker("run", "-d", "--name", name, "--network", network, "busybox", "sleep", "999")
    return Place(engine, name)


def _connects(client: Place, server: Place) -> bool:
    """Whether a TCP connection to the link-local address arrives."""
    with server.at(lambda: socket.socket(socket.AF_INET6)) as listener:
        listener.bind(("::", 0))
        listener.listen()
        port = listener.getsockname()[1]
        with client.at(lambda: socket.socket(socket.AF_INET6)) as caller:
            caller.settimeout(PATIENCE)
            try:
                caller.connect((server.local, port, 0, client.index))
            except OSError as error:
                if isinstance(error, TimeoutError) or error.errno == errno.EHOSTUNREACH:  # no neighbour answered
                    return False
                raise
            return True


def _frames_arrive(sender: Place, receiver: Place) -> bool:
    """Whether frames of no known protocol arrive, sent to everybody."""
    with (
        receiver.at(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETHERTYPE))) as inbox,
        sender.at(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM)) as outbox,
    ):
        inbox.settimeout(PATIENCE)
        for _ in range(3):
            outbox.sendto(b"hello" * 20, ("eth0", ETHERTYPE, 0, 0, b"\xff" * 6))
        try:
            return inbox.recv(100).startswith(b"hello")
        except TimeoutError:
            return False


def _advertise(sender: Place, prefix: str) -> None:
    """Claim to be everybody's router, and that there is a prefix to take an address of (RFC 4861, 4.2 and 4.6.2)."""
    source, index = sender.local, sender.index

    def send() -> None:
        with socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as raw:
            raw.bind((source, 0, 0, index))
            raw.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
            head = struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0)
            option = struct.pack("!BBBBIII", 3, 4, 64, 0xC0, 86400, 86400, 0)
            raw.sendto(head + option + socket.inet_pton(socket.AF_INET6, prefix), ("ff02::1", 0, 0, index))

    sender.at(send)


@pytest.mark.parametrize("icc", ["false", "true"])
def test_attack_neighbours_kept_apart_talk_by_link_local_addresses(engine: EngineProcess, icc: str) -> None:
    """By the link's own addresses and by frames that are no IP: what is apart is apart, what is not is not."""
    engine.docker("network", "create", "--ipv6", "-o", f"{ICC}={icc}", "near")
    one, other = _start(engine, "one", "near"), _start(engine, "other", "near")
    together = icc == "true"
    assert _connects(one, other) is together
    assert _connects(other, one) is together
    assert _frames_arrive(one, other) is together


def test_who_joins_later_is_kept_apart(engine: EngineProcess) -> None:
    """As who started there."""
    engine.docker("network", "create", "--ipv6", "-o", f"{ICC}=false", "near")
    engine.docker("network", "create", "far")
    one = _start(engine, "one", "near")
    engine.docker("run", "-d", "--name", "other", "--network", "far", "busybox", "sleep", "999")
    engine.docker("network", "disconnect", "far", "other")
    engine.docker("network", "connect", "near", "other")
    other = Place(engine, "other")
    assert not _connects(one, other)
    assert not _frames_arrive(one, other)


def test_who_was_there_before_is_kept_apart(engine: EngineProcess) -> None:
    """Containers that live, and of which the firewall knows nothing, after the start of an engine."""
    engine.docker("network", "create", "--ipv6", "-o", f"{ICC}=false", "near")
    one, other = _start(engine, "one", "near"), _start(engine, "other", "near")
    bridge = "br-" + engine.docker("network", "inspect", "-f", "{{.Id}}", "near").out[:12]
    engine.kill()
    with Netlink() as netlink:
        for port in Path(f"/sys/class/net/{bridge}/brif").iterdir():
            netlink.run([set_link(get_link(netlink, port.name).index, group=0)])
    assert _frames_arrive(one, other)
    engine.start()
    assert not _connects(one, other)
    assert not _frames_arrive(one, other)


def test_attack_a_neighbours_router_advertisement_changes_nothing(engine: EngineProcess) -> None:
    """The victim gets no address and no way out by it; the same advertisement is taken where it is listened to."""
    engine.docker("network", "create", "--ipv6", "near")
    attacker, victim, control = (_start(engine, name, "near") for name in ("attacker", "victim", "control"))
    control.write("/proc/sys/net/ipv6/conf/eth0/accept_ra", "2")
    control.write("/proc/sys/net/ipv6/conf/eth0/autoconf", "1")
    prefix, digits = "2001:db8:bad:cafe::", "20010db80badcafe"
    deadline = time.monotonic() + 30
    while not (control.has_address(digits) and control.routes_over(attacker.local)):
        assert time.monotonic() < deadline, "the control never took the advertisement"
        _advertise(attacker, prefix)
        time.sleep(0.05)
    assert not victim.has_address(digits)
    assert not victim.routes_over(attacker.local)
