"""A container, described: what will be mounted, made, set and executed, as plain values, before the kernel is touched.

`plan_container` reads no file and needs no root: what it returns can be compared in a test and printed.
"""

import os

from wherry.errors import InvalidSpec
from wherry.linux.namespace import CLONE_NEWCGROUP, CLONE_NEWTIME, NAMESPACES
from wherry.oci.runtime_config import SHARED_MEMORY
from wherry.runtime.capabilities import EVERY
from wherry.runtime.mount_options import Options, propagation, sort_options
from wherry.runtime.process_plan import ProcessPlan, plan_process
from wherry.runtime.sysctl import sysctl_files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from wherry.oci.mount import Mount
    from wherry.oci.runtime_config import Device, Hook, IdMapping, RuntimeConfig, SpecMount
    from wherry.runtime.sources import Source

BIND, FILESYSTEM, CGROUP, SHM = "bind", "filesystem", "cgroup", "shm"
LAYERS, CONTENT = "layers", "content"
# options of these two, and the type of the second: not the kernel's, and not the OCI specification's
_AT, _PATH, CONTENT_TYPE = "wherry.at=", "wherry.path=", "wherry-file"
# these are trusted by everything that comes after: no link of an image may move them
_PLAIN_TARGET = frozenset({"proc", "sysfs"})

DEFAULT_DEVICES = (
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
)
DEFAULT_LINKS = (
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
    ("pts/ptmx", "ptmx"),
)


class MountStep:
    """One mount to make.

    `kind`: `bind`, `filesystem`, `cgroup`, `shm` (another container's /dev/shm), `layers` (an overlay that is mounted
    at `at`, of which `path`, found inside it, is bound) or `content` (a file of a descriptor's content, in a tmpfs at
    `at`). `plain`: links in the destination are refused. `data`: comma-joined options of the file system. The rest is
    `mount_options.Options`.
    """

    __slots__ = ("at", "data", "destination", "fstype", "kind", "options", "path", "plain", "source")

    def __init__(self, kind: str, destination: str, source: str, fstype: str, options: Options) -> None:
        self.kind = kind
        self.destination = destination
        self.source = source
        self.fstype = fstype
        self.options = options
        self.data = ",".join(options.data)
        self.plain = fstype in _PLAIN_TARGET
        self.at = self.path = ""

    def __repr__(self) -> str:
        return f"MountStep({self.kind}, {self.source!r} on {self.destination!r}, {self.fstype}, {self.data!r})"


class DeviceNode:
    """One device file: `mode` with its type bits, ready for mknod(2)."""

    __slots__ = ("gid", "mode", "path", "rdev", "uid")

    def __init__(self, path: str, mode: int, rdev: int, uid: int = 0, gid: int = 0) -> None:
        self.path = path
        self.mode = mode
        self.rdev = rdev
        self.uid = uid
        self.gid = gid


class Plan:
    """A container described. Fields say what `launch` does in which order."""

    __slots__ = (
        "annotations",
        "bundle",
        "container_id",
        "contents",
        "devices",
        "domainname",
        "gid_map",
        "hooks",
        "hostname",
        "join",
        "links",
        "masked_paths",
        "mounts",
        "new_namespaces",
        "new_session_keyring",
        "personality",
        "process",
        "readonly_paths",
        "resources",
        "root_mounts",
        "root_path",
        "root_propagation",
        "root_readonly",
        "seccomp",
        "shared_memory",
        "sources",
        "sysctl",
        "time_offsets",
        "uid_map",
    )

    container_id: str
    bundle: str
    annotations: "dict[str, str]"
    new_namespaces: int
    join: "dict[str, int | str]"
    uid_map: str
    gid_map: str
    time_offsets: str
    root_path: str
    root_mounts: "tuple[Mount, ...]"
    root_readonly: bool
    root_propagation: "tuple[int, bool] | None"
    mounts: "tuple[MountStep, ...]"
    devices: "tuple[DeviceNode, ...]"
    links: "tuple[tuple[str, str], ...]"
    masked_paths: "tuple[str, ...]"
    readonly_paths: "tuple[str, ...]"
    hostname: str
    domainname: str
    sysctl: "tuple[tuple[str, str], ...]"
    personality: int | None
    process: ProcessPlan
    hooks: "dict[str, tuple[Hook, ...]]"
    resources: "dict[str, Any] | None"
    seccomp: "dict[str, Any] | None"
    shared_memory: int | None
    sources: "Mapping[str, Source]"
    contents: "dict[str, int]"
    new_session_keyring: bool

    @property
    def warnings(self) -> "tuple[str, ...]":
        """What was asked for and this host does not have, where that is no reason to fail."""
        return self.process.warnings

    @property
    def own_root(self) -> bool:
        """Whether a root is built and entered; else the process lives in the root of the namespace that it joins."""
        return bool(self.new_namespaces & NAMESPACES["mount"][0])

    @property
    def new_user_namespace(self) -> bool:
        return bool(self.new_namespaces & NAMESPACES["user"][0])


def plan_container(
    config: "RuntimeConfig",
    bundle: str,
    *,
    root_mounts: "Sequence[Mount]" = (),
    namespaces: "Mapping[str, int] | None" = None,
    sources: "Mapping[str, Source] | None" = None,
    container_id: str = "",
    host_capabilities: int | None = None,
    contents: "Mapping[str, int] | None" = None,
) -> Plan:
    """Plan a container.

    Args:
        config: the OCI runtime configuration.
        bundle: directory that relative paths in it are relative to.
        root_mounts: mounts that make the root, made inside the container's own mount namespace (an overlay with
            destination `/`); none: `config.root.path` is bind mounted.
        namespaces: open descriptors by OCI kind; they win over the configuration's paths. Besides, `shm`: the mount
            namespace whose /dev/shm is bound where the configuration has `SHARED_MEMORY` for a source.
        sources: for bind mounts, by destination, where what they mount was opened before.
        container_id: for hooks.
        host_capabilities: bit set of what can be granted; by default what this process has.
        contents: descriptors of files' content, by the source that mounts of type `wherry-file` name.

    Raises:
        InvalidSpec: the configuration asks for what cannot be.
    """
    if config.process is None:
        raise InvalidSpec("process is missing")
    plan = Plan()
    plan.container_id = container_id
    plan.bundle = bundle
    plan.annotations = config.annotations
    kinds = dict(config.linux.namespaces)
    plan.join = {kind: path for kind, path in kinds.items() if path}
    plan.join.update(namespaces or {})
    shared = plan.join.pop("shm", None)
    plan.shared_memory = shared if isinstance(shared, int) else None
    plan.sources = sources or {}
    plan.contents = dict(contents or {})
    plan.new_namespaces = 0
    for kind in kinds:
        if kind not in plan.join:
            plan.new_namespaces |= NAMESPACES[kind][0]
    plan.uid_map = id_map(config.linux.uid_mappings)
    plan.gid_map = id_map(config.linux.gid_mappings)
    plan.time_offsets = "".join(f"{clock} {secs} {nanos}\n" for clock, secs, nanos in config.linux.time_offsets)
    plan.root_path = os.path.normpath(os.path.join(bundle, config.root_path))
    plan.root_mounts = tuple(root_mounts)
    plan.root_readonly = config.root_readonly
    plan.root_propagation = propagation(config.linux.rootfs_propagation) if config.linux.rootfs_propagation else None
    plan.mounts = tuple(_mount_step(item, bundle, plan.shared_memory) for item in config.mounts)
    plan.devices, plan.links = _devices(config.linux.devices, plan.mounts)
    plan.masked_paths = config.linux.masked_paths
    plan.readonly_paths = config.linux.readonly_paths
    plan.hostname = config.hostname
    plan.domainname = config.domainname
    own = set(kinds) | set(plan.join)
    plan.sysctl = sysctl_files(config.linux.sysctl, own)
    plan.personality = config.linux.personality
    # a new user namespace has every capability, whatever its maker lacks
    granted = EVERY if plan.new_user_namespace else host_capabilities
    plan.process = plan_process(config.process, granted)
    plan.hooks = config.hooks
    plan.resources = _with_default_devices(config.linux.resources)
    plan.seccomp = config.linux.seccomp
    plan.new_session_keyring = True
    _check(plan, config)
    return plan


def _check(plan: Plan, config: "RuntimeConfig") -> None:
    if plan.own_root:
        if not plan.root_mounts and not config.root_path:
            raise InvalidSpec("root.path is missing")
    elif plan.mounts or plan.root_mounts or config.root_readonly or plan.masked_paths or plan.readonly_paths:
        raise InvalidSpec("mounts, masked and read-only paths need a new mount namespace")
    elif "mount" not in plan.join and plan.root_path != "/":
        raise InvalidSpec("root.path needs a new mount namespace")
    if "time" in plan.join and plan.time_offsets:
        raise InvalidSpec("linux.timeOffsets need a new time namespace")
    if config.linux.mount_label:
        raise InvalidSpec("linux.mountLabel is not supported: this runtime does not label file systems")
    for mount in plan.root_mounts:
        if mount.destination != "/":
            raise InvalidSpec(f"a root mount must have the destination /: {mount.destination!r}")


def clone_flags(plan: Plan) -> int:
    """CLONE_NEW* bits that the child is born with. A cgroup namespace is made once the child is in its cgroup, a time
    namespace before, because its offsets are fixed when the first process enters."""
    return plan.new_namespaces & ~(CLONE_NEWCGROUP | CLONE_NEWTIME)


def id_map(mappings: "tuple[IdMapping, ...]") -> str:
    """Lines of `uid_map` (user_namespaces(7))."""
    return "".join(f"{item.container_id} {item.host_id} {item.size}\n" for item in mappings)


def _mount_step(mount: "SpecMount", bundle: str, shared_memory: int | None = None) -> MountStep:
    options = sort_options(mount.options)
    destination = os.path.normpath("/" + mount.destination)
    if destination.startswith("//"):
        destination = destination[1:]
    if destination == "/":
        raise InvalidSpec("mounts: the destination / is the root itself")
    if mount.type == "bind" or options.bind:
        if options.data:
            raise InvalidSpec(f"mounts: unknown bind option {options.data[0]!r} for {destination}")
        if not mount.source:
            raise InvalidSpec(f"mounts: {destination} has no source")
        if shared_memory is not None and mount.source == SHARED_MEMORY:
            return MountStep(SHM, destination, mount.source, "", options)
        options.recursive = options.recursive or not options.bind
        return MountStep(BIND, destination, os.path.join(bundle, mount.source), "", options)
    if not mount.type:
        raise InvalidSpec(f"mounts: {destination} has no type")
    if mount.type in ("cgroup", "cgroup2"):
        options.data = ()
        return MountStep(CGROUP, destination, mount.source or "cgroup", mount.type, options)
    if mount.type == CONTENT_TYPE or any(word.startswith(_PATH) for word in options.data):
        return _special_step(mount, destination, options)
    if options.copy_up and mount.type != "tmpfs":
        raise InvalidSpec(f"mounts: tmpcopyup is for tmpfs: {destination}")
    return MountStep(FILESYSTEM, destination, mount.source or mount.type, mount.type, options)


def _special_step(mount: "SpecMount", destination: str, options: Options) -> MountStep:
    at = next((word[len(_AT) :] for word in options.data if word.startswith(_AT)), "")
    path = next((word[len(_PATH) :] for word in options.data if word.startswith(_PATH)), "")
    if not at:
        raise InvalidSpec(f"mounts: {destination} needs the option {_AT}")
    options.data = tuple(word for word in options.data if not word.startswith((_AT, _PATH)))
    kind = CONTENT if mount.type == CONTENT_TYPE else LAYERS
    step = MountStep(kind, destination, mount.source, mount.type, options)
    step.at, step.path = at, path
    return step


# what every container may use whatever its rules say, as runc has it: making nodes, the default devices, terminals
_ALWAYS_ALLOWED = (
    ("c", -1, -1, "m"),
    ("b", -1, -1, "m"),
    *(("c", major, minor, "rwm") for _, major, minor in DEFAULT_DEVICES),
    ("c", 5, 1, "rwm"),
    ("c", 5, 2, "rwm"),
    ("c", 136, -1, "rwm"),
)


def _with_default_devices(resources: "dict[str, Any] | None") -> "dict[str, Any] | None":
    if not resources or not isinstance(resources.get("devices"), list):
        return resources
    rules = [
        {"allow": True, "type": kind, "access": access}
        | ({"major": major} if major >= 0 else {})
        | ({"minor": minor} if minor >= 0 else {})
        for kind, major, minor, access in _ALWAYS_ALLOWED
    ]
    return {**resources, "devices": [*resources["devices"], *rules]}


_TYPE_BITS = {"c": 0o020000, "u": 0o020000, "b": 0o060000, "p": 0o010000}


def _devices(
    extra: "tuple[Device, ...]", mounts: "tuple[MountStep, ...]"
) -> "tuple[tuple[DeviceNode, ...], tuple[tuple[str, str], ...]]":
    if any(step.destination == "/dev" and step.kind == BIND for step in mounts):
        return (), ()  # the host's /dev was asked for: nothing is made in it
    nodes = {path: DeviceNode(path, 0o020666, os.makedev(major, minor)) for path, major, minor in DEFAULT_DEVICES}
    for device in extra:
        path = os.path.normpath(device.path)
        mode = _TYPE_BITS[device.type] | (device.file_mode & 0o7777)
        nodes[path] = DeviceNode(path, mode, os.makedev(device.major, device.minor), device.uid, device.gid)
    # a tty device of our own would be the terminal's place
    nodes.pop("/dev/ptmx", None)
    nodes.pop("/dev/console", None)
    return tuple(nodes.values()), DEFAULT_LINKS
