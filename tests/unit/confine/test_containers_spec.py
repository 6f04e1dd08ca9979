"""The OCI configuration of a create request. What is expected was compared with the config.json of dockerd 26."""

import os
from typing import Any

import msgspec
import pytest

from wherry.containers.spec.configuration import SpecRequest, build_spec, exec_process
from wherry.containers.spec.devices import HostDevices, parse_rule
from wherry.containers.spec.mounts import tmpfs_options
from wherry.containers.spec.process import override
from wherry.errors import InvalidArgument
from wherry.linux.capability import NAMES
from wherry.oci.isolation import DEFAULT_CAPABILITIES, MASKED_PATHS, READONLY_PATHS
from wherry.oci.mount import Mount
from wherry.oci.runtime_config import SHARED_MEMORY, parse
from wherry.wire.containers import Config, ExecConfig, HostConfig

ID = "0123456789ab" + "c" * 52
PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Machine:
    """A host without CAP_SYS_RESOURCE."""

    capabilities = frozenset(NAMES) - {"CAP_SYS_RESOURCE"}
    cgroup_version = "v1"
    cpus = 2
    tini: str | None = "/usr/bin/tini-static"


class FakeDevices(HostDevices):
    """Two devices and a disk."""

    def all(self) -> list[dict[str, Any]]:
        return [*self.at("/dev/fuse", "/dev/fuse"), *self.at("/dev/sda", "/dev/sda")]

    def at(self, path: str, inside: str) -> list[dict[str, Any]]:
        kind, major, minor = {"/dev/fuse": ("c", 10, 229), "/dev/sda": ("b", 8, 0)}[path]
        return [{"path": inside, "type": kind, "major": major, "minor": minor, "fileMode": 0o600, "uid": 0, "gid": 0}]

    def number(self, path: str) -> tuple[int, int]:
        return 8, 0


def build(config: dict[str, Any] | None = None, host: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """Build, and let the runtime's own reader check what was built."""
    request = SpecRequest(
        id=ID,
        config=msgspec.convert({"Hostname": ID[:12], **(config or {})}, Config),
        host_config=msgspec.convert(host or {}, HostConfig),
        **{
            "argv": ["sleep", "60"],
            "hostname": ID[:12],
            "cgroup_path": f"/wherry/containers/{ID}",
            "machine": Machine(),
            "devices": FakeDevices(),
            **more,
        },
    )
    spec = build_spec(request)
    parse(spec)
    return spec


def mount_at(spec: dict[str, Any], destination: str) -> dict[str, Any] | None:
    return next((mount for mount in spec["mounts"] if mount["destination"] == destination), None)


def test_a_container_that_asks_for_nothing() -> None:
    """14 capabilities, five namespaces, masks, 64 MiB of shared memory, no limits but the device rules."""
    spec = build()
    process, linux = spec["process"], spec["linux"]
    assert process["args"] == ["sleep", "60"]
    assert process["env"] == [PATH, f"HOSTNAME={ID[:12]}"]
    assert process["cwd"] == "/"
    for kind in ("bounding", "effective", "permitted"):
        assert process["capabilities"][kind] == list(DEFAULT_CAPABILITIES)
    assert len(DEFAULT_CAPABILITIES) == 14
    assert "inheritable" not in process["capabilities"]
    assert "ambient" not in process["capabilities"]
    assert not process["noNewPrivileges"]
    assert [item["type"] for item in linux["namespaces"]] == ["mount", "network", "uts", "pid", "ipc"]
    assert set(MASKED_PATHS) <= set(linux["maskedPaths"])
    assert "/sys/devices/system/cpu/cpu1/thermal_throttle" in linux["maskedPaths"]
    assert linux["readonlyPaths"] == list(READONLY_PATHS)
    assert set(linux["resources"]) == {"devices"}
    assert linux["sysctl"]["net.ipv4.ip_unprivileged_port_start"] == "0"
    shm = mount_at(spec, "/dev/shm")
    assert shm is not None
    assert shm["options"] == ["nosuid", "noexec", "nodev", "mode=1777", "size=67108864"]
    assert "ro" in (mount_at(spec, "/sys") or {})["options"]
    assert "ro" in (mount_at(spec, "/sys/fs/cgroup") or {})["options"]
    assert spec["hostname"] == ID[:12]


def test_environment_order_and_overrides() -> None:
    """PATH, HOSTNAME, TERM, then what was asked; a value of a default replaces it where it stands."""
    spec = build({"Env": ["FOO=1", "PATH=/x", "A=1", "A=2", "TERM"], "Tty": True})
    assert spec["process"]["env"] == ["PATH=/x", f"HOSTNAME={ID[:12]}", "FOO=1", "A=2"]
    assert override(["A=1", "B=2"], ["A", "C=3"]) == ["B=2", "C=3"]


def test_a_terminal_has_a_size_and_a_name() -> None:
    """TERM=xterm, and the size the client told."""
    process = build({"Tty": True}, {"ConsoleSize": [24, 80]})["process"]
    assert process["terminal"]
    assert "TERM=xterm" in process["env"]
    assert process["consoleSize"] == {"height": 24, "width": 80}


def test_user_is_left_to_the_containers_own_files() -> None:
    """The raw words go along, those of other groups too: names and numbers."""
    spec = build({"User": "nobody:audio"}, {"GroupAdd": ["77", "video", "disk"]})
    groups = ["77", "video", "disk"]
    assert spec["process"]["user"] == {"uid": 0, "gid": 0, "username": "nobody:audio", "additionalGroups": groups}
    assert build()["process"]["user"]["username"] == "0"


@pytest.mark.parametrize(
    ("add", "drop", "gained", "lost"),
    [
        (["net_admin"], ["CAP_MKNOD"], {"CAP_NET_ADMIN"}, {"CAP_MKNOD"}),
        (["Sys_Time", "CAP_SYS_TIME"], [], {"CAP_SYS_TIME"}, set()),
        (["CHOWN"], ["all"], set(), set(DEFAULT_CAPABILITIES) - {"CAP_CHOWN"}),
        ([], ["ALL"], set(), set(DEFAULT_CAPABILITIES)),
        (["ALL"], ["SYS_ADMIN"], Machine.capabilities - {"CAP_SYS_ADMIN"}, set()),
    ],
)
def test_capabilities(add: list[str], drop: list[str], gained: set[str], lost: set[str]) -> None:
    """With and without prefix, in any case, ALL."""
    spec = build(host={"CapAdd": add, "CapDrop": drop})
    assert set(spec["process"]["capabilities"]["bounding"]) == (set(DEFAULT_CAPABILITIES) | gained) - lost
    assert len(spec["process"]["capabilities"]["bounding"]) == len(set(spec["process"]["capabilities"]["bounding"]))


def test_a_capability_the_host_lacks_is_refused() -> None:
    """It is named; all that there are, and the usual ones, go without it."""
    request = SpecRequest(
        id=ID,
        config=Config(),
        host_config=HostConfig(cap_add=["SYS_RESOURCE"]),
        argv=["true"],
        hostname="h",
        cgroup_path="/x",
        machine=Machine(),
    )
    with pytest.raises(InvalidArgument, match='not available in the current environment: "CAP_SYS_RESOURCE"'):
        build_spec(request)
    for host in ({"Privileged": True}, {"CapAdd": ["ALL"]}):
        assert "CAP_SYS_RESOURCE" not in build(host=host)["process"]["capabilities"]["bounding"]


def test_privileged_has_all_and_masks_nothing() -> None:
    """All the host's capabilities and devices, writable sysfs and cgroups, nothing masked."""
    spec = build(host={"Privileged": True, "Devices": [{"PathOnHost": "/dev/fuse", "PathInContainer": "/dev/f2"}]})
    assert set(spec["process"]["capabilities"]["bounding"]) == Machine.capabilities
    assert spec["linux"]["maskedPaths"] == []
    assert spec["linux"]["readonlyPaths"] == []
    assert "ro" not in (mount_at(spec, "/sys") or {})["options"]
    assert "ro" not in (mount_at(spec, "/sys/fs/cgroup") or {})["options"]
    assert spec["linux"]["resources"]["devices"] == [{"allow": True, "access": "rwm"}]
    assert [node["path"] for node in spec["linux"]["devices"]] == ["/dev/fuse", "/dev/sda", "/dev/f2"]


def test_limits() -> None:
    """Each in the units of the specification; --cpus becomes a quota."""
    host = {
        "Memory": 100 << 20,
        "MemorySwap": 300 << 20,
        "MemoryReservation": 50 << 20,
        "MemorySwappiness": 10,
        "OomKillDisable": True,
        "NanoCpus": 1_500_000_000,
        "CpuShares": 512,
        "CpusetCpus": "0",
        "CpusetMems": "0",
        "PidsLimit": 55,
        "BlkioWeight": 100,
        "BlkioDeviceReadBps": [{"Path": "/dev/sda", "Rate": 1 << 20}],
        "BlkioWeightDevice": [{"Path": "/dev/sda", "Weight": 20}],
    }
    found = build(host=host)["linux"]["resources"]
    assert found["memory"] == {
        "limit": 104857600,
        "reservation": 52428800,
        "swap": 314572800,
        "swappiness": 10,
        "disableOOMKiller": True,
    }
    assert found["cpu"] == {"shares": 512, "quota": 150000, "period": 100000, "cpus": "0", "mems": "0"}
    assert found["pids"] == {"limit": 55}
    assert found["blockIO"] == {
        "weight": 100,
        "weightDevice": [{"major": 8, "minor": 0, "weight": 20}],
        "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 1048576}],
    }


@pytest.mark.parametrize("limit", [None, 0, -1])
def test_no_pids_limit(limit: int | None) -> None:
    """Absent, zero and -1 are unlimited."""
    assert "pids" not in build(host={"PidsLimit": limit})["linux"]["resources"]


def test_ulimits() -> None:
    """By name, -1 unlimited, the last of a name counts."""
    limits = [
        {"Name": "nofile", "Soft": 1, "Hard": 2},
        {"Name": "nofile", "Soft": 100, "Hard": 200},
        {"Name": "core", "Soft": -1, "Hard": -1},
    ]
    assert build(host={"Ulimits": limits})["process"]["rlimits"] == [
        {"type": "RLIMIT_NOFILE", "hard": 200, "soft": 100},
        {"type": "RLIMIT_CORE", "hard": (1 << 64) - 1, "soft": (1 << 64) - 1},
    ]


def test_init_runs_first_and_is_bound_read_only() -> None:
    """tini is process 1, and not where another's processes are already."""
    spec = build(host={"Init": True})
    assert spec["process"]["args"] == ["/sbin/docker-init", "--", "sleep", "60"]
    init = mount_at(spec, "/sbin/docker-init")
    assert init is not None
    assert (init["source"], init["options"]) == ("/usr/bin/tini-static", ["bind", "ro"])
    shared = build(host={"Init": True, "PidMode": "host"}, namespace_modes={"pid": "host"})
    assert shared["process"]["args"] == ["sleep", "60"]
    assert mount_at(shared, "/sbin/docker-init") is None


def test_init_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked for and not there is an error."""
    monkeypatch.setattr(Machine, "tini", None)
    with pytest.raises(InvalidArgument, match=r"docker-init.*install the package tini"):
        build(host={"Init": True})


def test_devices_come_with_their_rules() -> None:
    """Node and access, and rules of the user's own."""
    host = {
        "Devices": [{"PathOnHost": "/dev/fuse", "PathInContainer": "/dev/x", "CgroupPermissions": "r"}],
        "DeviceCgroupRules": ["c 10:* rw", "a *:* rwm"],
    }
    linux = build(host=host)["linux"]
    assert [node["path"] for node in linux["devices"]] == ["/dev/x"]
    assert linux["resources"]["devices"][-3:] == [
        {"allow": True, "type": "c", "major": 10, "minor": 229, "access": "r"},
        {"allow": True, "type": "c", "major": 10, "minor": -1, "access": "rw"},
        {"allow": True, "type": "a", "major": -1, "minor": -1, "access": "rwm"},
    ]


@pytest.mark.parametrize(
    "text", ["", "c", "c 1:3", "c 1:3 x", "c 1:3 ", "x 1:3 r", "c 1 r", "c 1:-3 r", "c 1:3 rwmr", "c 1:3\n r"]
)
def test_malformed_device_rules(text: str) -> None:
    """In dockerd's words."""
    with pytest.raises(InvalidArgument, match="invalid device cgroup rule format"):
        parse_rule(text)


def test_host_devices_are_looked_at(tmp_path: Any) -> None:
    """A directory gives what is below it; what is no device, or not there, is named."""
    seen = HostDevices()
    assert seen.at("/dev/null", "/dev/n")[0] | {"uid": 0} == {
        "path": "/dev/n",
        "type": "c",
        "major": 1,
        "minor": 3,
        "fileMode": 0o666,
        "uid": 0,
        "gid": 0,
    }
    assert all(node["path"] != "/dev/console" for node in seen.all())
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("/dev/zero")
    assert seen.at(str(tmp_path / "link"), "/dev/z")[0]["minor"] == 5
    for path in ("file", "nothing", ""):
        with pytest.raises(InvalidArgument, match="error gathering device information while adding custom device"):
            seen.at(os.path.join(str(tmp_path), path), "/dev/z")


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("", ["noexec", "nosuid", "nodev", "rprivate"]),
        ("size=10m,exec,mode=700", ["nosuid", "nodev", "rprivate", "size=10m", "exec", "mode=700"]),
        ("size=1,size=2,ro,rw", ["noexec", "nosuid", "nodev", "rprivate", "size=2", "rw"]),
        ("defaults,shared", ["noexec", "nosuid", "nodev", "shared"]),
    ],
)
def test_tmpfs_options(text: str, options: list[str]) -> None:
    """Safe by default; of several about one thing the last counts."""
    assert tmpfs_options(text) == options


@pytest.mark.parametrize("text", ["foo", "size", "bind", "remount", "lowerdir=/", "size=1,context=x", "=5", "size=1,"])
def test_options_that_no_tmpfs_has(text: str) -> None:
    """A bind or a remount is no tmpfs."""
    with pytest.raises(InvalidArgument, match="invalid tmpfs option"):
        tmpfs_options(text)


def test_mounts_of_the_user_replace_and_nest() -> None:
    """A bind of /dev/shm takes the default's place; outer mounts come before inner ones."""
    binds = [Mount("/data/inner", "bind", "/b"), Mount("/data", "bind", "/a"), Mount("/dev/shm", "bind", "/s")]
    spec = build(host={"Tmpfs": {"/run": "", "/data/inner/tmp": ""}}, mounts=binds)
    places = [mount["destination"] for mount in spec["mounts"]]
    assert places.count("/dev/shm") == 1
    assert places.index("/data") < places.index("/data/inner") < places.index("/data/inner/tmp")
    assert (mount_at(spec, "/dev/shm") or {})["source"] == "/s"


def test_a_users_dev_takes_all_below() -> None:
    """Nothing of ours is mounted into the user's own /dev."""
    spec = build(mounts=[Mount("/dev", "bind", "/dev", ("rbind",))])
    assert [mount["destination"] for mount in spec["mounts"] if mount["destination"].startswith("/dev")] == ["/dev"]


def test_a_read_only_root_leaves_the_users_mounts_alone() -> None:
    """Our files become read-only, /dev and /proc stay, the user's say for themselves."""
    files = [Mount("/etc/hosts", "bind", "/h", ("rbind", "rprivate"))]
    spec = build(host={"ReadonlyRootfs": True}, mounts=[Mount("/d", "bind", "/d", ("rbind",))], files=files)
    assert spec["root"]["readonly"]
    assert "ro" in (mount_at(spec, "/etc/hosts") or {})["options"]
    assert "ro" not in (mount_at(spec, "/d") or {})["options"]
    assert "ro" not in (mount_at(spec, "/dev") or {})["options"]


@pytest.mark.parametrize(
    ("host", "modes", "expected"),
    [
        ({"IpcMode": "none"}, {}, None),
        ({"IpcMode": "host"}, {"ipc": "host"}, "/dev/shm"),
        ({"IpcMode": "shareable"}, {"ipc": "new"}, "shm"),
    ],
)
def test_shared_memory_follows_ipc(host: dict[str, Any], modes: dict[str, str], expected: str | None) -> None:
    """None has none, the host's is the host's."""
    found = mount_at(build(host=host, namespace_modes=modes), "/dev/shm")
    assert (found["source"] if found else None) == expected


def test_joined_shared_memory_is_the_other_containers() -> None:
    """A private one in its place would be silently wrong: the descriptor that goes along names it."""
    spec = build(host={"IpcMode": "container:x"}, namespace_modes={"ipc": "join"})
    shm = mount_at(spec, "/dev/shm") or {}
    assert (shm["type"], shm["source"]) == ("bind", SHARED_MEMORY)


def test_namespaces_shared_with_the_host() -> None:
    """They are absent; with the host's names, nothing sets them."""
    modes = {"network": "host", "pid": "host", "ipc": "host", "uts": "host"}
    spec = build({"Domainname": "x"}, {"CgroupnsMode": "private"}, namespace_modes=modes)
    assert [item["type"] for item in spec["linux"]["namespaces"]] == ["mount", "cgroup"]
    assert spec["linux"]["sysctl"] == {}
    assert "hostname" not in spec
    assert "domainname" not in spec


def test_sysctls_of_a_joined_network_are_its_owners() -> None:
    """Only what this container asked for is set there."""
    spec = build(host={"Sysctls": {"net.core.somaxconn": "5"}}, namespace_modes={"network": "join"})
    assert spec["linux"]["sysctl"] == {"net.core.somaxconn": "5"}


@pytest.mark.parametrize(
    ("option", "check"),
    [
        ("no-new-privileges", lambda spec: spec["process"]["noNewPrivileges"]),
        ("no-new-privileges:true", lambda spec: spec["process"]["noNewPrivileges"]),
        ("no-new-privileges=0", lambda spec: not spec["process"]["noNewPrivileges"]),
        ("systempaths=unconfined", lambda spec: spec["linux"]["maskedPaths"] == spec["linux"]["readonlyPaths"] == []),
        ("writable-cgroups=true", lambda spec: "ro" not in (mount_at(spec, "/sys/fs/cgroup") or {})["options"]),
        ("label=disable", lambda spec: True),
        ("apparmor=unconfined", lambda spec: "apparmorProfile" not in spec["process"]),
    ],
)
def test_security_options(option: str, check: Any) -> None:
    """Each does what its name says."""
    assert check(build(host={"SecurityOpt": [option]}))


def test_explicit_paths_replace_the_defaults() -> None:
    """Also an empty list: how the docker command says systempaths=unconfined."""
    linux = build(host={"MaskedPaths": ["/a"], "ReadonlyPaths": []})["linux"]
    assert (linux["maskedPaths"], linux["readonlyPaths"]) == (["/a"], [])


def test_exec_has_what_process_1_has_and_what_was_asked() -> None:
    """Environment over the container's, its own terminal, user and directory; privileged has all the host has."""
    config = msgspec.convert(
        {"Hostname": "h", "User": "web", "WorkingDir": "/srv", "Env": ["A=1"], "Tty": True}, Config
    )
    host = HostConfig(security_opt=["no-new-privileges"])
    plain = exec_process(config, host, ExecConfig(env=["B=2", "A=3"]), ["id"], Machine())
    assert plain["env"] == [PATH, "HOSTNAME=h", "A=3", "B=2"]
    assert (plain["cwd"], plain["user"]["username"], plain["terminal"]) == ("/srv", "web", False)
    assert plain["noNewPrivileges"]
    assert plain["capabilities"]["bounding"] == list(DEFAULT_CAPABILITIES)
    asked = ExecConfig(privileged=True, user="0:0", working_dir="/x", tty=True, console_size=[1, 2])
    other = exec_process(config, host, asked, ["id"], Machine())
    assert set(other["capabilities"]["effective"]) == Machine.capabilities
    assert (other["cwd"], other["user"]["username"]) == ("/x", "0:0")
    assert "TERM=xterm" in other["env"]
    assert other["consoleSize"] == {"height": 1, "width": 2}
