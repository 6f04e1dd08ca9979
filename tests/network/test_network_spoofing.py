"""What a container can send under another's name on a bridge: nothing, unless its network or its capabilities allow it.

An attacker is a process in the container's network namespace that makes frames byte by byte, as any container can
(CAP_NET_RAW is among Docker's default capabilities).
"""

import json
import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from tests.e2e.harness import EngineProcess, running, until
from tests.e2e.shared import lent
from tests.network import frames
from tests.network.places import Place

from wherry.linux.netlink import Netlink
from wherry.linux.rtnetlink import get_link, set_link

pytestmark = pytest.mark.root

OPTION = "com.wherry.network.bridge.spoof_protection"
PATIENCE = 10.0
INSISTENCE = 1.0  # a kernel holds on to what it has learned within the same tick
PORT = 9000
ALL = 3  # ETH_P_ALL


@pytest.fixture(scope="module")
def shared() -> Iterator[EngineProcess]:
    """An engine."""
    with running(EngineProcess()) as engine:
        yield engine


@pytest.fixture
def engine(shared: EngineProcess) -> Iterator[EngineProcess]:
    """That engine; what a test made is removed after it."""
    with lent(shared) as engine:
        yield engine


@pytest.fixture(params=["on", "off"])
def protected(request: pytest.FixtureRequest, engine: EngineProcess) -> bool:
    """Whether the network `near` protects against spoofing: the default. Where not, each attack succeeds."""
    flags = [] if request.param == "on" else ["-o", f"{OPTION}=off"]
    engine.docker("network", "create", *flags, "near")
    return bool(request.param == "on")


def _start(engine: EngineProcess, name: str, *flags: str, ipv6: bool = False, network: str = "near") -> Place:
    engine.docker("run", "-d", "--name", name, "--network", network, *flags, "busybox", "sleep", "9999")
    return Place(engine, name, ipv6=ipv6)


def _raw(place: Place) -> socket.socket:
    """A socket that sends frames of a container, and hears those that come to it."""

    def make() -> socket.socket:
        made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ALL))
        made.bind(("eth0", ALL))
        return made

    return place.at(make)


def _hears(raw: socket.socket, wanted: bytes) -> bool:
    """Whether a frame with these bytes waits in a socket; takes all that wait."""
    raw.setblocking(False)
    found = False
    try:
        while True:
            found = wanted in raw.recv(65536) or found
    except BlockingIOError:
        return found


class Victims:
    """A client that sends datagrams to a server that never answers, and an attacker beside them.

    The client learns where the server is, and forgets nothing by itself during a test.
    """

    def __init__(self, engine: EngineProcess, *, ipv6: bool = False) -> None:
        names = ("client", "server", "attacker")
        self.client, self.server, self.attacker = (_start(engine, name, ipv6=ipv6) for name in names)
        self.family = socket.AF_INET6 if ipv6 else socket.AF_INET
        self.target = self.server.address6 if ipv6 else self.server.address
        self._inbox = self.server.at(lambda: socket.socket(self.family, socket.SOCK_DGRAM))
        self._inbox.bind(("::" if ipv6 else "0.0.0.0", PORT))
        self._outbox = self.client.at(lambda: socket.socket(self.family, socket.SOCK_DGRAM))
        self.raw = _raw(self.attacker)
        self.client.write(f"/proc/sys/net/ipv{6 if ipv6 else 4}/neigh/eth0/base_reachable_time_ms", "3600000")
        if not ipv6:
            self.client.write("/proc/sys/net/ipv4/neigh/eth0/locktime", "0")
        assert not self.taken_over()

    def taken_over(self) -> bool:
        """Whether a datagram of the client to the server comes to the attacker, whose kernel may pass it on."""
        word = os.urandom(16)
        self._outbox.sendto(word, (self.target, PORT))
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            self._inbox.settimeout(0.02)
            try:
                if self._inbox.recv(100) == word:
                    return _hears(self.raw, word)
            except TimeoutError:
                pass
            if _hears(self.raw, word):
                return True
        raise AssertionError("a datagram of the client came to nobody")

    def is_open_to(self, frame: bytes) -> bool:
        """Whether the attacker takes the server's traffic over with this frame, sent many times."""
        deadline = time.monotonic() + INSISTENCE
        while time.monotonic() < deadline:
            self.raw.send(frame)
            if self.taken_over():
                return True
        return False

    def close(self) -> None:
        """Close the sockets."""
        for one in (self._inbox, self._outbox, self.raw):
            one.close()


@pytest.fixture
def victims(engine: EngineProcess, protected: bool) -> Iterator[Victims]:
    """The three on `near`."""
    made = Victims(engine)
    yield made
    made.close()


def test_attack_arp_takes_over_a_neighbours_traffic(victims: Victims, protected: bool) -> None:
    """A reply that nobody asked for says that the server's address is at the attacker's MAC."""
    mine, client = victims.attacker.mac, victims.client
    lie = frames.arp(frames.REPLY, mine, victims.server.address, client.address, client.mac)
    assert victims.is_open_to(frames.ethernet(mine, frames.ARP, lie, to=client.mac)) is not protected


@pytest.mark.parametrize("to", [frames.BROADCAST, "01:80:c2:00:00:00"])
def test_attack_a_mac_takes_over_a_neighbours_traffic(victims: Victims, protected: bool, to: str) -> None:
    """A frame with the server's MAC teaches the bridge that the server is at the attacker's port."""
    lie = frames.ethernet(victims.server.mac, frames.EXPERIMENTAL, bytes(60), to=to)
    assert victims.is_open_to(lie) is not protected


@pytest.mark.parametrize("protected", ["on"], indirect=True)
@pytest.mark.parametrize("last", ["03", "0e"])
def test_attack_a_mac_in_a_frame_that_is_not_forwarded(engine: EngineProcess, victims: Victims, last: str) -> None:
    """Frames to addresses that IEEE 802.1D reserves pass no rules; a usual bridge learns their source all the same."""
    lie = frames.ethernet(victims.server.mac, frames.EXPERIMENTAL, bytes(60), to=f"01:80:c2:00:00:{last}")
    assert not victims.is_open_to(lie)
    bridge = "br-" + engine.docker("network", "inspect", "-f", "{{.Id}}", "near").out[:12]
    subprocess.run(["ip", "link", "set", bridge, "type", "bridge", "no_linklocal_learn", "0"], check=True)
    assert victims.is_open_to(lie)


@pytest.fixture
def victims6(engine: EngineProcess, protected: bool) -> Iterator[Victims]:
    """The three on a network with IPv6, which is called `near` as well."""
    engine.docker("network", "rm", "near")
    flags = [] if protected else ["-o", f"{OPTION}=off"]
    engine.docker("network", "create", "--ipv6", *flags, "near")
    made = Victims(engine, ipv6=True)
    yield made
    made.close()


@pytest.mark.parametrize("source", ["mine", "local", "server"])
def test_attack_a_neighbour_advertisement_takes_over_traffic(victims6: Victims, protected: bool, source: str) -> None:
    """It says that the server's address is at the attacker's MAC; it comes from an address of the attacker's, too."""
    attacker, client = victims6.attacker, victims6.client
    sources = {"mine": attacker.address6, "local": attacker.local, "server": victims6.target}
    lie = frames.advertisement(sources[source], client.address6, victims6.target, attacker.mac)
    assert victims6.is_open_to(frames.ethernet(attacker.mac, frames.IPV6, lie, to=client.mac)) is not protected


Frame = Callable[[bytes], bytes]
"""Makes a frame with a word in it, by which it is known when it arrives."""


def _delivered(sender: Place, receiver: Place, sent: Mapping[str, Frame]) -> set[str]:
    """Which of these frames arrive. When an honest frame that was sent after them has come, so have they."""
    words = {name: os.urandom(16) for name in [*sent, "honest"]}
    with _raw(sender) as outbox, _raw(receiver) as inbox:
        found: set[str] = set()
        deadline = time.monotonic() + PATIENCE
        for name, make in sent.items():
            outbox.send(make(words[name]))
        while "honest" not in found:
            assert time.monotonic() < deadline, "an honest frame does not arrive"
            outbox.send(frames.ethernet(sender.mac, frames.EXPERIMENTAL, bytes(44) + words["honest"]))
            inbox.settimeout(0.2)
            for _ in range(1000):
                try:
                    data = inbox.recv(65536)
                except TimeoutError:
                    break
                found |= {name for name, word in words.items() if word in data}
    return found - {"honest"}


class Speaker:
    """Makes frames that a container sends with its own MAC, or with another one."""

    def __init__(self, mac: str) -> None:
        self._mac = mac

    def arp(self, operation: int, mac: str, address: str, asked: str, *, tags: int = 0) -> Frame:
        """ARP of `mac` with `address`."""
        message = frames.arp(operation, mac, address, asked)
        return lambda word: frames.ethernet(self._mac, frames.ARP, message + word, tags=tags)

    def ip(self, source: str, target: str, *, tags: int = 0) -> Frame:
        """A datagram of either family."""
        kind, make = (frames.IPV6, frames.ipv6) if ":" in source else (frames.IPV4, frames.ipv4)
        return lambda word: frames.ethernet(self._mac, kind, make(source, target, PORT, word), tags=tags)

    def claim(self, source: str, address: str, mac: str, *, tags: int = 0) -> Frame:
        """A neighbour advertisement."""

        def make(word: bytes) -> bytes:
            message = frames.advertisement(source, frames.ALL_NODES, address, mac, word)
            return frames.ethernet(self._mac, frames.IPV6, message, tags=tags)

        return make

    def solicit(self, source: str, address: str) -> Frame:
        """A neighbour solicitation."""
        return lambda word: frames.ethernet(self._mac, frames.IPV6, frames.solicitation(source, address, word))

    def nameless(self, target: str, kind: int) -> Frame:
        """An ICMPv6 message from the unspecified address."""
        return lambda word: frames.ethernet(self._mac, frames.IPV6, frames.icmpv6("::", target, kind, bytes(20) + word))

    def other(self) -> Frame:
        """A frame of no known protocol."""
        return lambda word: frames.ethernet(self._mac, frames.EXPERIMENTAL, bytes(44) + word)


def _forged(attacker: Place, victim: Place, server: Place) -> dict[str, Frame]:
    """Frames in which the attacker says what is not its to say."""
    mine, other = attacker.mac, server.mac
    me, disguised = Speaker(mine), Speaker(other)
    there, there6 = victim.address, victim.address6
    return {
        "ARP reply": me.arp(frames.REPLY, mine, server.address, there),
        "ARP request": me.arp(frames.REQUEST, mine, server.address, there),
        "ARP of another's MAC": me.arp(frames.REPLY, other, attacker.address, there),
        "ARP probe of another's MAC": me.arp(frames.REQUEST, other, "0.0.0.0", there),
        "ARP reply of no address": me.arp(frames.REPLY, mine, "0.0.0.0", there),
        "ARP reply, tagged": me.arp(frames.REPLY, mine, server.address, there, tags=1),
        "ARP reply, tagged twice": me.arp(frames.REPLY, mine, server.address, there, tags=2),
        "IPv4": me.ip(server.address, there),
        "IPv4 from elsewhere": me.ip("203.0.113.9", there),
        "IPv4, tagged": me.ip(server.address, there, tags=1),
        "IPv4, tagged twice": me.ip(server.address, there, tags=2),
        "IPv4 with another's MAC": disguised.ip(attacker.address, there),
        "IPv6": me.ip(server.address6, there6),
        "IPv6, tagged": me.ip(server.address6, there6, tags=1),
        "IPv6, tagged twice": me.ip(server.address6, there6, tags=2),
        "IPv6 link-local": me.ip(server.local, there6),
        "IPv6 of no address": me.ip("::", there6),
        "neighbour advertisement": me.claim(attacker.address6, server.address6, mine),
        "neighbour advertisement of a link-local address": me.claim(attacker.local, server.local, mine),
        "neighbour advertisement, tagged": me.claim(attacker.address6, server.address6, mine, tags=1),
        "detection of a duplicate": me.solicit("::", server.address6),
        "router solicitation with another's MAC": disguised.nameless("ff02::2", frames.ROUTER_SOLICITATION),
        "another's MAC": disguised.other(),
    }


def _honest(sender: Place, receiver: Place) -> dict[str, Frame]:
    """Frames that a container may send of itself."""
    mine, there, there6 = sender.mac, receiver.address, receiver.address6
    me = Speaker(mine)
    return {
        "ARP reply": me.arp(frames.REPLY, mine, sender.address, there),
        "ARP request": me.arp(frames.REQUEST, mine, sender.address, there),
        "ARP probe": me.arp(frames.REQUEST, mine, "0.0.0.0", there),
        "IPv4": me.ip(sender.address, there),
        "IPv4, tagged": me.ip(sender.address, there, tags=1),
        "IPv6": me.ip(sender.address6, there6),
        "IPv6 link-local": me.ip(sender.local, there6),
        "neighbour advertisement": me.claim(sender.address6, sender.address6, mine),
        "neighbour solicitation": me.solicit(sender.local, there6),
        "detection of a duplicate": me.solicit("::", sender.address6),
        "router solicitation": me.nameless("ff02::2", frames.ROUTER_SOLICITATION),
        "multicast report": me.nameless("ff02::1", frames.MLD_REPORT),
        "another protocol": me.other(),
    }


def _everything(engine: EngineProcess, network: str, *flags: str) -> tuple[set[str], set[str], set[str]]:
    """Of frames that a container sends: the forged ones that arrive, all forged ones, and the honest ones that do not.

    Args:
        network: with IPv6.
        flags: of the container that sends.
    """
    attacker = _start(engine, "attacker", *flags, ipv6=True, network=network)
    victim, server = (_start(engine, name, ipv6=True, network=network) for name in ("victim", "server"))
    forged, honest = _forged(attacker, victim, server), _honest(attacker, victim)
    missing = set(honest) - _delivered(attacker, victim, honest)
    return _delivered(attacker, victim, forged), set(forged), missing


@pytest.mark.parametrize("internal", [False, True])
def test_attack_frames_under_anothers_name(engine: EngineProcess, internal: bool) -> None:
    """None of many kinds of forged frames arrives, and every kind of honest ones."""
    engine.docker("network", "create", "--ipv6", *(["--internal"] if internal else []), "near")
    arrived, _, missing = _everything(engine, "near")
    assert not arrived
    assert not missing


@pytest.mark.parametrize(
    ("option", "flags"),
    [("off", ()), ("on", ("--cap-add", "NET_ADMIN")), ("on", ("--privileged",))],
    ids=["off", "NET_ADMIN", "privileged"],
)
def test_who_may_send_anything(engine: EngineProcess, option: str, flags: tuple[str, ...]) -> None:
    """Containers on a network without protection, and those that may administer networks: all frames arrive."""
    engine.docker("network", "create", "--ipv6", "-o", f"{OPTION}={option}", "near")
    arrived, forged, missing = _everything(engine, "near", *flags)
    assert arrived == forged
    assert not missing


def test_attack_a_container_with_net_admin_on_a_strict_network(engine: EngineProcess) -> None:
    """`strict` knows no exemption."""
    engine.docker("network", "create", "--ipv6", "-o", f"{OPTION}=strict", "near")
    arrived, _, missing = _everything(engine, "near", "--privileged")
    assert not arrived
    assert not missing


def test_addresses_that_were_asked_for(engine: EngineProcess) -> None:
    """A MAC, addresses of both families and link-local ones that the user chose are the container's own."""
    engine.docker("network", "create", "--ipv6", "--subnet", "10.231.9.0/24", "--subnet", "fd00:231:9::/64", "near")
    flags = ("--mac-address", "02:11:22:33:44:55", "--ip", "10.231.9.77", "--ip6", "fd00:231:9::77")
    chosen = _start(engine, "chosen", *flags, "--link-local-ip", "169.254.7.7", ipv6=True)
    other = _start(engine, "other", ipv6=True)
    assert (chosen.mac, chosen.address, chosen.address6) == ("02:11:22:33:44:55", "10.231.9.77", "fd00:231:9::77")
    honest = _honest(chosen, other)
    honest["IPv4 link-local"] = Speaker(chosen.mac).ip("169.254.7.7", other.address)
    assert _delivered(chosen, other, honest) == set(honest)


def _spoofs(attacker: Place, victim: Place) -> bool:
    """Whether a packet with a foreign source arrives."""
    return bool(_delivered(attacker, victim, {"lie": Speaker(attacker.mac).ip("203.0.113.9", victim.address)}))


def _speaks(sender: Place, receiver: Place) -> bool:
    """Whether a packet with the sender's own address arrives."""
    packet = Speaker(sender.mac).ip(sender.address, receiver.address)
    with _raw(sender) as outbox, _raw(receiver) as inbox:
        for _ in range(20):
            word = os.urandom(16)
            outbox.send(packet(word))
            inbox.settimeout(0.05)
            deadline = time.monotonic() + 0.05
            while time.monotonic() < deadline:
                try:
                    if word in inbox.recv(65536):
                        return True
                except TimeoutError:
                    break
    return False


def _elements(engine: EngineProcess) -> str:
    """The firewall's table of bridges, as nft tells it; empty where there is none."""
    words = ["nft", "list", "table", "bridge", engine.roots.scope]
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout


def test_a_container_that_moves(engine: EngineProcess) -> None:
    """Connected while it runs it may speak for its new address only; disconnected, and ended, nothing of it is left."""
    for name in ("near", "far"):
        engine.docker("network", "create", name)
    neighbour = _start(engine, "neighbour")
    engine.docker("run", "-d", "--name", "one", "--network", "far", "busybox", "sleep", "9999")
    engine.docker("network", "disconnect", "far", "one")
    engine.docker("network", "connect", "near", "one")
    one = Place(engine, "one", ipv6=False)
    assert one.address in _elements(engine)
    assert _speaks(one, neighbour)
    assert not _spoofs(one, neighbour)
    engine.docker("network", "disconnect", "near", "one")
    assert one.mac not in _elements(engine)
    engine.docker("rm", "-f", "one", "neighbour")
    until(lambda: "veth" not in _elements(engine), "no element is left")


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_engines_that_come_and_go(engine: EngineProcess, how: str) -> None:
    """Meanwhile and afterwards containers are heard and held; one that ended meanwhile leaves nothing."""
    engine.docker("network", "create", "near")
    one, other = _start(engine, "one"), _start(engine, "other")
    gone = _start(engine, "gone")
    pid = int(engine.docker("inspect", "-f", "{{.State.Pid}}", "gone").out)
    getattr(engine, how)()
    os.kill(pid, 9)
    assert _speaks(one, other)
    assert not _spoofs(one, other)
    engine.start()
    assert _speaks(one, other)
    assert not _spoofs(one, other)
    until(lambda: gone.mac not in _elements(engine), "what ended has no elements")


def test_who_was_there_before(engine: EngineProcess) -> None:
    """Containers of an engine without protection are held by the next one, and go on being heard."""
    engine.docker("network", "create", "near")
    one, other = _start(engine, "one"), _start(engine, "other")
    bridge = "br-" + engine.docker("network", "inspect", "-f", "{{.Id}}", "near").out[:12]
    engine.kill()
    subprocess.run(["nft", "delete", "table", "bridge", engine.roots.scope], check=True)
    with Netlink() as netlink:
        for port in Path(f"/sys/class/net/{bridge}/brif").iterdir():
            netlink.run([set_link(get_link(netlink, port.name).index, group=0)])
    assert _spoofs(one, other)
    engine.start()
    assert _speaks(one, other)
    assert not _spoofs(one, other)


def test_rules_that_somebody_deleted_come_back(engine: EngineProcess) -> None:
    """With their elements."""
    engine.docker("network", "create", "near")
    one, other = _start(engine, "one"), _start(engine, "other")
    subprocess.run(["nft", "delete", "table", "bridge", engine.roots.scope], check=True)
    until(lambda: one.mac in _elements(engine), "the table is back")
    assert _speaks(one, other)
    assert not _spoofs(one, other)


def test_a_port_of_which_nothing_is_known_is_silent(engine: EngineProcess) -> None:
    """Where elements are lost their containers are cut off; the next change finds that out and puts all right."""
    engine.docker("network", "create", "near")
    one, other = _start(engine, "one"), _start(engine, "other")
    subprocess.run(["nft", "flush", "set", "bridge", engine.roots.scope, "ipv4"], check=True)
    assert not _speaks(one, other)
    engine.docker("rm", "-f", "other")
    until(lambda: one.address in _elements(engine), "the elements are back")
    other = _start(engine, "other")
    assert _speaks(one, other)
    assert not _spoofs(one, other)


@pytest.mark.parametrize("value", ["off", "strict"])
def test_the_engines_setting(value: str) -> None:
    """`spoof-protection` in daemon.json is for all networks that do not say it themselves, the default one too."""
    engine = EngineProcess()
    engine.configure({"spoof-protection": value})
    with running(engine):
        engine.docker("network", "create", "-o", f"{OPTION}={'on' if value == 'off' else 'off'}", "other")
        for network, protected in (("bridge", value != "off"), ("other", value == "off")):
            pair = [_start(engine, f"{name}-{network}", network=network) for name in ("one", "two")]
            assert _speaks(*pair)
            assert _spoofs(*pair) is not protected


def test_values_that_are_none(engine: EngineProcess) -> None:
    """Are refused by name; also for drivers that have no ports."""
    bad = engine.docker("network", "create", "-o", f"{OPTION}=maybe", "near", code=1)
    assert f"invalid {OPTION} value 'maybe': expected one of on, strict, off" in bad.err
    unknown = engine.docker("network", "create", "-o", "com.wherry.network.bridge.spoof=on", "near", code=1)
    assert "the bridge driver has no network option com.wherry.network.bridge.spoof" in unknown.err
    other = engine.docker("network", "create", "-d", "macvlan", "-o", f"{OPTION}=on", "near", code=1)
    assert f"the macvlan driver has no network option {OPTION}" in other.err
    assert json.loads(engine.docker("network", "ls", "--format", "json", "-f", "name=near").out or "[]") == []
