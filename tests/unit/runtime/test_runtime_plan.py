"""Plans are values: what a configuration comes to, without touching the kernel."""

import os
import stat
from typing import Any

import pytest

from wherry.errors import InvalidArgument, InvalidSpec
from wherry.linux import mount as m
from wherry.linux.namespace import (
    CLONE_NEWCGROUP,
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWTIME,
    CLONE_NEWUSER,
)
from wherry.oci.mount import Mount
from wherry.oci.runtime_config import parse
from wherry.runtime.capabilities import EVERY
from wherry.runtime.default_spec import default_spec
from wherry.runtime.mount_options import sort_options
from wherry.runtime.plan import Plan, clone_flags, plan_container
from wherry.runtime.sysctl import sysctl_files


def plan(change: dict[str, Any] | None = None, **options: Any) -> Plan:
    config = default_spec()
    for name, value in (change or {}).items():
        config[name] = {**config[name], **value} if isinstance(value, dict) and name in config else value
    return plan_container(parse(config), "/bundle", host_capabilities=EVERY, **options)


def test_default_plan() -> None:
    """Namespaces, mounts, devices and rights of the default configuration."""
    found = plan()
    assert found.new_namespaces & (CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWNS)
    assert not clone_flags(found) & CLONE_NEWCGROUP
    assert found.root_path == "/bundle/rootfs"
    assert found.own_root and not found.new_user_namespace
    kinds = {step.destination: step.kind for step in found.mounts}
    assert kinds["/proc"] == "filesystem"
    assert kinds["/sys/fs/cgroup"] == "cgroup"
    assert {node.path for node in found.devices} >= {"/dev/null", "/dev/zero", "/dev/tty"}
    assert found.process.capabilities.bounding == (1 << 29 | 1 << 5 | 1 << 10)
    assert found.warnings == ()


def test_descriptors_win_over_paths() -> None:
    """A namespace that is handed over is joined, whatever the configuration says of it."""
    kinds = [{"type": "mount"}, {"type": "network", "path": "/run/netns/x"}, {"type": "pid"}]
    found = plan({"linux": {"namespaces": kinds}, "hostname": ""}, namespaces={"pid": 7})
    assert found.join == {"network": "/run/netns/x", "pid": 7}
    assert found.new_namespaces == CLONE_NEWNS


def test_user_and_time_namespaces() -> None:
    """Maps and offsets are written as the kernel reads them."""
    mapping = [{"containerID": 0, "hostID": 1000, "size": 1}, {"containerID": 1, "hostID": 100000, "size": 65536}]
    found = plan(
        {
            "linux": {
                "namespaces": [{"type": "mount"}, {"type": "user"}, {"type": "time"}],
                "uidMappings": mapping,
                "gidMappings": mapping,
                "timeOffsets": {"monotonic": {"secs": -3, "nanosecs": 5}},
            },
            "hostname": "",
        }
    )
    assert found.uid_map == "0 1000 1\n1 100000 65536\n"
    assert found.time_offsets == "monotonic -3 5\n"
    assert clone_flags(found) == CLONE_NEWNS | CLONE_NEWUSER
    assert found.new_namespaces & CLONE_NEWTIME


def test_devices_of_the_configuration() -> None:
    """A device replaces a default one of its name; the console's and the multiplexer's places are kept free."""
    found = plan(
        {
            "linux": {
                "devices": [
                    {"path": "/dev/null", "type": "c", "major": 9, "minor": 9, "fileMode": 0o600, "uid": 5},
                    {"path": "/dev/console", "type": "c", "major": 5, "minor": 1},
                    {"path": "/dev/pipe", "type": "p"},
                ]
            }
        }
    )
    nodes = {node.path: node for node in found.devices}
    assert nodes["/dev/null"].mode == stat.S_IFCHR | 0o600
    assert nodes["/dev/null"].rdev == os.makedev(9, 9)
    assert stat.S_ISFIFO(nodes["/dev/pipe"].mode)
    assert "/dev/console" not in nodes


def test_a_bound_dev_is_left_alone() -> None:
    """Nothing is made in the host's /dev."""
    found = plan({"mounts": [{"destination": "/dev", "type": "bind", "source": "/dev", "options": ["rbind"]}]})
    assert found.devices == () and found.links == ()


def test_missing_capabilities_are_dropped_and_told() -> None:
    """What the host lacks is a warning; a new user namespace lacks nothing."""
    config = default_spec()
    sets = {kind: ["CAP_CHOWN", "CAP_SYS_RESOURCE"] for kind in ("bounding", "effective", "permitted")}
    config["process"]["capabilities"] = sets
    found = plan_container(parse(config), "/b", host_capabilities=1)
    assert found.process.capabilities.bounding == 1
    assert found.warnings == ("this host cannot grant CAP_SYS_RESOURCE",)
    config["linux"]["namespaces"].append({"type": "user"})
    config["linux"].update(uidMappings=[{"size": 1}], gidMappings=[{"size": 1}])
    assert plan_container(parse(config), "/b", host_capabilities=1).warnings == ()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"process": {"args": []}}, "process.args must not be empty"),
        ({"process": {"capabilities": {"bounding": ["CAP_FLY"]}}}, "unknown capability 'CAP_FLY'"),
        ({"process": {"capabilities": {"effective": ["CAP_KILL"]}}}, "effective must be within permitted"),
        ({"process": {"rlimits": [{"type": "RLIMIT_FUN", "soft": 1, "hard": 1}]}}, "unknown limit 'RLIMIT_FUN'"),
        ({"mounts": [{"destination": "/", "type": "tmpfs"}]}, "the destination / is the root itself"),
        ({"mounts": [{"destination": "/a/..", "type": "tmpfs"}]}, "the destination / is the root itself"),
        ({"mounts": [{"destination": "/a", "type": "bind"}]}, "/a has no source"),
        ({"mounts": [{"destination": "/a"}]}, "/a has no type"),
        (
            {"mounts": [{"destination": "/a", "type": "bind", "source": "/b", "options": ["size=1"]}]},
            "unknown bind option 'size=1' for /a",
        ),
        ({"linux": {"namespaces": [{"type": "pid"}, {"type": "uts"}]}}, "need a new mount namespace"),
        ({"linux": {"mountLabel": "x"}}, "linux.mountLabel is not supported"),
    ],
)
def test_what_cannot_be_is_refused(change: dict[str, Any], words: str) -> None:
    """The error names the field."""
    with pytest.raises(InvalidSpec) as caught:
        plan(change)
    assert words in str(caught.value)


def test_environment() -> None:
    """The last value of a name counts; an entry without a value is no entry."""
    found = plan({"process": {"env": ["A=1", "B=", "A=2=3"]}})
    assert found.process.env == {"A": "2=3", "B": ""}
    with pytest.raises(InvalidArgument, match="invalid environment variable: 'A'"):
        plan({"process": {"env": ["A"]}})


def test_root_mounts_only_make_the_root() -> None:
    """Anything else belongs in the configuration."""
    with pytest.raises(InvalidSpec, match="a root mount must have the destination /"):
        plan(root_mounts=[Mount("/x", "tmpfs", "tmpfs")])


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("ro", "nosuid"), (m.MS_RDONLY | m.MS_NOSUID, m.MOUNT_ATTR_RDONLY | m.MOUNT_ATTR_NOSUID, 0)),
        (("ro", "rw"), (0, 0, m.MOUNT_ATTR_RDONLY)),
        (("noatime",), (m.MS_NOATIME, m.MOUNT_ATTR_NOATIME, m.MOUNT_ATTR__ATIME)),
        (("noatime", "strictatime"), (m.MS_NOATIME | m.MS_STRICTATIME, m.MOUNT_ATTR_STRICTATIME, m.MOUNT_ATTR__ATIME)),
        (("defaults",), (0, 0, 0)),
    ],
)
def test_flag_words(words: tuple[str, ...], expected: tuple[int, int, int]) -> None:
    """Words become flags for mount(2) and attributes for mount_setattr(2)."""
    found = sort_options(words)
    assert (found.flags, found.add, found.clear) == expected
    assert found.data == ()


def test_bind_words() -> None:
    """Recursion, recursive attributes and propagation are kept apart; the rest is data."""
    found = sort_options(("rbind", "rro", "rslave", "private", "tmpcopyup", "size=5m", "remount"))
    assert found.bind and found.recursive and found.copy_up
    assert found.recursive_add == m.MOUNT_ATTR_RDONLY
    assert found.propagation == ((m.MS_SLAVE, True), (m.MS_PRIVATE, False))
    assert found.data == ("size=5m",)


_EVERY_NAMESPACE = {"ipc", "network", "uts", "user"}


def test_sysctls_of_own_namespaces() -> None:
    """Dots and slashes name files; a part may hold a dot when slashes separate."""
    names = ("net.ipv4.ip_forward", "net/ipv4/conf/eth0.1/forwarding", "kernel.msgmax", "fs.mqueue.msg_max")
    found = sysctl_files(dict.fromkeys(names, "1"), _EVERY_NAMESPACE)
    assert [path for path, _ in found] == [
        "net/ipv4/ip_forward",
        "net/ipv4/conf/eth0.1/forwarding",
        "kernel/msgmax",
        "fs/mqueue/msg_max",
    ]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("kernel.core_pattern", "|/evil"),
        ("kernel.shmmax+kernel.core_pattern", "x"),
        ("kernel.shm_rmid_forced", "1\n=kernel.core_pattern"),
        ("net.ipv4/../../kernel/core_pattern", "x"),
        ("net/../kernel/core_pattern", "x"),
        ("net", "1"),
        ("net..x", "1"),
        ("vm.swappiness", "1"),
        ("fs.file-max", "1"),
        ("", "1"),
        ("net.ipv4.a=b", "1"),
    ],
)
def test_cve_2022_0811_sysctls_of_the_machine(name: str, value: str) -> None:
    """No spelling reaches a parameter that is not namespaced."""
    with pytest.raises(InvalidSpec, match="sysctl"):
        sysctl_files({name: value}, _EVERY_NAMESPACE)


def test_sysctls_of_shared_namespaces() -> None:
    """What the host's namespace would share is refused."""
    with pytest.raises(InvalidSpec, match="not allowed in the host's network namespace"):
        sysctl_files({"net.ipv4.ip_forward": "1"}, {"ipc"})
