"""Small things that scripts and clients of dockerd count on, asked of the API by its bare words."""

import json
from typing import Any

import pytest

from tests.e2e.harness import EngineProcess
from tests.unix_http import UnixConnection

pytestmark = pytest.mark.root


def ask(
    engine: EngineProcess, method: str, path: str, body: Any = None, status: tuple[int, ...] = (200, 201, 204)
) -> Any:
    """Make a request; returns what the answer's JSON says."""
    connection = UnixConnection(engine.host.removeprefix("unix://"), 60, "localhost")
    try:
        raw = None if body is None else json.dumps(body)
        connection.request(method, path, raw, {"Content-Type": "application/json"} if raw else {})
        answer = connection.getresponse()
        text = answer.read()
    finally:
        connection.close()
    assert answer.status in status, (method, path, answer.status, text)
    return json.loads(text) if text else None


def made(
    engine: EngineProcess, version: str = "v1.51", status: tuple[int, ...] = (201,), **body: Any
) -> dict[str, Any]:
    """Create a container that sleeps; returns its inspect, or the refusal."""
    answer = ask(
        engine, "POST", f"/{version}/containers/create", {"Image": "busybox", "Cmd": ["sleep", "1000"], **body}, status
    )
    if status != (201,):
        return dict(answer)
    return dict(ask(engine, "GET", f"/v1.51/containers/{answer['Id']}/json"))


def test_endpoint_options(engine: EngineProcess) -> None:
    """An interface gets the name and the sysctls that its endpoint asks for; the priority decides the way out."""
    for name in ("first", "second"):
        ask(engine, "POST", "/v1.51/networks/create", {"Name": name})
    options = {
        "com.docker.network.endpoint.ifname": "wan7",
        "com.docker.network.endpoint.sysctls": "net.ipv4.conf.IFNAME.log_martians=1,net.ipv4.conf.IFNAME.proxy_arp=1",
    }
    found = made(
        engine,
        HostConfig={"NetworkMode": "first"},
        NetworkingConfig={"EndpointsConfig": {"first": {}, "second": {"DriverOpts": options, "GwPriority": 7}}},
    )
    id_ = found["Id"]
    assert found["NetworkSettings"]["Networks"]["second"]["GwPriority"] == 7
    ask(engine, "POST", f"/v1.51/containers/{id_}/start")
    networks = ask(engine, "GET", f"/v1.51/containers/{id_}/json")["NetworkSettings"]["Networks"]
    assert (networks["first"]["GwPriority"], networks["second"]["GwPriority"]) == (0, 7)
    show = "ls /sys/class/net; cd /proc/sys/net/ipv4/conf/wan7; cat log_martians proxy_arp; ip route"
    told = engine.docker("exec", id_, "sh", "-c", show).out
    assert told.split()[:5] == ["eth0", "lo", "wan7", "1", "1"]
    assert f"default via {networks['second']['Gateway']} dev wan7" in told
    # connected while it runs
    ask(engine, "POST", "/v1.51/networks/second/disconnect", {"Container": id_})
    connect = {"Container": id_, "EndpointConfig": {"DriverOpts": {"com.docker.network.endpoint.ifname": "lan0"}}}
    ask(engine, "POST", "/v1.51/networks/second/connect", connect)
    assert engine.docker("exec", id_, "ls", "/sys/class/net").out.split() == ["eth0", "lan0", "lo"]
    engine.docker("rm", "-f", id_)
    for key, value in (
        ("ifname", "a/b"),
        ("ifname", "lo"),
        ("ifname", "much-too-long-a-name"),
        ("sysctls", "net.ipv4.ip_forward=1"),
        ("sysctls", "net.ipv4.conf.all.forwarding=1"),
        ("sysctls", "net.ipv4.conf.IFNAME.log_martians"),
    ):
        wrong = {"first": {"DriverOpts": {f"com.docker.network.endpoint.{key}": value}}}
        networking = {"EndpointsConfig": wrong}
        refused = made(engine, status=(400,), HostConfig={"NetworkMode": "first"}, NetworkingConfig=networking)
        assert "invalid endpoint settings" in refused["message"], (key, value)
    for name in ("first", "second"):
        ask(engine, "DELETE", f"/v1.51/networks/{name}")


def test_networks_that_compose_makes(engine: EngineProcess) -> None:
    """An IPv6 subnet without EnableIPv6 is shown and not used; the option means what the key means."""
    pools = {"Config": [{"Subnet": "10.213.7.0/24"}, {"Subnet": "fd00:213:7::/64"}]}
    ask(engine, "POST", "/v1.51/networks/create", {"Name": "plain", "IPAM": pools, "EnableIPv6": False})
    option = {"com.docker.network.enable_ipv6": "true"}
    ask(engine, "POST", "/v1.51/networks/create", {"Name": "six", "Options": option})
    plain, six = (ask(engine, "GET", f"/v1.51/networks/{name}") for name in ("plain", "six"))
    assert [pool["Subnet"] for pool in plain["IPAM"]["Config"]] == ["10.213.7.0/24", "fd00:213:7::/64"]
    assert (plain["EnableIPv6"], six["EnableIPv6"]) == (False, True)
    show = ("run", "--rm", "--network")
    assert "inet6" not in engine.docker(*show, "plain", "busybox", "ip", "address", "show", "eth0").out
    assert "inet6" in engine.docker(*show, "six", "busybox", "ip", "address", "show", "eth0").out
    for name in ("plain", "six"):
        ask(engine, "DELETE", f"/v1.51/networks/{name}")


def test_a_mac_address_outlives_disconnect_and_connect(engine: EngineProcess) -> None:
    """The first Compose takes a new container off its network and puts it back with aliases."""
    ask(engine, "POST", "/v1.51/networks/create", {"Name": "back"})
    mac = "02:42:ac:11:00:99"
    id_ = made(engine, "v1.43", MacAddress=mac, HostConfig={"NetworkMode": "back"})["Id"]
    ask(engine, "POST", "/v1.43/networks/back/disconnect", {"Container": id_})
    ask(engine, "POST", "/v1.43/networks/back/connect", {"Container": id_, "EndpointConfig": {"Aliases": ["web"]}})
    ask(engine, "POST", f"/v1.43/containers/{id_}/start")
    assert engine.docker("exec", id_, "cat", "/sys/class/net/eth0/address").out.strip() == mac
    engine.docker("rm", "-f", id_)
    ask(engine, "DELETE", "/v1.51/networks/back")


def test_defaults_of_a_create(engine: EngineProcess) -> None:
    """IPC mode by API version, lists that nobody sent, modes that dockerd refuses, the runtime's name."""
    assert made(engine, "v1.39")["HostConfig"]["IpcMode"] == "shareable"
    host = made(engine, "v1.40")["HostConfig"]
    assert host["IpcMode"] == "private"
    assert [host[name] for name in ("Dns", "DnsOptions", "DnsSearch")] == [None, None, None]
    assert made(engine, HostConfig={"Dns": []})["HostConfig"]["Dns"] == []
    for name in ("PidMode", "UTSMode"):
        assert "private" in made(engine, status=(400,), HostConfig={name: "private"})["message"]
    info = ask(engine, "GET", "/v1.51/info")
    assert info["DefaultRuntime"] == "runc" and {"runc", "wherry-runtime"} <= set(info["Runtimes"])
    assert host["Runtime"] == "runc"
    for name in ("runc", "wherry-runtime"):
        assert made(engine, HostConfig={"Runtime": name})["HostConfig"]["Runtime"] == name
    engine.remove_all()


def test_image_inspect_for_the_first_compose(engine: EngineProcess) -> None:
    """`ContainerConfig` says what the image's configuration says, also of an image that records none."""
    for version in ("v1.41", "v1.51"):
        shown = ask(engine, "GET", f"/{version}/images/busybox/json")
        assert shown["ContainerConfig"]["Cmd"] == shown["Config"]["Cmd"]
        assert ("Container" in shown) == (version == "v1.41")


def test_sizes_of_an_image_and_its_platforms(engine: EngineProcess) -> None:
    """An image takes what its platforms take together, and never less than what was fetched of it."""
    for line in ask(engine, "GET", "/v1.51/images/json?manifests=1"):
        sizes = [entry["Size"] for entry in line["Manifests"]]
        assert line["Size"] == sum(size["Total"] for size in sizes)
        assert all(line["Size"] >= size["Total"] > size["Content"] > 0 for size in sizes)
    told = engine.wherry("images", "--tree").out.splitlines()
    parent, platform = (next(row for row in told if mark in row).split() for mark in ("busybox", "└─"))
    assert parent[2] == platform[3], told
