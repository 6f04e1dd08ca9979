"""What a process becomes, as values: arguments, environment, ids, limits, capabilities; for start and exec alike."""

from wherry.errors import InvalidArgument, InvalidSpec
from wherry.linux.process import bounding_set, capget
from wherry.runtime.capabilities import capability_bits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.oci.runtime_config import Process

UNLIMITED = (1 << 64) - 1
RLIMITS = {
    "RLIMIT_CPU": 0,
    "RLIMIT_FSIZE": 1,
    "RLIMIT_DATA": 2,
    "RLIMIT_STACK": 3,
    "RLIMIT_CORE": 4,
    "RLIMIT_RSS": 5,
    "RLIMIT_NPROC": 6,
    "RLIMIT_NOFILE": 7,
    "RLIMIT_MEMLOCK": 8,
    "RLIMIT_AS": 9,
    "RLIMIT_LOCKS": 10,
    "RLIMIT_SIGPENDING": 11,
    "RLIMIT_MSGQUEUE": 12,
    "RLIMIT_NICE": 13,
    "RLIMIT_RTPRIO": 14,
    "RLIMIT_RTTIME": 15,
}

_host_capabilities: int | None = None


def host_capabilities() -> int:
    """Capabilities that this process could give away, as a bit set; asked of the kernel once."""
    global _host_capabilities
    if _host_capabilities is None:
        _host_capabilities = bounding_set() & capget()[1]
    return _host_capabilities


class ProcessPlan:
    """A process described.

    `env` has each name once, the last value. `rlimits`: (name, number, soft, hard), -1 for unlimited. `username`:
    looked up inside the container. `warnings`: what was asked for and is not to be had, in words.
    """

    __slots__ = (
        "apparmor_profile",
        "args",
        "capabilities",
        "console_size",
        "cwd",
        "env",
        "gid",
        "group_names",
        "groups",
        "no_new_privileges",
        "oom_score_adj",
        "rlimits",
        "selinux_label",
        "terminal",
        "uid",
        "umask",
        "username",
        "warnings",
    )

    def __init__(self, process: "Process", host: int) -> None:
        if not process.args:
            raise InvalidSpec("process.args must not be empty")
        self.args = process.args
        self.env = _environment(process.env)
        self.cwd = process.cwd
        self.uid = process.user.uid
        self.gid = process.user.gid
        self.groups = process.user.additional_gids
        self.group_names = process.user.additional_groups
        self.umask = 0o022 if process.user.umask is None else process.user.umask
        self.username = process.user.username
        self.terminal = process.terminal
        self.console_size = process.console_size
        self.no_new_privileges = process.no_new_privileges
        self.oom_score_adj = process.oom_score_adj
        self.apparmor_profile = process.apparmor_profile
        self.selinux_label = process.selinux_label
        self.rlimits = tuple(
            (limit.type, _rlimit(limit.type), _signed(limit.soft), _signed(limit.hard)) for limit in process.rlimits
        )
        self.capabilities, missing = capability_bits(process.capabilities, host)
        self.warnings = (f"this host cannot grant {', '.join(missing)}",) if missing else ()


def plan_process(process: "Process", capabilities: int | None = None) -> ProcessPlan:
    """Plan a process.

    Args:
        process: the OCI process object.
        capabilities: bit set of what can be granted; by default what this process has.

    Raises:
        InvalidSpec: no arguments, an unknown capability or limit.
    """
    return ProcessPlan(process, host_capabilities() if capabilities is None else capabilities)


def _environment(entries: "tuple[str, ...]") -> "dict[str, str]":
    found: dict[str, str] = {}
    for entry in entries:
        name, equals, value = entry.partition("=")
        if not name or not equals:
            raise InvalidArgument(f"invalid environment variable: {entry!r}")
        found[name] = value
    return found


def _rlimit(name: str) -> int:
    if name not in RLIMITS:
        raise InvalidSpec(f"process.rlimits: unknown limit {name!r}")
    return RLIMITS[name]


def _signed(value: int) -> int:
    return -1 if value in (-1, UNLIMITED) else value
