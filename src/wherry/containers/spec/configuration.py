"""From what a user asked for to an OCI runtime configuration (runtime-spec 1.2), as dockerd does it.

    spec.py            the request, the namespaces, and the whole
    spec_process.py    command, environment, user, limits of process 1 and of an exec
    spec_security.py   capabilities, `--security-opt`, masked paths
    spec_mounts.py     the kernel's file systems, binds, tmpfs, /dev/shm
    spec_resources.py  cgroup limits
    spec_devices.py    device nodes and device rules (the one that looks at the host's /dev)

`build_spec` is pure but for what it is handed: the functions that look at host devices.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from wherry.containers.spec import devices as spec_devices
from wherry.containers.spec import mounts as spec_mounts
from wherry.containers.spec import process as spec_process
from wherry.containers.spec import resources as spec_resources
from wherry.containers.spec import security as spec_security
from wherry.containers.spec.process import exec_process
from wherry.containers.spec.security import SecurityOptions
from wherry.oci.isolation import DEFAULT_NETWORK_SYSCTLS
from wherry.oci.mount import Mount
from wherry.wire.containers import Config, HostConfig

__all__ = ["Host", "SpecRequest", "build_spec", "exec_process"]

OCI_VERSION = "1.2.0"
_PING = "net.ipv4.ping_group_range"


class Host(Protocol):
    """What `build_spec` must know of this machine."""

    capabilities: frozenset[str]
    cgroup_version: str
    cpus: int
    tini: str | None


class SpecRequest:
    """Everything that a configuration is made of.

    Args:
        id: the container's full id.
        name: its name.
        config: joined with the image's.
        host_config: after `validate`.
        argv: the words of process 1.
        hostname: what the container calls itself (may hold dots).
        cgroup_path: below each hierarchy's root.
        machine: this host.
        mounts: binds of the user, resolved.
        files: files of ours that are bound into `/etc`.
        namespace_modes: `new`, `host` or `join` for `network`, `pid`, `ipc`, `uts`. A joined one is named without a
            path: the descriptor that is handed to the runtime beside this decides.
        no_new_privileges: the engine's default.
        ids: first host uid, first host gid and how many, for a user namespace.
        devices: looks at host devices.
    """

    __slots__ = (
        "argv",
        "cgroup_path",
        "config",
        "devices",
        "files",
        "host_config",
        "hostname",
        "id",
        "ids",
        "machine",
        "mounts",
        "name",
        "namespace_modes",
        "no_new_privileges",
    )

    def __init__(
        self,
        *,
        id: str,  # noqa: A002
        config: Config,
        host_config: HostConfig,
        argv: Sequence[str],
        hostname: str,
        cgroup_path: str,
        machine: Host,
        name: str = "",
        mounts: Sequence[Mount] = (),
        files: Sequence[Mount] = (),
        namespace_modes: Mapping[str, str] | None = None,
        no_new_privileges: bool = False,
        ids: Sequence[int] | None = None,
        devices: spec_devices.HostDevices | None = None,
    ) -> None:
        self.id = id
        self.name = name
        self.config = config
        self.host_config = host_config
        self.argv = list(argv)
        self.hostname = hostname
        self.cgroup_path = cgroup_path
        self.machine = machine
        self.mounts = list(mounts)
        self.files = list(files)
        self.namespace_modes = dict(namespace_modes or {})
        self.no_new_privileges = no_new_privileges
        self.ids = ids
        self.devices = devices or spec_devices.HostDevices()

    def mode(self, kind: str) -> str:
        """The mode of one namespace; not told is `new`."""
        return self.namespace_modes.get(kind, "new")


def build_spec(request: SpecRequest) -> dict[str, Any]:
    """Build the configuration.

    Returns:
        The `config.json` value.

    Raises:
        InvalidArgument: what was asked contradicts itself or names what is not there, in dockerd's words.
        NotSupported: it needs what this engine or host does not have.
    """
    config, host = request.config, request.host_config
    security = SecurityOptions.parse(host.security_opt, no_new_privileges=request.no_new_privileges)
    capabilities = spec_security.capabilities(host, request.machine.capabilities)
    devices, rules = spec_devices.devices(host, request.devices)
    spec: dict[str, Any] = {
        "ociVersion": OCI_VERSION,
        "process": spec_process.process(
            config,
            host,
            request.argv,
            hostname=request.hostname,
            capabilities=capabilities,
            security=security,
            init=_wants_init(request),
        ),
        # the root is a mount of its own, handed to the runtime beside this; the path is where it is named for people
        "root": {"path": "rootfs", "readonly": host.readonly_rootfs},
        "mounts": spec_mounts.mounts(request, security),
        "annotations": dict(host.annotations or {}),
        "linux": {
            "cgroupsPath": request.cgroup_path,
            "namespaces": _namespaces(request),
            **_id_mappings(request),
            "resources": {**spec_resources.resources(host, request.devices), "devices": rules},
            "devices": devices,
            "maskedPaths": spec_security.masked_paths(host, security, request.machine.cpus),
            "readonlyPaths": spec_security.readonly_paths(host, security),
            "sysctl": _sysctls(request),
        },
    }
    if request.mode("uts") == "new":
        spec["hostname"] = request.hostname
        if config.domainname:
            spec["domainname"] = config.domainname
    return spec


def _wants_init(request: SpecRequest) -> bool:
    # with the host's or another container's processes around it, it is not process 1 and has nothing to reap
    return bool(request.host_config.init) and request.mode("pid") == "new"


def _namespaces(request: SpecRequest) -> list[dict[str, Any]]:
    found = [{"type": "mount"}]
    found += [{"type": kind} for kind in ("network", "uts", "pid", "ipc") if request.mode(kind) != "host"]
    if request.ids is not None:
        found.append({"type": "user"})
    if request.host_config.cgroupns_mode == "private":
        found.append({"type": "cgroup"})
    return found


def _id_mappings(request: SpecRequest) -> dict[str, Any]:
    if request.ids is None:
        return {}
    uid, gid, count = request.ids
    return {
        "uidMappings": [{"containerID": 0, "hostID": uid, "size": count}],
        "gidMappings": [{"containerID": 0, "hostID": gid, "size": count}],
    }


def _sysctls(request: SpecRequest) -> dict[str, str]:
    # in a namespace that is joined they are its owner's
    defaults = dict(DEFAULT_NETWORK_SYSCTLS) if request.mode("network") == "new" else {}
    if request.ids is not None and _PING in defaults:
        # a group that the user namespace does not know is refused
        defaults[_PING] = f"0 {request.ids[2] - 1}"
    return {**defaults, **(request.host_config.sysctls or {})}
