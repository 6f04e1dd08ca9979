"""A wherryd with a daemon.json as people have them, in a host of its own: what the docker command sees of each key."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cgroups import controllers
from tests.e2e.harness import WHERRYD, EngineProcess, running, within
from wherry.linux import netns
from wherry.network import sandbox

pytestmark = pytest.mark.root

SETTINGS: dict[str, Any] = {
    "bip": "10.210.0.1/16",
    "fixed-cidr": "10.210.7.0/24",
    "ipv6": True,
    "fixed-cidr-v6": "fd42:7::/64",
    "ip": "127.0.0.1",
    "mtu": 1380,
    "ip-forward": False,
    "default-address-pools": [{"base": "10.211.0.0/16", "size": 24}],
    "default-network-opts": {"bridge": {"com.docker.network.driver.mtu": "1340"}},
    "host-gateway-ip": "10.210.0.99",
    "default-ulimits": {"nofile": {"Name": "nofile", "Hard": 777, "Soft": 666}},
    "default-shm-size": "32M",
    "default-ipc-mode": "shareable",
    "default-cgroupns-mode": "private",
    "proxies": {"http-proxy": "http://me:secret@127.0.0.1:9", "no-proxy": "registry.local"},
    "labels": ["rack=7"],
    "log-format": "json",
    "features": {"buildkit": True},
    "exec-opts": ["native.cgroupdriver=systemd"],
    "iptables": True,
    "userland-proxy": False,
}


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineProcess]:
    """The engine, in a network namespace of its own that does not forward."""
    file = tmp_path_factory.mktemp("settings") / "daemon.json"
    file.write_text(json.dumps(SETTINGS))
    there = sandbox.create_namespace()
    netns.inside(there, lambda: Path("/proc/sys/net/ipv4/ip_forward").write_text("0"))
    try:
        with running(EngineProcess("--config-file", str(file), program=within(there, WHERRYD))) as engine:
            yield engine
    finally:
        os.close(there)


def _info(engine: EngineProcess) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(engine.docker("info", "-f", "{{json .}}").out)
    return found


def test_networks_follow_the_settings(engine: EngineProcess) -> None:
    """Addresses, MTU, IPv6 and the address of published ports of the default bridge; pools and options of others."""
    engine.docker("run", "-d", "--name", "web", "-p", "8080:80", "busybox", "sleep", "1000")
    (found,) = json.loads(engine.docker("inspect", "web").out)
    endpoint = found["NetworkSettings"]["Networks"]["bridge"]
    assert endpoint["IPAddress"].startswith("10.210.7.") and endpoint["IPPrefixLen"] == 16
    assert endpoint["GlobalIPv6Address"] == "fd42:7::2" and endpoint["Gateway"] == "10.210.0.1"
    assert found["NetworkSettings"]["Ports"]["80/tcp"] == [{"HostIp": "127.0.0.1", "HostPort": "8080"}]
    shown = engine.docker("exec", "web", "ip", "addr", "show", "eth0").out
    assert "mtu 1380" in shown and "fd42:7::2/64" in shown
    engine.docker("network", "create", "other")
    (other,) = json.loads(engine.docker("network", "inspect", "other").out)
    assert other["IPAM"]["Config"][0]["Subnet"] == "10.211.0.0/24"
    assert other["Options"]["com.docker.network.driver.mtu"] == "1340"
    shown = engine.docker("run", "--rm", "--network", "other", "busybox", "ip", "addr", "show", "eth0").out
    assert "mtu 1340" in shown
    hosts = engine.docker("run", "--rm", "--add-host", "me:host-gateway", "busybox", "cat", "/etc/hosts").out
    assert "10.210.0.99\tme" in hosts
    assert _info(engine)["DefaultAddressPools"] == [{"Base": "10.211.0.0/16", "Size": 24}]


def test_containers_follow_the_settings(engine: EngineProcess) -> None:
    """Limits, /dev/shm and namespaces, where the container says nothing."""
    look = "ulimit -n; ulimit -Hn; df -k /dev/shm | tail -1"
    done = engine.docker("run", "--name", "looks", "busybox", "sh", "-c", look).out.split()
    assert done[:2] == ["666", "777"] and "32768" in done
    form = "{{.HostConfig.IpcMode}} {{.HostConfig.CgroupnsMode}} {{.HostConfig.ShmSize}}"
    assert engine.docker("inspect", "-f", form, "looks").out.split() == ["shareable", "private", str(32 << 20)]
    own = engine.docker("run", "--rm", "--ulimit", "nofile=50:60", "busybox", "sh", "-c", "ulimit -n; ulimit -Hn")
    assert own.out.split() == ["50", "60"]


def test_info_tells_what_is(engine: EngineProcess) -> None:
    """The proxies that are used, the labels, and that nobody forwards here."""
    found = _info(engine)
    assert (found["HttpProxy"], found["NoProxy"]) == ("http://xxxxx:xxxxx@127.0.0.1:9", "registry.local")
    assert found["IPv4Forwarding"] is False and "WARNING: IPv4 forwarding is disabled" in found["Warnings"]
    assert found["Labels"] == ["rack=7"]
    v1 = Path("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes").exists()
    v2 = Path("/sys/fs/cgroup/cgroup.controllers")
    assert found["SwapLimit"] == (v1 or (v2.exists() and "memory" in v2.read_text()))


def test_the_log_has_one_warning_for_each_ignored_key(engine: EngineProcess) -> None:
    """As JSON, as `log-format` wants; what asks for nothing has none."""
    lines = [json.loads(line) for line in engine.log.read_text().splitlines()]
    ignored = [line["msg"] for line in lines if "has no effect" in line["msg"]]
    assert [message.split(": ")[1].split(" ")[0] for message in ignored] == ["features", "exec-opts"]


HIDE_PIDS = 'umount /sys/fs/cgroup/pids 2>/dev/null; exec "$@"'


def test_a_limit_that_this_host_lacks_is_discarded_with_dockers_warning() -> None:
    """The create response says so, `info` too; the container runs without it."""
    hidden = os.path.exists("/sys/fs/cgroup/pids/cgroup.procs")  # pure v2 has other things to lack
    with running(EngineProcess(program=("unshare", "-m", "sh", "-c", HIDE_PIDS, "sh", WHERRYD))) as engine:
        flag = ("--pids-limit", "50") if hidden else ("--memory-swappiness", "10")
        done = engine.docker("run", "--rm", *flag, "busybox", "echo", "runs")
        what = "PIDs limit" if hidden else "memory swappiness"
        assert done.out == "runs\n"
        assert f"Your kernel does not support {what} capabilities or the cgroup is not mounted. " in done.err
        assert done.err.strip().endswith("discarded.")
        found = _info(engine)
        assert found["PidsLimit"] is ("pids" in controllers() and not hidden)
        shown = engine.docker("create", "--security-opt", "apparmor=unconfined", "busybox").out.strip()
        assert engine.docker("inspect", "-f", "{{.AppArmorProfile}}", shown).out == "unconfined\n"
