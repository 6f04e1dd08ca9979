"""The OCI runtime configuration (runtime-spec 1.2, linux), read from JSON values into plain objects.

`parse` checks types and the rules that need no host: a field of the wrong kind is named (`process.args[2] must be a
string`). `linux.resources` and `linux.seccomp` stay JSON objects: the code that applies them reads them.
"""

from wherry.errors import InvalidSpec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

NAMESPACE_TYPES = frozenset({"pid", "network", "mount", "ipc", "uts", "user", "cgroup", "time"})
# source of a bind that stands for the /dev/shm of the mount namespace handed over as `shm`
SHARED_MEMORY = "ns:shm"
HOOK_KINDS = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")
PROPAGATIONS = frozenset({"private", "rprivate", "slave", "rslave", "shared", "rshared", "unbindable", "runbindable"})
MAX_ID = 0xFFFFFFFE  # (uid_t)-1 means "no change" to the kernel: it must never be asked for


class User:
    """`process.user`. `username` (`name[:group]`), looked up in the container's own files, wins over the numbers.
    With it `additionalGroups` (names or numbers; our addition to the specification) are looked up too."""

    __slots__ = ("additional_gids", "additional_groups", "gid", "uid", "umask", "username")

    def __init__(self, value: "_Object") -> None:
        self.uid = value.number("uid", 0, MAX_ID)
        self.gid = value.number("gid", 0, MAX_ID)
        self.umask = value.optional_number("umask", 0, 0o777)
        self.additional_gids = value.numbers("additionalGids", 0, MAX_ID)
        self.additional_groups = value.strings("additionalGroups")
        self.username = value.string("username")


class Capabilities:
    """The five sets, as names (`CAP_CHOWN`)."""

    __slots__ = ("ambient", "bounding", "effective", "inheritable", "permitted")

    def __init__(self, sets: "dict[str, tuple[str, ...]]") -> None:
        self.bounding = sets.get("bounding", ())
        self.effective = sets.get("effective", ())
        self.inheritable = sets.get("inheritable", ())
        self.permitted = sets.get("permitted", ())
        self.ambient = sets.get("ambient", ())


class Rlimit:
    """One limit; `type` is `RLIMIT_NOFILE`…"""

    __slots__ = ("hard", "soft", "type")

    def __init__(self, type: str, soft: int, hard: int) -> None:  # noqa: A002
        self.type = type
        self.soft = soft
        self.hard = hard


class Process:
    """`process`: what is executed, as whom and with which limits."""

    __slots__ = (
        "apparmor_profile",
        "args",
        "capabilities",
        "console_size",
        "cwd",
        "env",
        "no_new_privileges",
        "oom_score_adj",
        "rlimits",
        "selinux_label",
        "terminal",
        "user",
    )

    def __init__(self, value: "_Object") -> None:
        self.terminal = value.boolean("terminal")
        size = value.optional_object("consoleSize")
        self.console_size = (size.number("height", 0, 65535), size.number("width", 0, 65535)) if size else None
        self.args = value.strings("args")
        self.env = value.strings("env")
        self.cwd = value.string("cwd", "/")
        self.no_new_privileges = value.boolean("noNewPrivileges")
        self.oom_score_adj = value.optional_number("oomScoreAdj", -1000, 1000)
        self.apparmor_profile = value.string("apparmorProfile")
        self.selinux_label = value.string("selinuxLabel")
        self.user = User(value.object("user"))
        self.capabilities = _capabilities(value.optional_object("capabilities"))
        self.rlimits = _rlimits(value)
        if not self.cwd.startswith("/"):
            raise InvalidSpec(f"{value.name('cwd')} must be an absolute path: {self.cwd!r}")
        for field in ("ioPriority", "scheduler", "execCPUAffinity"):
            if value.get(field):
                raise InvalidSpec(f"{value.name(field)} is not supported")


class SpecMount:
    """One entry of `mounts`. `type` is empty where a bind is meant by options alone."""

    __slots__ = ("destination", "options", "source", "type")

    def __init__(self, destination: str, type: str, source: str, options: "tuple[str, ...]") -> None:  # noqa: A002
        self.destination = destination
        self.type = type
        self.source = source
        self.options = options


class Device:
    """One entry of `linux.devices`."""

    __slots__ = ("file_mode", "gid", "major", "minor", "path", "type", "uid")

    def __init__(self, value: "_Object") -> None:
        self.path = value.absolute("path")
        self.type = value.string("type")
        if self.type not in ("c", "u", "b", "p"):
            raise InvalidSpec(f"{value.name('type')} must be one of c, b, u, p: {self.type!r}")
        self.major = value.number("major", 0, 0xFFF) if self.type != "p" else 0
        self.minor = value.number("minor", 0, 0xFFFFF) if self.type != "p" else 0
        self.file_mode = value.number("fileMode", 0, 0xFFFF, 0o666)
        self.uid = value.number("uid", 0, MAX_ID)
        self.gid = value.number("gid", 0, MAX_ID)


class IdMapping:
    """One line of a user namespace's map."""

    __slots__ = ("container_id", "host_id", "size")

    def __init__(self, value: "_Object") -> None:
        self.container_id = value.number("containerID", 0, MAX_ID)
        self.host_id = value.number("hostID", 0, MAX_ID)
        self.size = value.number("size", 1, MAX_ID + 1, 0)


class Hook:
    """One hook. `timeout` in seconds, or None."""

    __slots__ = ("args", "env", "path", "timeout")

    def __init__(self, value: "_Object") -> None:
        self.path = value.absolute("path")
        self.args = value.strings("args") or (self.path,)
        self.env = value.strings("env")
        self.timeout = value.optional_number("timeout", 1, 1 << 31)


class Linux:
    """`linux`: namespaces, devices and confinement."""

    __slots__ = (
        "cgroups_path",
        "devices",
        "gid_mappings",
        "masked_paths",
        "mount_label",
        "namespaces",
        "personality",
        "readonly_paths",
        "resources",
        "rootfs_propagation",
        "seccomp",
        "sysctl",
        "time_offsets",
        "uid_mappings",
    )

    def __init__(self, value: "_Object") -> None:
        self.namespaces = _namespaces(value)
        self.uid_mappings = tuple(IdMapping(item) for item in value.objects("uidMappings"))
        self.gid_mappings = tuple(IdMapping(item) for item in value.objects("gidMappings"))
        self.devices = tuple(Device(item) for item in value.objects("devices"))
        self.cgroups_path = value.string("cgroupsPath")
        self.resources = value.raw_object("resources")
        self.seccomp = value.raw_object("seccomp")
        self.rootfs_propagation = value.string("rootfsPropagation")
        if self.rootfs_propagation and self.rootfs_propagation not in PROPAGATIONS:
            raise InvalidSpec(f"{value.name('rootfsPropagation')}: unknown propagation {self.rootfs_propagation!r}")
        self.masked_paths = value.absolutes("maskedPaths")
        self.readonly_paths = value.absolutes("readonlyPaths")
        self.mount_label = value.string("mountLabel")
        self.sysctl = value.string_map("sysctl")
        self.personality = _personality(value.optional_object("personality"))
        self.time_offsets = _time_offsets(value.optional_object("timeOffsets"))
        if value.get("intelRdt"):
            raise InvalidSpec(f"{value.name('intelRdt')} is not supported")
        self._check(value)

    def _check(self, value: "_Object") -> None:
        kinds = dict(self.namespaces)
        if (self.uid_mappings or self.gid_mappings) and "user" not in kinds:
            raise InvalidSpec(f"{value.name('uidMappings')} need a user namespace")
        if "user" in kinds and not kinds["user"] and not (self.uid_mappings and self.gid_mappings):
            raise InvalidSpec(f"{value.name('uidMappings')} and gidMappings are needed for a new user namespace")
        if self.time_offsets and "time" not in kinds:
            raise InvalidSpec(f"{value.name('timeOffsets')} need a time namespace")


class RuntimeConfig:
    """A whole `config.json`."""

    __slots__ = (
        "annotations",
        "domainname",
        "hooks",
        "hostname",
        "linux",
        "mounts",
        "oci_version",
        "process",
        "root_path",
        "root_readonly",
    )

    def __init__(self, value: "_Object") -> None:
        self.oci_version = value.string("ociVersion")
        if not self.oci_version.startswith("1."):
            raise InvalidSpec(f"ociVersion {self.oci_version!r} is not one of 1.x")
        process = value.optional_object("process")
        self.process = Process(process) if process else None
        root = value.object("root")
        self.root_path = root.string("path")
        self.root_readonly = root.boolean("readonly")
        self.hostname = value.string("hostname")
        self.domainname = value.string("domainname")
        self.annotations = value.string_map("annotations")
        self.mounts = tuple(
            SpecMount(item.string("destination"), item.string("type"), item.string("source"), item.strings("options"))
            for item in _checked_mounts(value)
        )
        hooks = value.object("hooks")
        self.hooks = {kind: tuple(Hook(item) for item in hooks.objects(kind)) for kind in HOOK_KINDS}
        self.linux = Linux(value.object("linux"))
        for name in ("hostname", "domainname"):
            if len(getattr(self, name).encode("utf-8", "surrogateescape")) > 64:
                raise InvalidSpec(f"{name} is longer than 64 bytes")
        kinds = dict(self.linux.namespaces)
        for name in ("hostname", "domainname"):
            if getattr(self, name) and "uts" not in kinds:
                raise InvalidSpec(f"{name} cannot be set without a uts namespace")


def parse(value: "dict[str, Any]") -> RuntimeConfig:
    """Read a runtime configuration.

    Args:
        value: `config.json` as `json.loads` gives it.

    Raises:
        InvalidSpec: names the field and what is wrong with it.
    """
    return RuntimeConfig(_Object(value, ""))


def parse_process(value: "dict[str, Any]") -> Process:
    """Read a process object alone, as an exec carries it. Raises `InvalidSpec`."""
    return Process(_Object(value, "process"))


class _Object:
    """A JSON object that knows its name, so that an error can tell it. Absent and null fields are the same."""

    __slots__ = ("path", "value")

    def __init__(self, value: "Any", path: str) -> None:
        if not isinstance(value, dict):
            raise InvalidSpec(f"{path or 'config.json'} must be an object")
        self.value: dict[str, Any] = value
        self.path = path

    def name(self, key: str) -> str:
        return f"{self.path}.{key}" if self.path else key

    def get(self, key: str) -> "Any":
        return self.value.get(key)

    def _typed(self, key: str, kind: type, default: "Any", words: str) -> "Any":
        found = self.value.get(key)
        if found is None:
            return default
        if type(found) is not kind:
            raise InvalidSpec(f"{self.name(key)} must be {words}")
        return found

    def string(self, key: str, default: str = "") -> str:
        return _clean(self._typed(key, str, default, "a string"), self.name(key))

    def absolute(self, key: str) -> str:
        found = self.string(key)
        if not found.startswith("/"):
            raise InvalidSpec(f"{self.name(key)} must be an absolute path: {found!r}")
        return found

    def boolean(self, key: str) -> bool:
        return bool(self._typed(key, bool, False, "true or false"))

    def number(self, key: str, low: int, high: int, default: int = 0) -> int:
        found = self._typed(key, int, default, "an integer")
        if not low <= found <= high:
            raise InvalidSpec(f"{self.name(key)} must lie between {low} and {high}: {found}")
        return int(found)

    def optional_number(self, key: str, low: int, high: int) -> int | None:
        return None if self.value.get(key) is None else self.number(key, low, high)

    def _list(self, key: str) -> "list[Any]":
        found: list[Any] = self._typed(key, list, [], "an array")
        return found

    def strings(self, key: str) -> "tuple[str, ...]":
        found = self._list(key)
        for index, item in enumerate(found):
            if type(item) is not str:
                raise InvalidSpec(f"{self.name(key)}[{index}] must be a string")
            _clean(item, f"{self.name(key)}[{index}]")
        return tuple(found)

    def absolutes(self, key: str) -> "tuple[str, ...]":
        found = self.strings(key)
        for index, item in enumerate(found):
            if not item.startswith("/"):
                raise InvalidSpec(f"{self.name(key)}[{index}] must be an absolute path: {item!r}")
        return found

    def numbers(self, key: str, low: int, high: int) -> "tuple[int, ...]":
        found = self._list(key)
        for index, item in enumerate(found):
            if type(item) is not int or not low <= item <= high:
                raise InvalidSpec(f"{self.name(key)}[{index}] must be an integer between {low} and {high}")
        return tuple(found)

    def object(self, key: str) -> "_Object":
        return _Object(self.value.get(key) or {}, self.name(key))

    def optional_object(self, key: str) -> "_Object | None":
        found = self.value.get(key)
        return None if found is None else _Object(found, self.name(key))

    def raw_object(self, key: str) -> "dict[str, Any] | None":
        found: dict[str, Any] | None = self._typed(key, dict, None, "an object")
        return found

    def objects(self, key: str) -> "list[_Object]":
        return [_Object(item, f"{self.name(key)}[{index}]") for index, item in enumerate(self._list(key))]

    def string_map(self, key: str) -> "dict[str, str]":
        found: dict[str, str] = self._typed(key, dict, {}, "an object")
        for name, item in found.items():
            if type(item) is not str:
                raise InvalidSpec(f"{self.name(key)}.{name} must be a string")
            _clean(item, f"{self.name(key)}.{name}")
            _clean(name, self.name(key))
        return found


def _clean(text: str, name: str) -> str:
    if "\0" in text:
        raise InvalidSpec(f"{name} must not hold a NUL byte")
    if not text.isascii():
        try:
            text.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            raise InvalidSpec(f"{name} must be Unicode text") from None
    return text


def _capabilities(value: "_Object | None") -> "Capabilities | None":
    if value is None:
        return None
    return Capabilities(
        {key: value.strings(key) for key in ("bounding", "effective", "inheritable", "permitted", "ambient")}
    )


def _rlimits(value: _Object) -> "tuple[Rlimit, ...]":
    found: dict[str, Rlimit] = {}
    for item in value.objects("rlimits"):
        kind = item.string("type")
        if kind in found:
            raise InvalidSpec(f"{item.name('type')} {kind!r} is given twice")
        # 2^64-1 is how "unlimited" is written; some writers put -1
        soft, hard = item.number("soft", -1, (1 << 64) - 1), item.number("hard", -1, (1 << 64) - 1)
        if soft % (1 << 64) > hard % (1 << 64):
            raise InvalidSpec(f"{item.name('soft')} is over the hard limit")
        found[kind] = Rlimit(kind, soft, hard)
    return tuple(found.values())


def _namespaces(value: _Object) -> "tuple[tuple[str, str], ...]":
    found: dict[str, str] = {}
    for item in value.objects("namespaces"):
        kind = item.string("type")
        if kind not in NAMESPACE_TYPES:
            raise InvalidSpec(f"{item.name('type')}: unknown namespace {kind!r}")
        if kind in found:
            raise InvalidSpec(f"{item.name('type')} {kind!r} is given twice")
        found[kind] = item.absolute("path") if item.get("path") else ""
    return tuple(found.items())


def _checked_mounts(value: _Object) -> "list[_Object]":
    found = value.objects("mounts")
    for item in found:
        if not item.string("destination"):
            raise InvalidSpec(f"{item.name('destination')} is missing")
        if item.get("uidMappings") or item.get("gidMappings"):
            raise InvalidSpec(f"{item.name('uidMappings')}: id-mapped mounts are not supported")
    return found


def _personality(value: "_Object | None") -> int | None:
    if value is None:
        return None
    domains = {"LINUX": 0x0000, "LINUX32": 0x0008}
    domain = value.string("domain")
    if domain not in domains:
        raise InvalidSpec(f"{value.name('domain')}: unknown personality {domain!r}")
    if value.strings("flags"):
        raise InvalidSpec(f"{value.name('flags')} are not supported")
    return domains[domain]


def _time_offsets(value: "_Object | None") -> "tuple[tuple[str, int, int], ...]":
    if value is None:
        return ()
    found = []
    for clock in value.value:
        if clock not in ("monotonic", "boottime"):
            raise InvalidSpec(f"{value.name(clock)}: unknown clock")
        item = value.object(clock)
        found.append((clock, item.number("secs", -(1 << 62), 1 << 62), item.number("nanosecs", 0, 999_999_999)))
    return tuple(found)
