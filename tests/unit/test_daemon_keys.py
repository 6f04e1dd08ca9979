"""dockerd's keys of daemon.json: each works, is ignored with one warning, or is refused by name; the docs say which."""

import json
import logging
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.certificates import SERVER, Authority

from wherry import daemon
from wherry.config import EngineConfig
from wherry.config_checks import shm_bytes
from wherry.containers import create
from wherry.daemon import configure
from wherry.daemon_keys import IGNORED, KEYS, REFUSED, WORKS
from wherry.distribution.settings import registry_settings
from wherry.engine import host_report
from wherry.errors import InvalidArgument
from wherry.network.ipam import choose_subnet
from wherry.runtime.cgroups.features import _V1, _V2, Features
from wherry.wire.containers import HostConfig, Ulimit

ROOT = Path(__file__).parent.parent.parent
DOCKERDS = """
allow-direct-routing allow-nondistributable-artifacts api-cors-header authorization-plugins bip bip6 bridge
bridge-accept-fwmark builder cdi-spec-dirs cgroup-parent cluster-advertise cluster-store cluster-store-opts containerd
containerd-namespace containerd-plugin-namespace cpu-rt-period cpu-rt-runtime data-root debug default-address-pools
default-cgroupns-mode default-gateway default-gateway-v6 default-ipc-mode default-network-opts default-runtime
default-shm-size default-ulimits deprecated-key-path dns dns-opts dns-search exec-opts exec-root experimental features
firewall-backend fixed-cidr fixed-cidr-v6 graph group host-gateway-ip host-gateway-ips hosts icc init init-path
insecure-registries ip ip-forward ip-forward-no-drop ip-masq ip6tables iptables ipv6 labels live-restore log-driver
log-format log-level log-opts max-concurrent-downloads max-concurrent-uploads max-download-attempts metrics-addr
min-api-version mtu network-control-plane-mtu network-diagnostic-port no-new-privileges node-generic-resources
oom-score-adjust pidfile proxies raw-logs registry-mirrors resolv-conf rootless runtimes seccomp-profile
selinux-enabled shutdown-timeout storage-driver storage-opts swarm-default-advertise-addr tls tlscacert tlscert tlskey
tlsverify userland-proxy userland-proxy-path userns-remap
""".split()


def _configured(tmp_path: Path, values: dict[str, Any]) -> EngineConfig:
    file = tmp_path / "daemon.json"
    file.write_text(json.dumps(values))
    return configure(["--config-file", str(file)])


def test_every_key_of_dockerd_is_judged() -> None:
    """None is unknown, and each says why."""
    assert not set(DOCKERDS) - set(KEYS)
    assert all(key.reason and key.verdict in (WORKS, IGNORED, REFUSED) for key in KEYS.values())
    attributes = vars(EngineConfig())
    for name, key in KEYS.items():
        assert (key.attribute in attributes) == (key.verdict == WORKS), name


def test_the_documentation_is_the_table() -> None:
    """docs/daemon-json.md has a row for each key, with its verdict and its reason."""
    text = (ROOT / "docs" / "daemon-json.md").read_text()
    rows = re.findall(r"^\| `([a-z0-9-]+)` \| (works|ignored|refused) \| (.+) \|$", text, re.MULTILINE)
    assert rows == [(name, key.verdict, key.reason) for name, key in sorted(KEYS.items())]


@pytest.mark.parametrize(
    "values",
    [
        {"exec-opts": ["native.cgroupdriver=systemd"]},
        {"features": {"buildkit": True}},
        {"features": {"containerd-snapshotter": True}},
        {"userland-proxy": True},
        {"runtimes": {"nvidia": {"path": "nvidia-container-runtime", "runtimeArgs": []}}},
        {"containerd": "/run/containerd/containerd.sock"},
        {"raw-logs": True},
    ],
)
def test_what_means_nothing_here_is_one_warning(
    tmp_path: Path, values: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """It does not stop the engine; `--validate` prints the warning, with the key's name."""
    config = _configured(tmp_path, values)
    (name,) = values
    assert len(config.warnings) == 1 and f"{name} has no effect" in config.warnings[0]
    assert daemon.main(["--validate", "--config-file", str(tmp_path / "daemon.json")]) == 0
    shown = capsys.readouterr()
    assert shown.out == "configuration OK\n" and shown.err.count("warning") == 1 and name in shown.err


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"iptables": False}, "iptables is not supported: published ports"),
        ({"storage-opts": ["overlay2.size=10G"]}, "storage-opts is not supported: layers have no size limits"),
        ({"selinux-enabled": True}, "selinux-enabled is not supported"),
        ({"metrics-addr": "127.0.0.1:9323"}, "metrics-addr is not supported"),
        ({"hosts": ["tcp://127.0.0.1"]}, "tcp://127.0.0.1:2375: it has no TLS, so that whoever reaches it is root"),
        ({"hosts": ["tcp://"], "tls": True}, "tcp://127.0.0.1:2376: tls alone asks clients for no certificate"),
        ({"hosts": ["tcp://:1"], "tlsverify": False}, "tcp://127.0.0.1:1: tls alone asks clients for no certificate"),
        (
            {"hosts": ["tcp://"], "tlsverify": True, "tlscacert": "/none", "tlscert": "/none", "tlskey": "/none"},
            "invalid TLS configuration: open /none: no such file or directory",
        ),
        ({"authorization-plugins": ["opa"]}, "authorization-plugins is not supported"),
        ({"cluster-store": "etcd://x"}, "cluster-store is not supported"),
        ({"loglevel": "debug"}, r'configuration option: loglevel \(did you mean "log-level"\?\)'),
        ({"default-address-pools": [{"base": "10.0.0.0/8", "size": 4}]}, "size 4 does not fit 10.0.0.0/8"),
        ({"default-address-pools": [{"base": "10.0.0.0/8"}]}, "default-address-pools: expected"),
        ({"default-ulimits": {"nofile": {"Hard": 1, "Soft": 2}}}, "soft limit must be less than or equal to hard"),
        ({"default-shm-size": "lots"}, "default-shm-size: invalid size: 'lots'"),
        ({"fixed-cidr": "10.9.0.0/24", "bip": "10.8.0.1/16"}, "is not in the subnet of bip"),
        ({"fixed-cidr-v6": "fd00::/64"}, "fixed-cidr-v6: it needs"),
        ({"default-runtime": "nvidia"}, "default-runtime: unknown runtime"),
        ({"default-ipc-mode": "host"}, "IPC mode"),
        ({"max-concurrent-downloads": 0}, "invalid max concurrent downloads: 0"),
        ({"proxies": {"ftp-proxy": "x"}}, "proxies: ftp-proxy: no such setting"),
        ({"registry-mirrors": ["ftp://x"]}, "invalid mirror"),
        ({"bip": "10.9.0.0/24"}, "invalid bip"),
        ({"builder": {"nonsense": 1}}, "nonsense"),
        ({"mtu": True}, "mtu: expected a number, got true or false"),
        ({"ip": "nowhere"}, "ip: "),
    ],
)
def test_what_cannot_be_had_is_refused_by_name(
    tmp_path: Path, values: dict[str, Any], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the reason, at the start and by `--validate` (exit code 1)."""
    with pytest.raises(InvalidArgument, match=words):
        _configured(tmp_path, values)
    assert daemon.main(["--validate", "--config-file", str(tmp_path / "daemon.json")]) == 1
    assert re.search(words, capsys.readouterr().err)


def test_values_that_ask_for_nothing_pass(tmp_path: Path) -> None:
    """What a file says only for the record is no trouble and no warning."""
    values = {
        "iptables": True,
        "ip6tables": True,
        "userland-proxy": False,
        "selinux-enabled": False,
        "tls": False,
        "tlsverify": False,
        "storage-opts": ["overlay2.override_kernel_check=true"],
        "exec-opts": ["native.cgroupdriver=cgroupfs"],
        "features": {"buildkit": False},
        "runtimes": {},
        "default-runtime": "runc",
        "metrics-addr": "",
    }
    assert _configured(tmp_path, values).warnings == []


def test_wherryd_validates_without_root_or_start(tmp_path: Path) -> None:
    """The installed program says so itself."""
    file = tmp_path / "daemon.json"
    file.write_text('{"mtu": 1400}')
    asked = [str(Path(sys.executable).parent / "wherryd"), "--validate", "--config-file", str(file)]
    done = subprocess.run(asked, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "configuration OK\n", "")


def test_default_address_pools_by_flag_and_file(tmp_path: Path) -> None:
    """Both say the same; subnets come from them in order."""
    pools = [{"base": "10.201.0.0/16", "size": 24}, {"base": "10.202.0.0/24", "size": 28}]
    words = [f"--default-address-pool=base={pool['base']},size={pool['size']}" for pool in pools]
    absent = ["--config-file", str(tmp_path / "daemon.json")]
    (tmp_path / "daemon.json").write_text("{}")
    by_flag = configure([*absent, *words])
    assert by_flag.default_address_pools == pools
    assert _configured(tmp_path, {"default-address-pools": pools}).default_address_pools == pools
    pairs = [(str(pool["base"]), int(str(pool["size"]))) for pool in pools]
    assert choose_subnet(["10.201.0.0/24"], pairs) == "10.201.1.0/24"
    assert choose_subnet(["10.201.0.0/16"], pairs) == "10.202.0.0/28"
    assert host_report.network_settings(by_flag)["DefaultAddressPools"][0] == {"Base": "10.201.0.0/16", "Size": 24}


def test_shared_memory_size_is_read_as_docker_reads_it() -> None:
    """Binary multiples, or bytes."""
    assert [shm_bytes(value) for value in ("64M", "1g", "1.5GiB", "128mb", 4096, "4096")] == [
        64 << 20,
        1 << 30,
        3 << 29,
        128 << 20,
        4096,
        4096,
    ]


def test_default_ulimits_fill_what_is_open() -> None:
    """A container's own limit wins."""
    config = EngineConfig()
    config.update(
        {"default-ulimits": {n: {"Name": n, "Hard": 64, "Soft": 32} for n in ("nofile", "core")}}, "daemon.json"
    )
    host = HostConfig(ulimits=[Ulimit("core", 0, 0)])
    create._fill_ulimits(config, host)
    assert host.ulimits == [Ulimit("core", 0, 0), Ulimit("nofile", 64, 32)]


def test_download_attempts_become_pauses() -> None:
    """One attempt has no pause after it."""
    config = EngineConfig()
    assert len(registry_settings(config).delays) == 4
    config.max_download_attempts = 1
    assert registry_settings(config).delays == ()
    config.max_download_attempts = 8
    assert registry_settings(config).delays[-2:] == (4.0, 4.0)


def test_json_log_lines() -> None:
    """`log-format: json`: an object a line, as dockerd writes them."""
    record = logging.LogRecord("wherryd", logging.WARNING, "", 0, "say %s", ("this",), None)
    found = json.loads(daemon._JsonLines().format(record))
    assert (found["level"], found["msg"]) == ("warning", "say this") and found["time"].endswith("Z")


class _Host:
    cgroup_version = "v1"


def test_tls_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As dockerd's: tlsverify implies tls, the files have default names; addresses are written in full."""
    authority = Authority(tmp_path)
    pair = authority.sign("cert", SERVER)
    pair.key.rename(tmp_path / "key.pem")
    monkeypatch.setenv("DOCKER_CERT_PATH", str(tmp_path))
    found = _configured(tmp_path, {"tlsverify": True, "hosts": ["tcp://", "unix:///run/x.sock", "tcp://[::1]:1"]})
    assert found.hosts == ["tcp://127.0.0.1:2376", "unix:///run/x.sock", "tcp://[::1]:1"]
    files = daemon.certificates(found)
    assert files is not None
    assert (files.certificate, files.key, files.authority) == (
        *(f"{tmp_path}/cert.pem", f"{tmp_path}/key.pem", f"{tmp_path}/ca.pem"),
    )
    found = _configured(tmp_path, {"tls": True, "hosts": ["tcp://"], "insecure-plain-tcp": True})
    files = daemon.certificates(found)
    assert files is not None and files.authority is None
    assert daemon.certificates(_configured(tmp_path, {"hosts": ["tcp://"], "insecure-plain-tcp": True})) is None
    assert _configured(tmp_path, {"tlsverify": True}).warnings == [
        "tls has no effect: the API listens at no tcp:// address"
    ]


def test_info_tells_what_the_host_has() -> None:
    """Limits that are not there are false and named; listeners without encryption, too; proxies without passwords."""
    has = Features(frozenset(_V1) - {"swap", "pids", "blkio_weight"}, "0-1", "0")
    machine: Any = _Host()
    found = host_report.limits(machine, has)
    assert (found["SwapLimit"], found["PidsLimit"], found["MemoryLimit"], found["OomKillDisable"]) == (
        False,
        False,
        True,
        True,
    )
    config = EngineConfig()
    config.hosts = ["unix:///run/x.sock", "tcp://0.0.0.0:2375"]
    unguarded = host_report.open_addresses(config)
    told = host_report.warnings(machine, has, unguarded, ["the chain drops"], forwarding=False) or []
    assert told[0].startswith("WARNING: API is accessible on http://0.0.0.0:2375 without encryption.")
    assert told[1:] == [
        "WARNING: No swap limit support",
        "WARNING: IPv4 forwarding is disabled",
        "WARNING: the chain drops",
    ]
    config.tls = True
    assert host_report.open_addresses(config) == ["https://0.0.0.0:2375 without TLS client verification"]
    config.tlsverify = True
    assert not host_report.open_addresses(config)
    assert host_report.warnings(machine, Features(frozenset(_V1), "", ""), [], [], forwarding=True) is None
    machine.cgroup_version = "v2"
    assert host_report.warnings(
        machine, Features(frozenset(_V2) - {"blkio_weight"}, "", ""), [], [], forwarding=True
    ) == ["WARNING: No io.weight support"]
    told = host_report.warnings(machine, Features(frozenset(), "", ""), [], [], forwarding=True) or []
    assert told[-1] == "WARNING: No io.max (wiops) support"
    environment = {"HTTP_PROXY": "http://me:secret@proxy.example:3128/x", "no_proxy": "localhost"}
    assert host_report.proxies(environment) == {
        "HttpProxy": "http://xxxxx:xxxxx@proxy.example:3128/x",
        "HttpsProxy": "",
        "NoProxy": "localhost",
    }
