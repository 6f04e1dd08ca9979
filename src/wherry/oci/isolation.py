"""What isolates a container by default: the values that users of Docker count on, in one place.

Values only; `containers/spec/configuration.py` makes an OCI configuration of them.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DEFAULT_SHM_SIZE = 64 << 20

# what process 1 of an unprivileged container may do; none of it inheritable or ambient
DEFAULT_CAPABILITIES = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
)

# unreadable inside: they tell about the host, or reach its hardware. Entries that a kernel lacks are skipped;
# `thermal_throttle` is a directory of each processor, so its entries depend on the host (`masked_paths`)
MASKED_PATHS = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
)

# readable and not writable inside
READONLY_PATHS = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")


def masked_paths(processors: int) -> "list[str]":
    """`MASKED_PATHS`, and the thermal counters of each of the host's processors."""
    thermal = [f"/sys/devices/system/cpu/cpu{number}/thermal_throttle" for number in range(processors)]
    return [*MASKED_PATHS, *thermal]


# nodes that every container has: path, type, major, minor, mode (all owned by root)
DEFAULT_DEVICES = (
    ("/dev/null", "c", 1, 3, 0o666),
    ("/dev/zero", "c", 1, 5, 0o666),
    ("/dev/full", "c", 1, 7, 0o666),
    ("/dev/random", "c", 1, 8, 0o666),
    ("/dev/urandom", "c", 1, 9, 0o666),
    ("/dev/tty", "c", 5, 0, 0o666),
)

# type, major, minor (-1: all), access. `mknod` is allowed for every number (the capability rules it), opening is not
_ALLOWED = (
    ("c", -1, -1, "m"),
    ("b", -1, -1, "m"),
    ("c", 1, 3, "rwm"),  # null
    ("c", 1, 5, "rwm"),  # zero
    ("c", 1, 7, "rwm"),  # full
    ("c", 1, 8, "rwm"),  # random
    ("c", 1, 9, "rwm"),  # urandom
    ("c", 5, 0, "rwm"),  # tty
    ("c", 5, 1, "rwm"),  # console
    ("c", 5, 2, "rwm"),  # ptmx
    ("c", 136, -1, "rwm"),  # pts
)


def default_device_rules() -> "list[dict[str, Any]]":
    """`linux.resources.devices` of an unprivileged container: nothing, but what every container has."""
    rules: list[dict[str, Any]] = [{"allow": False, "access": "rwm"}]
    for kind, major, minor, access in _ALLOWED:
        rules.append({"allow": True, "type": kind, "major": major, "minor": minor, "access": access})
    return rules


def default_mounts(shm_size: int = DEFAULT_SHM_SIZE) -> "list[dict[str, Any]]":
    """The kernel's file systems that every container has, in order.

    Args:
        shm_size: bytes of `/dev/shm`.
    """
    return [
        _mount("/proc", "proc", "proc", "nosuid", "noexec", "nodev"),
        _mount("/dev", "tmpfs", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
        _mount(
            "/dev/pts", "devpts", "devpts", "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"
        ),
        _mount("/sys", "sysfs", "sysfs", "nosuid", "noexec", "nodev", "ro"),
        _mount("/sys/fs/cgroup", "cgroup", "cgroup", "ro", "nosuid", "noexec", "nodev"),
        _mount("/dev/mqueue", "mqueue", "mqueue", "nosuid", "noexec", "nodev"),
        _mount("/dev/shm", "tmpfs", "shm", "nosuid", "noexec", "nodev", "mode=1777", f"size={shm_size}"),
    ]


def _mount(destination: str, kind: str, source: str, *options: str) -> "dict[str, Any]":
    return {"destination": destination, "type": kind, "source": source, "options": list(options)}


# network sysctls of a namespace of one's own: low ports and ping need no privilege there
DEFAULT_NETWORK_SYSCTLS = {"net.ipv4.ip_unprivileged_port_start": "0", "net.ipv4.ping_group_range": "0 2147483647"}
