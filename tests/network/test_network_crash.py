"""`kill -9` of wherryd at each step of create, rm, connect and disconnect: whole before or after, nothing stray."""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.harness import ROOT, EngineProcess, running, until
from tests.e2e.shared import lent

from wherry.linux import netns
from wherry.linux.netlink import Netlink
from wherry.linux.rtnetlink import addresses, default_routes, links

pytestmark = pytest.mark.root

MOST_STEPS = 40
GONE = object()
NAMED = f"br-kill{os.getpid()}"[:15]


class KilledEngine(EngineProcess):
    """An engine that ends at the step that `arm` names."""

    def __init__(self) -> None:
        super().__init__()
        path = f"PYTHONPATH={ROOT}/src:{ROOT}"
        self.program = ("env", path, sys.executable, "-m", "tests.network.killed_engine", str(self.armed))

    @property
    def armed(self) -> Path:
        """The file with the number of the step."""
        return self.base / "step"

    def killed_at(self, step: int, verb: Callable[[], object]) -> bool:
        """Do `verb`, with the engine killed at its Nth step, and start it again; False: it has no such step."""
        self.armed.write_text(str(step))
        try:
            lives = verb() is not GONE
        finally:
            self.armed.unlink()
        if lives and _ask(self, "GET", "/version") is not GONE:
            return False
        assert self.process is not None
        assert self.process.wait(20) == -signal.SIGKILL, self.log_tail()
        self.process = None
        self.start()
        return True


@pytest.fixture(scope="module")
def shared() -> Iterator[KilledEngine]:
    """Such an engine."""
    engine = KilledEngine()
    with running(engine):
        yield engine


@pytest.fixture
def engine(shared: KilledEngine) -> Iterator[KilledEngine]:
    """That engine, with a container `web` on the network `home`, that publishes a port."""
    with lent(shared):
        shared.docker("network", "create", "--ipv6", "home")
        shared.docker("run", "-d", "--name", "web", "-p", "80", "--network", "home", "busybox", "sleep", "9999")
        yield shared


def _ask(engine: EngineProcess, method: str, path: str, body: object = None) -> Any:
    """A raw request: quicker than a command. `GONE` where the engine went away meanwhile."""
    connection = http.client.HTTPConnection("d", timeout=60)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.settimeout(60)
    try:
        connection.sock.connect(engine.roots.socket)
        text = json.dumps(body) if body is not None else None
        connection.request(method, path, text, {"Content-Type": "application/json"} if text else {})
        answer = connection.getresponse().read()
        return json.loads(answer) if answer.strip() else None
    except (OSError, http.client.HTTPException):
        return GONE
    finally:
        connection.close()


def _networks(engine: EngineProcess) -> dict[str, str]:
    found = {network["Name"]: network["Id"] for network in _ask(engine, "GET", "/networks")}
    return {name: id_ for name, id_ in found.items() if name not in ("bridge", "host", "none")}


def _web(engine: EngineProcess) -> dict[str, Any]:
    shown: dict[str, Any] = _ask(engine, "GET", "/containers/web/json")
    return shown


def _interfaces(pid: int) -> tuple[dict[str, set[str]], str]:
    """The interfaces of a container with their global addresses, and which of them has the default route."""
    there = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
    try:
        with netns.inside(there, Netlink) as netlink:
            names = {link.index: link.name for link in links(netlink) if link.name != "lo"}
            found: dict[str, set[str]] = {name: set() for name in names.values()}
            for index, address in addresses(netlink):
                if index in names and not address.startswith("fe80:"):
                    found[names[index]].add(address.partition("/")[0])
            return found, names[min(default_routes(netlink))[1]]
    finally:
        os.close(there)


def _whole(engine: EngineProcess) -> None:
    """What the host has is what the engine says that there is, in devices, records, rules, interfaces, addresses."""
    networks = _networks(engine)
    bridges = {NAMED if name == "n1" else f"br-{id_[:12]}" for name, id_ in networks.items()}
    records = {path.name for path in Path(engine.roots.networks).iterdir() if path.is_dir()}
    assert records == set(networks.values())
    assert Path("/sys/class/net", NAMED).exists() == (NAMED in bridges)
    listed = subprocess.run(["nft", "list", "table", "ip", engine.roots.scope], check=True, capture_output=True).stdout
    assert {word.strip('",') for word in listed.decode().split() if word.startswith('"br-')} == bridges
    web = _web(engine)
    shown = web["NetworkSettings"]
    inside, way = _interfaces(web["State"]["Pid"])
    wanted = [{one["IPAddress"], one["GlobalIPv6Address"]} - {""} for one in shown["Networks"].values()]
    assert sorted(map(sorted, inside.values())) == sorted(map(sorted, wanted))
    hosts = Path(engine.roots.container(web["Id"]), "hosts").read_text().splitlines()
    named = [line.split()[0] for line in hosts if web["Id"][:12] in line]
    assert sorted(named) == sorted(address for some in wanted for address in some)
    for name in shown["Networks"]:
        members = _ask(engine, "GET", f"/networks/{name}")["Containers"]
        assert [member["Name"] for member in members.values()] == ["web"]
    ports = [Path(f"/sys/class/net/{bridge}/brif") for bridge in bridges | {engine.roots.bridge}]
    until(
        lambda: sum(len(list(directory.iterdir())) for directory in ports) == len(shown["Networks"]),
        "every bridge has the ports of its containers only",
    )
    published = shown["Ports"]["80/tcp"][0]["HostPort"]
    assert any(f"tcp . {published} : {own} . 80" in listed.decode() for own in inside[way])
    until(lambda: _namespaces(engine) == 1, "the container's network namespace is the only one")
    for place in (engine.roots.networks, engine.roots.container(web["Id"]), engine.roots.sandbox(web["Id"])):
        assert not [path for path in Path(place).rglob("*") if ".tmp" in path.name and "/upper/" not in str(path)]


def _namespaces(engine: EngineProcess) -> int:
    """How many network namespaces besides the host's the engine's processes are in, or hold."""
    found = set()
    for pid in engine.processes():
        with contextlib.suppress(OSError):  # it ended meanwhile
            found.add(os.readlink(f"/proc/{pid}/ns/net"))
            held = [os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir()]
            found |= {name for name in held if name.startswith("net:")}
    return len(found - {os.readlink("/proc/self/ns/net")})


def _each_step(engine: KilledEngine, verb: Callable[[], object], undo: Callable[[], object]) -> int:
    """Kill it at each step of `verb`; returns how many there were."""
    for step in range(1, MOST_STEPS):
        killed = engine.killed_at(step, verb)
        _whole(engine)
        undo()
        if not killed:
            _whole(engine)
            return step - 1
    raise AssertionError(f"{MOST_STEPS} steps were not enough")


def test_create_and_remove(engine: KilledEngine) -> None:
    """A network that was being made is there whole or not at all; so is one that was being removed."""

    def create() -> object:
        pools = {"Config": [{"Subnet": "10.232.1.0/24"}]}
        options = {"com.docker.network.bridge.name": NAMED}
        return _ask(engine, "POST", "/networks/create", {"Name": "n1", "IPAM": pools, "Options": options})

    def remove() -> object:
        return _ask(engine, "DELETE", "/networks/n1")

    def ensure_gone() -> None:
        remove()
        assert "n1" not in _networks(engine)

    def ensure_there() -> None:
        create()
        assert "n1" in _networks(engine)

    assert _each_step(engine, create, ensure_gone) >= 8
    ensure_there()
    assert _each_step(engine, remove, ensure_there) >= 3
    ensure_gone()


def test_connect_and_disconnect(engine: KilledEngine) -> None:
    """A container that was being connected is on the network or is not, with all that belongs to it; disconnected, too.

    The network's name comes before the other's, so the way out and the published port move with each of them.
    """
    engine.docker("network", "create", "--subnet", "10.232.2.0/24", "aaa")

    def connect() -> object:
        wish = {"IPAMConfig": {"IPv4Address": "10.232.2.9"}}
        return _ask(engine, "POST", "/networks/aaa/connect", {"Container": "web", "EndpointConfig": wish})

    def disconnect() -> object:
        return _ask(engine, "POST", "/networks/aaa/disconnect", {"Container": "web"})

    def on_it() -> bool:
        return "aaa" in _web(engine)["NetworkSettings"]["Networks"]

    def ensure_off() -> None:
        if on_it():
            disconnect()
        assert not on_it()

    def ensure_on() -> None:
        if not on_it():
            connect()
        assert on_it()

    assert _each_step(engine, connect, ensure_off) >= 12
    ensure_on()
    assert _each_step(engine, disconnect, ensure_on) >= 10
    ensure_off()
    engine.docker("network", "rm", "aaa")
