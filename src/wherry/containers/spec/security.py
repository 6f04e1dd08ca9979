"""What a container's processes may do: capabilities, `--security-opt`, what is masked."""

from collections.abc import Iterable, Sequence

from wherry.errors import InvalidArgument
from wherry.linux.capability import NAMES
from wherry.oci.isolation import DEFAULT_CAPABILITIES, READONLY_PATHS
from wherry.oci.isolation import masked_paths as default_masked_paths
from wherry.values.gotext import parse_bool
from wherry.wire.containers import HostConfig

ALL = "ALL"


class SecurityOptions:
    """`--security-opt`, read.

    Attributes:
        no_new_privileges: set-uid programs gain nothing.
        seccomp: a profile's JSON text, `unconfined`, or None: ours.
        apparmor: a profile's name, or empty (not asked, or `unconfined`).
        apparmor_asked: what the option says (`unconfined` too), or empty.
        systempaths_unconfined: nothing is masked or read-only.
        writable_cgroups: the cgroup file system is writable.
    """

    __slots__ = (
        "apparmor",
        "apparmor_asked",
        "no_new_privileges",
        "seccomp",
        "systempaths_unconfined",
        "writable_cgroups",
    )

    def __init__(self) -> None:
        self.no_new_privileges = False
        self.seccomp: str | None = None
        self.apparmor = ""
        self.apparmor_asked = ""
        self.systempaths_unconfined = False
        self.writable_cgroups = False

    @classmethod
    def parse(cls, options: Iterable[str] | None, *, no_new_privileges: bool = False) -> "SecurityOptions":
        """Read the options; `no_new_privileges` is the engine's default.

        Raises:
            InvalidArgument: an unknown option or value, in dockerd's words.
        """
        found = cls()
        found.no_new_privileges = no_new_privileges
        for option in options or []:
            found._take(option)
        return found

    def _take(self, option: str) -> None:
        if option == "no-new-privileges":
            self.no_new_privileges = True
            return
        if option == "disable":  # how SELinux labels were switched off before they had a name
            return
        # `name:value` is the older spelling; a profile's JSON has colons, so the equals sign is looked for first
        name, separator, value = option.partition("=" if "=" in option else ":")
        if not separator:
            raise InvalidArgument(f'invalid --security-opt 1: "{option}"')
        if name == "no-new-privileges":
            self.no_new_privileges = boolean(option, value)
        elif name == "writable-cgroups":
            self.writable_cgroups = boolean(option, value)
        elif name == "seccomp":
            self.seccomp = value
        elif name == "apparmor":
            self.apparmor_asked = value
            self.apparmor = "" if value == "unconfined" else value
        elif name == "systempaths" and value == "unconfined":
            self.systempaths_unconfined = True
        elif name != "label":
            raise InvalidArgument(f'invalid --security-opt 2: "{option}"')


def host_has_apparmor() -> bool:
    """Whether the host's kernel runs AppArmor."""
    try:
        with open("/sys/module/apparmor/parameters/enabled", encoding="ascii") as file:
            return file.read(1) == "Y"
    except OSError:
        return False


def boolean(option: str, value: str) -> bool:
    """A truth value as Go reads it."""
    try:
        return parse_bool(value)
    except ValueError:
        raise InvalidArgument(f'invalid --security-opt 2: "{option}"') from None


def normalised(names: Iterable[str] | None, option: str) -> list[str]:
    """Capability names in full and upper case; `ALL` stays.

    Args:
        names: as the user wrote them, with or without `CAP_`.
        option: `CapAdd` or `CapDrop`, for the error.

    Raises:
        InvalidArgument: a name that is no capability.
    """
    found: list[str] = []
    for name in names or []:
        full = name.strip().upper()
        if full in (ALL, "CAP_ALL"):
            found.append(ALL)
            continue
        if not full.startswith("CAP_"):
            full = f"CAP_{full}"
        if full not in NAMES:
            raise InvalidArgument(f'invalid {option}: unknown capability: "{full}"')
        found.append(full)
    return found


def every_capability(host: frozenset[str]) -> list[str]:
    """All that the host has, by number."""
    return [name for name in NAMES if name in host]


def capabilities(host_config: HostConfig, host: frozenset[str]) -> list[str]:
    """What process 1 gets.

    Args:
        host_config: `Privileged`, `CapAdd`, `CapDrop`.
        host: what this host can give.

    Raises:
        InvalidArgument: an unknown name, or one that was asked for and that the host does not have.
    """
    add, drop = normalised(host_config.cap_add, "CapAdd"), normalised(host_config.cap_drop, "CapDrop")
    for name in add:
        if name not in host and name != ALL:
            raise InvalidArgument(
                "invalid CapAdd: capability not supported by your kernel or not available in the current environment: "
                f'"{name}"'
            )
    if host_config.privileged:
        return every_capability(host)
    if ALL in add:
        return [name for name in every_capability(host) if name not in drop]
    wanted: Sequence[str] = add
    if ALL not in drop:
        wanted = [*(name for name in DEFAULT_CAPABILITIES if name not in drop), *add]
    return [name for name in dict.fromkeys(wanted) if name in host]


def administers_network(host_config: HostConfig) -> bool:
    """Whether process 1 may change addresses, routes and links of its network namespace (CAP_NET_ADMIN)."""
    asked = host_config.privileged or host_config.cap_add
    return bool(asked) and "CAP_NET_ADMIN" in capabilities(host_config, frozenset(NAMES))


def masked_paths(host_config: HostConfig, security: SecurityOptions, processors: int) -> list[str]:
    """What cannot be read inside; an explicit list of the request replaces ours, also an empty one."""
    if host_config.privileged or security.systempaths_unconfined:
        return []
    if host_config.masked_paths is not None:
        return list(host_config.masked_paths)
    return default_masked_paths(processors)


def readonly_paths(host_config: HostConfig, security: SecurityOptions) -> list[str]:
    """What cannot be written inside."""
    if host_config.privileged or security.systempaths_unconfined:
        return []
    if host_config.readonly_paths is not None:
        return list(host_config.readonly_paths)
    return list(READONLY_PATHS)
