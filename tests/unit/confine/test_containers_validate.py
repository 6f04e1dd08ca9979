"""Create requests that are refused or change. The words were compared with dockerd 20.10 and 26."""

from typing import Any

import msgspec
import pytest

from wherry.containers import late
from wherry.containers.spec import mounts as spec_mounts
from wherry.containers.validate import stop_signal, validate
from wherry.errors import InvalidArgument, NotSupported
from wherry.linux.capability import NAMES
from wherry.runtime.cgroups.features import _V1, _V2, Features
from wherry.wire.containers import Config, HostConfig

MIB = 1 << 20
V1 = Features(frozenset(_V1) - {"blkio_weight", "blkio_weight_device"}, "0-1", "0")
V2 = Features(frozenset(_V2), "0-1", "0")
NOTHING = Features(frozenset(), "0-1", "0")


class Machine:
    """Two processors."""

    capabilities = frozenset(NAMES)
    cgroup_version = "v1"
    cpus = 2
    tini: str | None = None


def check(config: dict[str, Any], host: dict[str, Any], has: Features = V1) -> tuple[HostConfig, list[str]]:
    """What create and then start check."""
    wanted, own = msgspec.convert(host, HostConfig), msgspec.convert(config, Config)
    warnings = validate(own, wanted, Machine(), has=has)
    late.check(own, wanted)
    spec_mounts.tmpfs_mounts(wanted)
    return wanted, warnings


JOINED = "container:x"
REFUSED: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({}, {"Memory": 5 * MIB}, "Minimum memory limit allowed is 6MB"),
    ({}, {"Memory": -1}, "Minimum memory limit allowed is 6MB"),
    (
        {},
        {"Memory": 100 * MIB, "MemorySwap": 50 * MIB},
        "Minimum memoryswap limit should be larger than memory limit, see usage",
    ),
    ({}, {"MemorySwap": 50 * MIB}, "You should always set the Memory limit when using Memoryswap limit, see usage"),
    (
        {},
        {"Memory": 100 * MIB, "MemoryReservation": 200 * MIB},
        "Minimum memory limit can not be less than memory reservation limit, see usage",
    ),
    ({}, {"MemoryReservation": MIB}, "Minimum memory reservation allowed is 6MB"),
    ({}, {"MemorySwappiness": 101}, "Invalid value: 101, valid memory swappiness range is 0-100"),
    ({}, {"MemorySwappiness": -2}, "Invalid value: -2, valid memory swappiness range is 0-100"),
    ({}, {"NanoCpus": 3 * 10**9}, "Range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs available"),
    ({}, {"NanoCpus": -1}, "Range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs available"),
    (
        {},
        {"NanoCpus": 10**9, "CpuPeriod": 100000},
        "Conflicting options: Nano CPUs and CPU Period cannot both be set",
    ),
    ({}, {"NanoCpus": 10**9, "CpuQuota": 100000}, "Conflicting options: Nano CPUs and CPU Quota cannot both be set"),
    (
        {},
        {"CpuPeriod": 100},
        "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)",
    ),
    ({}, {"CpuQuota": 100}, "CPU cfs quota can not be less than 1ms (i.e. 1000)"),
    ({}, {"CpuShares": 1}, "the minimum allowed cpu-shares is 2"),
    ({}, {"CpuShares": -1}, "shares: invalid argument"),
    ({}, {"CpusetCpus": "9"}, "Requested CPUs are not available - requested 9, available: 0-1"),
    ({}, {"CpusetCpus": "a"}, "Invalid value a for cpuset cpus: invalid format: a"),
    ({}, {"CpusetCpus": "3-1"}, "Invalid value 3-1 for cpuset cpus: invalid format: 3-1"),
    ({}, {"CpusetMems": "9"}, "Requested memory nodes are not available - requested 9, available: 0"),
    (
        {},
        {"IOMaximumBandwidth": 5},
        "Invalid QoS settings: linux does not support configuration of maximum bandwidth",
    ),
    ({}, {"ShmSize": -1}, "SHM size can not be less than 0"),
    ({}, {"OomScoreAdj": 2000}, "Invalid value 2000, range for oom score adj is [-1000, 1000]"),
    (
        {},
        {"RestartPolicy": {"Name": "foo"}},
        "invalid restart policy: unknown policy 'foo'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'",
    ),
    (
        {},
        {"RestartPolicy": {"Name": "always", "MaximumRetryCount": 3}},
        "invalid restart policy: maximum retry count can only be used with 'on-failure'",
    ),
    (
        {},
        {"RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": -3}},
        "invalid restart policy: maximum retry count cannot be negative",
    ),
    (
        {},
        {"RestartPolicy": {"Name": "no", "MaximumRetryCount": -3}},
        "invalid restart policy: maximum retry count can only be used with 'on-failure' and cannot be negative",
    ),
    (
        {},
        {"AutoRemove": True, "RestartPolicy": {"Name": "always"}},
        "can't create 'AutoRemove' container with restart policy",
    ),
    ({}, {"PidMode": "foo"}, "invalid PID mode: foo"),
    ({}, {"PidMode": "container:"}, "invalid PID mode: container:"),
    ({}, {"UTSMode": "container:x"}, "invalid UTS mode: container:x"),
    ({}, {"IpcMode": "foo"}, "invalid IPC mode: foo"),
    ({}, {"CgroupnsMode": "foo"}, "invalid cgroup namespace mode: foo"),
    ({}, {"Isolation": "foo"}, "Invalid isolation: \"foo\" - linux only supports 'default'"),
    ({}, {"Runtime": "foo"}, "unknown or invalid runtime name: foo"),
    ({"Hostname": "foo"}, {"UTSMode": "host"}, "conflicting options: hostname and the UTS mode"),
    ({"Hostname": "foo"}, {"NetworkMode": JOINED}, "conflicting options: hostname and the network mode"),
    ({}, {"NetworkMode": JOINED, "Dns": ["1.1.1.1"]}, "conflicting options: dns and the network mode"),
    (
        {},
        {"NetworkMode": JOINED, "ExtraHosts": ["a:1.1.1.1"]},
        "conflicting options: custom host-to-IP mapping and the network mode",
    ),
    (
        {},
        {"NetworkMode": JOINED, "PortBindings": {"80/tcp": [{"HostPort": "80"}]}},
        "conflicting options: port publishing and the container type network mode",
    ),
    (
        {"ExposedPorts": {"80/tcp": {}}},
        {"NetworkMode": JOINED},
        "conflicting options: port exposing and the container type network mode",
    ),
    (
        {},
        {"NetworkMode": JOINED, "Links": ["a:b"]},
        "conflicting options: container type network can't be used with links. This would result in undefined behavior",
    ),
    (
        {},
        {"NetworkMode": "host", "Links": ["a:b"]},
        "conflicting options: host type networking can't be used with links. This would result in undefined behavior",
    ),
    ({}, {"NetworkMode": "container:"}, "Invalid network mode: invalid container format container:<name|id>"),
    ({}, {"Ulimits": [{"Name": "foo", "Soft": 1, "Hard": 1}]}, "wrong rlimit value: RLIMIT_FOO"),
    (
        {},
        {"Ulimits": [{"Name": "nofile", "Soft": 10, "Hard": 1}]},
        "ulimit soft limit must be less than or equal to hard limit: 10 > 1",
    ),
    ({}, {"CapAdd": ["foo"]}, 'invalid CapAdd: unknown capability: "CAP_FOO"'),
    ({}, {"CapAdd": ["ALL"], "CapDrop": ["CAP_FOO"]}, 'invalid CapDrop: unknown capability: "CAP_FOO"'),
    ({}, {"Privileged": True, "CapAdd": [""]}, 'invalid CapAdd: unknown capability: "CAP_"'),
    ({}, {"SecurityOpt": ["foo=bar"]}, 'invalid --security-opt 2: "foo=bar"'),
    ({}, {"SecurityOpt": ["foo"]}, 'invalid --security-opt 1: "foo"'),
    ({}, {"Tmpfs": {"x": ""}}, "invalid mount path: 'x' mount path must be absolute"),
    ({}, {"Tmpfs": {"/": ""}}, "invalid specification: destination can't be '/'"),
    ({}, {"Tmpfs": {"/x": "foo"}}, 'invalid tmpfs option "foo"'),
    ({}, {"Sysctls": {"kernel.foo": "1"}}, 'sysctl "kernel.foo" is not in a separate kernel namespace'),
    (
        {},
        {"Sysctls": {"kernel/core_pattern": "1"}},
        'sysctl "kernel/core_pattern" is not in a separate kernel namespace',
    ),
    (
        {},
        {"Sysctls": {"net.ipv4.ip_forward": "1"}, "NetworkMode": "host"},
        'sysctl "net.ipv4.ip_forward" not allowed in host network namespace',
    ),
    (
        {},
        {"Sysctls": {"kernel.hostname": "1"}},
        'sysctl "kernel.hostname" is not allowed as it conflicts with the OCI "hostname" field',
    ),
    ({}, {"DeviceCgroupRules": ["c 1:1 xyz"]}, "invalid device cgroup rule format: 'c 1:1 xyz'"),
    ({"WorkingDir": "foo"}, {}, "the working directory 'foo' is invalid, it needs to be an absolute path"),
    ({"StopSignal": "FOO"}, {}, "invalid signal: FOO"),
    ({"Env": ["=x"]}, {}, "invalid environment variable: =x"),
    ({"User": "4294967296"}, {}, "uids and gids must be in range 0-2147483647"),
    ({"User": "0:-1"}, {}, "uids and gids must be in range 0-2147483647"),
    ({"User": "2147483648"}, {}, "uids and gids must be in range 0-2147483647"),
    ({}, {"GroupAdd": ["5000000000"]}, "uids and gids must be in range 0-2147483647"),
    ({"Healthcheck": {"Interval": 100}}, {}, "Interval in Healthcheck cannot be less than 1ms"),
    ({"Healthcheck": {"StartPeriod": 100}}, {}, "StartPeriod in Healthcheck cannot be less than 1ms"),
    ({"Healthcheck": {"Retries": -1}}, {}, "Retries in Healthcheck cannot be negative"),
    ({}, {"LogConfig": {"Type": "foo"}}, 'error looking up logging plugin foo: plugin "foo" not found'),
    (
        {},
        {"LogConfig": {"Type": "json-file", "Config": {"foo": "1"}}},
        "unknown log opt 'foo' for json-file log driver",
    ),
    (
        {},
        {"LogConfig": {"Type": "json-file", "Config": {"max-size": "x"}}},
        "failed to create task for container: failed to initialize logging driver: invalid size: 'x'",
    ),
    (
        {},
        {"LogConfig": {"Type": "json-file", "Config": {"max-file": "0"}}},
        "failed to create task for container: failed to initialize logging driver: max-file cannot be less than 1",
    ),
    ({}, {"ExtraHosts": ["foo"]}, 'bad format for add-host: "foo"'),
    ({}, {"ExtraHosts": ["foo:bar"]}, 'invalid IP address in add-host: "bar"'),
    ({}, {"PortBindings": {"80/tcp": [{"HostPort": "99999"}]}}, 'invalid port specification: "99999"'),
    ({}, {"PortBindings": {"foo/tcp": [{"HostPort": "1"}]}}, 'invalid port specification: "foo"'),
    (
        {},
        {"Annotations": {"": "x"}},
        "invalid Annotations: the empty string is not permitted as an annotation key",
    ),
]


@pytest.mark.parametrize(("config", "host", "words"), REFUSED, ids=[row[2][:60] for row in REFUSED])
def test_refused_in_dockerds_words(config: dict[str, Any], host: dict[str, Any], words: str) -> None:
    """Clients and people know these sentences."""
    with pytest.raises(InvalidArgument) as caught:
        check(config, host)
    # what only a runtime finds out is said to come from there
    assert str(caught.value).removeprefix(late.RUNTIME).removesuffix(": unknown") == words


def test_what_shows_at_start_does_not_hinder_create() -> None:
    """As with dockerd, a container with such a mistake can be made."""
    for host in ({"CpuShares": -1}, {"DeviceRequests": [{"Capabilities": [["gpu"]]}]}, {"Sysctls": {"kernel.x": "1"}}):
        wanted = msgspec.convert(host, HostConfig)
        validate(Config(), wanted, Machine(), has=V1)
        with pytest.raises((InvalidArgument, NotSupported)):
            late.check(Config(), wanted)


@pytest.mark.parametrize(
    ("host", "words"),
    [
        ({"StorageOpt": {"size": "10G"}}, "--storage-opt is supported only for overlay over xfs"),
        (
            {"DeviceRequests": [{"Capabilities": [["gpu"]]}]},
            r'could not select device driver "" with capabilities: \[\[gpu',
        ),
    ],
)
def test_what_this_engine_does_not_do(host: dict[str, Any], words: str) -> None:
    """Said, never dropped."""
    with pytest.raises(NotSupported, match=words):
        check({}, host)


def test_an_apparmor_profile_needs_apparmor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Isolation that was asked for and cannot be had fails; unconfined is no profile."""
    monkeypatch.setattr("wherry.containers.spec.security.host_has_apparmor", lambda: False)
    with pytest.raises(NotSupported, match="AppArmor"):
        check({}, {"SecurityOpt": ["apparmor=mine"]})
    check({}, {"SecurityOpt": ["apparmor=unconfined"]})


def test_memory_doubles_into_swap() -> None:
    """As much swap as memory, unless told otherwise."""
    assert check({}, {"Memory": 100 * MIB})[0].memory_swap == 200 * MIB
    assert check({}, {"Memory": 100 * MIB, "MemorySwap": -1})[0].memory_swap == -1


@pytest.mark.parametrize(
    ("host", "has", "attribute", "value", "words"),
    [
        ({"BlkioWeight": 500}, V1, "blkio_weight", 0, "does not support Block I/O weight or"),
        ({"MemorySwappiness": 5}, V2, "memory_swappiness", None, "memory swappiness capabilities"),
        ({"OomKillDisable": True}, V2, "oom_kill_disable", None, "OomKillDisable discarded"),
        ({"Memory": 100 * MIB}, NOTHING, "memory", 0, "does not support memory limit"),
        ({"CpuShares": 100}, NOTHING, "cpu_shares", 0, "Shares discarded"),
        ({"CpuQuota": 5000}, NOTHING, "cpu_quota", 0, "period/quota discarded"),
        ({"CpusetCpus": "0"}, NOTHING, "cpuset_cpus", "", "Cpuset discarded"),
        ({"PidsLimit": 5}, NOTHING, "pids_limit", None, "PIDs limit discarded"),
        ({"CpuPercent": 5}, V1, "cpu_percent", 0, "linux does not support CPU percent"),
    ],
)
def test_what_the_host_cannot_limit_is_discarded_aloud(
    host: dict[str, Any], has: Features, attribute: str, value: Any, words: str
) -> None:
    """The limit is gone from what is kept, and the answer says so."""
    kept, warnings = check({}, host, has)
    assert getattr(kept, attribute) == value
    assert any(words in warning for warning in warnings)


def test_warnings_that_change_nothing() -> None:
    """No OOM killer without a limit; ports in the host's own network."""
    assert "OOM killer is disabled" in check({}, {"OomKillDisable": True})[1][0]
    host = {"NetworkMode": "host", "PortBindings": {"80/tcp": [{"HostPort": "80"}]}}
    assert check({}, host)[1] == ["Published ports are discarded when using host network mode"]


def test_a_plain_request_passes_without_a_word() -> None:
    """The most common case."""
    assert check({"Cmd": ["true"], "Env": ["A=", "B"]}, {"PidsLimit": -1, "Init": True})[1] == []


@pytest.mark.parametrize(
    ("text", "number"),
    [("TERM", 15), ("SIGKILL", 9), ("sigint", 2), ("15", 15), ("RTMIN", 34), ("SIGRTMIN+3", 37), ("RTMAX-1", 63)],
)
def test_signals(text: str, number: int) -> None:
    """Names with and without SIG, numbers, the real-time ones."""
    assert stop_signal(text) == number


@pytest.mark.parametrize("text", ["0", "FOO", "SIG", "RTMIN+99", "TERM+1", "-5", ""])
def test_words_that_are_no_signal(text: str) -> None:
    """Refused by name."""
    with pytest.raises(InvalidArgument, match="invalid signal"):
        stop_signal(text)
