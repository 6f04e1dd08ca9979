"""Networks of users by the real docker command: made, joined, left, removed, and there again after a crash."""

import json
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.harness import EngineProcess, running, until
from tests.e2e.shared import ask, lent

pytestmark = pytest.mark.root

SLEEP = ("busybox", "sleep", "9999")


@pytest.fixture(scope="module")
def shared() -> Iterator[EngineProcess]:
    """An engine with busybox in it, for this file."""
    with running(EngineProcess()) as engine:
        yield engine


@pytest.fixture
def engine(shared: EngineProcess) -> Iterator[EngineProcess]:
    """That engine; what a test made is removed after it."""
    with lent(shared) as engine:
        yield engine


def _settings(engine: EngineProcess, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(engine.docker("inspect", "-f", "{{json .NetworkSettings}}", name).out)
    return found


def _networks(engine: EngineProcess, name: str) -> dict[str, Any]:
    found: dict[str, Any] = _settings(engine, name)["Networks"]
    return found


def _inside(engine: EngineProcess, name: str, command: str) -> str:
    return engine.docker("exec", name, "sh", "-c", command).out


def _addresses(engine: EngineProcess, name: str) -> dict[str, list[str]]:
    """Interface -> its addresses, as the container sees them."""
    found: dict[str, list[str]] = {}
    link = ""
    for line in _inside(engine, name, "ip a").splitlines():
        words = line.split()
        if line[0].isdigit():
            link = words[1].rstrip(":").partition("@")[0]
            found[link] = []
        elif words[0] in ("inet", "inet6") and not words[1].startswith("fe80"):
            found[link].append(words[1])
    del found["lo"]
    return found


def test_several_networks_from_the_start(engine: EngineProcess) -> None:
    """A container has an interface on each of its networks, in their order, with the addresses it asked for."""
    engine.docker("network", "create", "--subnet", "10.231.1.0/24", "n1")
    engine.docker("network", "create", "--ipv6", "--subnet", "fd00:231::/64", "--subnet", "10.231.2.0/24", "n2")
    engine.docker(
        *("run", "-d", "--name", "web", "--network", "name=n2,ip6=fd00:231::77,alias=x"),
        *("--network", "name=n1,ip=10.231.1.9,mac-address=02:11:22:33:44:55", *SLEEP),
    )
    assert _addresses(engine, "web") == {"eth0": ["10.231.2.2/24", "fd00:231::77/64"], "eth1": ["10.231.1.9/24"]}
    assert "02:11:22:33:44:55" in _inside(engine, "web", "cat /sys/class/net/eth1/address")
    networks = _networks(engine, "web")
    assert networks["n2"]["Aliases"] == ["x"] and networks["n2"]["DNSNames"][:2] == ["web", "x"]
    assert networks["n2"]["IPv6Gateway"] == "fd00:231::1"
    # the way out is that of the first network by name; IPv6 has only one
    assert "default via 10.231.1.1 dev eth1" in _inside(engine, "web", "ip route")
    assert "default via fd00:231::1 dev eth0" in _inside(engine, "web", "ip -6 route")
    hosts = _inside(engine, "web", "cat /etc/hosts")
    assert all(f"{address}\t" in hosts for address in ("10.231.2.2", "fd00:231::77", "10.231.1.9"))


@pytest.mark.parametrize("command", ["docker", "wherry"])
def test_connect_and_disconnect_while_it_runs(engine: EngineProcess, command: str) -> None:
    """A running container comes onto a network and leaves it; address, routes, hosts file and ports follow."""
    cli = getattr(engine, command)
    cli("network", "create", "--subnet", "10.231.1.0/24", "n1")
    cli("network", "create", "--subnet", "10.231.2.0/24", "--ip-range", "10.231.2.128/25", "n2")
    engine.docker("run", "-d", "--name", "web", "-p", "80", "--network", "n2", *SLEEP)
    port = engine.docker("port", "web", "80").out
    cli("network", "connect", "--ip", "10.231.1.7", "--alias", "y", "n1", "web")
    assert _addresses(engine, "web") == {"eth0": ["10.231.2.129/24"], "eth1": ["10.231.1.7/24"]}
    assert "default via 10.231.1.1" in _inside(engine, "web", "ip route")
    assert "10.231.1.7\t" in _inside(engine, "web", "cat /etc/hosts")
    assert _networks(engine, "web")["n1"]["Aliases"] == ["y"]
    assert engine.docker("port", "web", "80").out == port
    refused = cli("network", "connect", "n1", "web", check=False)
    assert refused.code == 1 and "endpoint with name web already exists in network n1" in refused.err
    refused = cli("network", "rm", "n1", check=False)
    assert refused.code == 1 and "has active endpoints" in refused.err
    cli("network", "disconnect", "n1", "web")
    assert _addresses(engine, "web") == {"eth0": ["10.231.2.129/24"]}
    assert "default via 10.231.2.128" in _inside(engine, "web", "ip route")
    assert "10.231.1.7" not in _inside(engine, "web", "cat /etc/hosts")
    cli("network", "disconnect", "n2", "web")
    assert _addresses(engine, "web") == {} and engine.docker("port", "web").out == ""
    cli("network", "connect", "bridge", "web")
    assert engine.docker("port", "web", "80").out == port
    cli("network", "rm", "n1", "n2")


def test_who_leaves_none_can_be_connected(engine: EngineProcess) -> None:
    """A container without a network gets one while it runs, keeps it over a restart, and does not without leaving."""
    engine.docker("network", "create", "--subnet", "10.231.1.0/24", "n1")
    engine.docker("run", "-d", "--name", "alone", "--network", "none", *SLEEP)
    refused = engine.docker("network", "connect", "n1", "alone", check=False)
    assert "with one of the networks in private (none) mode" in refused.err
    engine.docker("network", "disconnect", "none", "alone")
    assert _networks(engine, "alone") == {}
    again = engine.docker("network", "disconnect", "none", "alone", check=False)
    assert "is not connected to network none" in again.err
    engine.docker("network", "connect", "--ip", "10.231.1.9", "n1", "alone")
    assert _addresses(engine, "alone") == {"eth0": ["10.231.1.9/24"]}
    engine.docker("restart", "-t", "0", "alone")
    assert _addresses(engine, "alone") == {"eth0": ["10.231.1.9/24"]}
    engine.docker("rm", "-f", "alone")
    engine.docker("network", "rm", "n1")


def test_what_is_connected_stays_so(engine: EngineProcess) -> None:
    """What was connected and disconnected, while it ran or not, is what the next start makes."""
    for number in (1, 2, 3):
        engine.docker("network", "create", "--subnet", f"10.231.{number}.0/24", f"n{number}")
    engine.docker("create", "--name", "web", "--network", "n1", *SLEEP)
    engine.docker("network", "connect", "--ip", "10.231.2.50", "n2", "web")
    assert sorted(_networks(engine, "web")) == ["n1", "n2"]
    engine.docker("network", "disconnect", "n1", "web")
    refused = engine.docker("network", "disconnect", "n1", "web", check=False)
    assert "is not connected to the network n1" in refused.err
    engine.docker("start", "web")
    assert _addresses(engine, "web") == {"eth0": ["10.231.2.50/24"]}
    engine.docker("network", "connect", "n3", "web")
    engine.docker("restart", "-t", "0", "web")
    assert _addresses(engine, "web") == {"eth0": ["10.231.2.50/24"], "eth1": ["10.231.3.2/24"]}
    engine.docker("rm", "-f", "web")
    engine.docker("network", "rm", "n1", "n2", "n3")


def test_networks_outlive_the_engine(engine: EngineProcess) -> None:
    """After `kill -9` networks, endpoints and ports are what they were; addresses in use are not given again."""
    engine.docker("network", "create", "--ipv6", "--label", "a=b", "n1")
    engine.docker("run", "-d", "--name", "web", "-p", "8123:80", "--network", "n1", *SLEEP)
    engine.docker("network", "connect", "bridge", "web")
    before, network = _settings(engine, "web"), engine.docker("network", "inspect", "n1").out
    engine.kill()
    engine.start()
    assert _settings(engine, "web") == before
    assert engine.docker("network", "inspect", "n1").out == network
    engine.docker("run", "-d", "--name", "two", "--network", "n1", *SLEEP)
    mine, other = _networks(engine, "two")["n1"], before["Networks"]["n1"]
    assert mine["IPAddress"] != other["IPAddress"] and mine["GlobalIPv6Address"] != other["GlobalIPv6Address"]
    engine.docker("network", "disconnect", "n1", "web")
    engine.docker("rm", "-f", "web", "two")


def test_a_removed_network_leaves_nothing(engine: EngineProcess) -> None:
    """`rm` and `prune` take bridge and record away, and only of networks that nobody is on."""
    ids = [engine.docker("network", "create", name).out.strip() for name in ("n1", "n2")]
    engine.docker("run", "-d", "--name", "web", "--network", "n1", *SLEEP)
    bridges = [Path(f"/sys/class/net/br-{id_[:12]}") for id_ in ids]
    assert all(bridge.exists() for bridge in bridges)
    pruned = engine.docker("network", "prune", "-f").out
    assert pruned.split() == ["Deleted", "Networks:", "n2"]
    assert [bridge.exists() for bridge in bridges] == [True, False]
    engine.docker("rm", "-f", "web")
    engine.docker("network", "rm", "n1")
    assert not bridges[0].exists()
    until(lambda: not list(Path(engine.roots.networks).glob("*/network.json")), "no record is left")


def test_what_a_removed_container_had_is_free(engine: EngineProcess) -> None:
    """Whoever is told of the removal may take its address, or remove its network, at once."""
    ask(engine, "POST", "/networks/create", {"Name": "n1", "IPAM": {"Config": [{"Subnet": "10.221.9.0/24"}]}})
    request = {
        "Image": "busybox",
        "Cmd": ["true"],
        "HostConfig": {"AutoRemove": True, "NetworkMode": "n1"},
        "NetworkingConfig": {"EndpointsConfig": {"n1": {"IPAMConfig": {"IPv4Address": "10.221.9.7"}}}},
    }
    for _ in range(10):
        name = ask(engine, "POST", "/containers/create", request)["Id"]
        gone = threading.Thread(target=ask, args=(engine, "POST", f"/containers/{name}/wait?condition=removed"))
        gone.start()
        assert ask(engine, "POST", f"/containers/{name}/start") is None
        gone.join()
        assert not ask(engine, "GET", "/networks/n1")["Containers"]
    assert ask(engine, "DELETE", "/networks/n1") is None


def test_events_tell_of_networks(engine: EngineProcess) -> None:
    """Create, connect, disconnect and destroy are told, with the network's name and the container's id."""
    engine.docker("network", "create", "n1")
    id_ = engine.docker("run", "-d", "--name", "web", "--network", "n1", *SLEEP).out.strip()
    engine.docker("rm", "-f", "web")
    until(lambda: engine.docker("network", "rm", "n1", check=False).code == 0, "the network goes")
    end = str(int(time.time()) + 1)
    told = engine.docker("events", "--since", "1h", "--until", end, "--filter", "type=network", "--format", "json").out
    events = [json.loads(line) for line in told.splitlines()]
    mine = [event for event in events if event["Actor"]["Attributes"].get("name") == "n1"][-4:]
    assert [event["Action"] for event in mine] == ["create", "connect", "disconnect", "destroy"]
    assert [event["Actor"]["Attributes"].get("container") for event in mine] == [None, id_, id_, None]


def test_check_says_what_is_wrong(engine: EngineProcess) -> None:
    """`network check` names what stands in the way: no listener, the wrong listener, nothing published, a lost link."""
    engine.docker("network", "create", "n1")
    engine.docker(
        *("run", "-d", "--name", "web", "--network", "n1", "-p", "80", "-p", "127.0.0.1::81", "busybox"),
        *("sh", "-c", "httpd -p 80; httpd -p 127.0.0.1:81; exec sleep 999"),
    )

    def check(*port: str) -> tuple[int, str]:
        done = engine.wherry("network", "check", "web", *port, check=False)
        return done.code, done.out

    until(lambda: "something listens on 80/tcp" in check("80")[1], "the server listens")
    code, told = check("80")
    assert "from everywhere" in told and "its way out is" in told and "FAIL" not in told.replace("no default route", "")
    code, told = check("81")
    assert code == 1 and "for this host only" in told
    assert "FAIL  81/tcp is listened on for the container's own loopback only" in told
    code, told = check("82")
    assert (
        code == 1 and "ok    82/tcp is not published on this host" in told and "FAIL  nothing listens on 82/tcp" in told
    )
    assert engine.wherry("network", "check", "nope", check=False).err.strip().endswith("No such container: nope")
    assert "invalid" in engine.wherry("network", "check", "web", "x", check=False).err
    id_ = engine.docker("network", "inspect", "-f", "{{.Id}}", "n1").out[:12]
    port = next(Path(f"/sys/class/net/br-{id_}/brif").iterdir()).name
    subprocess.run(["ip", "link", "set", port, "down"], check=True)
    code, told = check()
    assert code == 1 and f"FAIL  the link {port} to bridge br-{id_} is down" in told
    engine.docker("stop", "-t", "0", "web")
    assert check() == (1, "FAIL  container web is exited: start it with wherry start web\n")


def test_check_of_a_healthy_internal_service(engine: EngineProcess) -> None:
    """README's example: a database that is published nowhere, because only its neighbours need it, is no failure."""
    engine.docker("network", "create", "--internal", "back")
    engine.docker(*("run", "-d", "--name", "db", "--network", "back", "busybox", "httpd", "-f", "-p", "5432"))

    def check() -> str:
        return engine.wherry("network", "check", "db", "5432", check=False).out

    until(lambda: "something listens on 5432/tcp" in check(), "the server listens")
    told = engine.wherry("network", "check", "db", "5432").out
    assert "FAIL" not in told and "5432/tcp is not published on this host: only containers" in told


def test_a_full_network_is_named(engine: EngineProcess) -> None:
    """Which network has no address left is said, in Docker's words."""
    id_ = engine.docker("network", "create", "--subnet", "10.222.33.0/30", "tiny").out.strip()
    engine.docker("run", "-d", "--network", "tiny", *SLEEP)
    refused = engine.docker("run", "--network", "tiny", "busybox", "true", check=False)
    assert refused.code == 125
    assert f"no available IPv4 addresses on this network's address pools: tiny ({id_})" in refused.err


def test_a_published_port_is_held(engine: EngineProcess) -> None:
    """While a container runs nobody else gets its host port, also while the engine is away; afterwards it is free."""
    engine.docker("run", "-d", "--name", "web", "-p", "18123:80", *SLEEP)

    def taken() -> bool:
        with socket.socket() as other:
            try:
                other.bind(("0.0.0.0", 18123))
            except OSError:
                return True
            return False

    assert taken()
    engine.kill()
    assert taken()
    engine.start()
    refused = engine.docker("run", "--rm", "-p", "18123:80", "busybox", "true", check=False)
    assert "Bind for 0.0.0.0:18123 failed: port is already allocated" in refused.err
    engine.docker("rm", "-f", "web")
    until(lambda: not taken(), "the port is free")


def test_ports_in_every_form(engine: EngineProcess) -> None:
    """Ranges, UDP, an address of the host, IPv6, `-P`: each is published where it says, over both families."""
    engine.docker("network", "create", "--ipv6", "n1")
    engine.docker(
        *("run", "-d", "--name", "web", "--network", "n1", "-p", "18086:80", "-p", "[::]:18087:80"),
        *("-p", "19000-19002:9000-9002/udp", "-p", "127.0.0.1::81", "-P", "--expose", "99", *SLEEP),
    )
    told = engine.docker("port", "web").out.splitlines()
    assert {"80/tcp -> 0.0.0.0:18086", "80/tcp -> [::]:18086", "80/tcp -> [::]:18087"} <= set(told)
    ranges = {f"{n}/udp -> {host}:{n + 10000}" for n in (9000, 9001, 9002) for host in ("0.0.0.0", "[::]")}
    assert ranges <= set(told)
    chosen = [line.rpartition(":")[2] for line in told if line.startswith("99/tcp")]
    assert len(chosen) == 2 and len(set(chosen)) == 1
    assert [line for line in told if line.startswith("81/tcp -> 127.0.0.1:")]
    table = subprocess.run(["nft", "list", "table", "ip6", engine.roots.scope], check=True, capture_output=True).stdout
    address = _networks(engine, "web")["n1"]["GlobalIPv6Address"]
    assert f"tcp . 18087 : {address} . 80".encode() in table


def test_macvlan_is_beside_the_host(engine: EngineProcess) -> None:
    """Containers on a macvlan reach each other over its parent; what the kernel cannot do is refused at create."""
    parent = f"wmv{engine.pid % 100000}"
    subprocess.run(["ip", "link", "add", parent, "type", "bridge"], check=True)
    try:
        subprocess.run(["ip", "link", "set", parent, "up"], check=True)
        engine.docker("network", "create", "-d", "macvlan", "-o", f"parent={parent}", "--subnet", "10.233.0.0/24", "n1")
        for name in ("web", "two"):
            engine.docker("run", "-d", "--name", name, "--network", "n1", *SLEEP)
        assert " 0% packet loss" in _inside(engine, "web", "ping -c 1 -w 10 10.233.0.3")
        engine.docker("network", "connect", "bridge", "web")
        engine.docker("network", "disconnect", "n1", "web")
        assert list(_addresses(engine, "web")) == ["eth1"]
        engine.docker("rm", "-f", "web", "two")
        engine.docker("network", "rm", "n1")
        for option, words in (
            ("parent=nope", "invalid subinterface vlan name nope"),
            ("macvlan_mode=foo", "requested macvlan mode 'foo' is not valid"),
            ("x=y", "needs a parent interface"),
            ("parent=lo", "add macvlan link"),
        ):
            refused = engine.docker("network", "create", "-d", "macvlan", "-o", option, "n2", check=False)
            assert words in refused.err
    finally:
        subprocess.run(["ip", "link", "del", parent], check=True)


def test_a_thousand_ports_of_one_container(engine: EngineProcess) -> None:
    """A range of a thousand ports is published, held and given back; the next container starts as before."""
    engine.docker("run", "-d", "--name", "web", "-p", "20000-20999:20000-20999", *SLEEP)
    assert engine.docker("port", "web").out.count(" -> 0.0.0.0:") == 1000

    def free(port: int) -> bool:
        with socket.socket() as other:
            return _binds(other, port)

    assert not any(free(port) for port in (20000, 20099, 20100, 20999))
    engine.docker("run", "--rm", "-p", "18123:80", "busybox", "true")
    engine.docker("rm", "-f", "web")
    until(lambda: all(free(port) for port in (20000, 20999)), "the ports are free")


def _binds(sock: socket.socket, port: int) -> bool:
    try:
        sock.bind(("0.0.0.0", port))
    except OSError:
        return False
    return True
