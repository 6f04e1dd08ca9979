"""The flags of `run` and `create`, and what each of them accepts."""

from wherry.cli.commands.common import DETACH_KEYS
from wherry.cli.flags import Flag
from wherry.cli.healthy import WAIT_FLAGS
from wherry.values import durations
from wherry.values.gotext import quote as quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def _attach(text: str) -> str:
    stream = text.lower()
    if stream not in ("stdin", "stdout", "stderr"):
        raise ValueError("valid streams are STDIN, STDOUT and STDERR")
    return stream


def environment(text: str) -> str:
    """`A=b`, or `A` for our own value of it; a name without any value is kept, and unsets."""
    import os

    name, separator, _ = text.partition("=")
    if not name:
        raise ValueError(f"invalid environment variable: {text}")
    if separator or name not in os.environ:
        return text
    return f"{name}={os.environ[name]}"


def _label(text: str) -> str:
    if not text or text.startswith("="):
        raise ValueError(f"invalid label '{text}': empty name")
    return text


def size_of(text: str) -> int:
    from wherry.values import sizes

    return sizes.ram_in_bytes(text)


def _swap(text: str) -> int:
    return -1 if text == "-1" else size_of(text)


def _cpus(text: str) -> int:
    whole, point, part = text.lstrip("+-").partition(".")
    if not (whole or part) or not (whole + part).isdigit() or (point and not part and not whole):
        raise ValueError(f"failed to parse {text} as a rational number")
    if len(part.rstrip("0")) > 9:
        raise ValueError("value is too precise")
    value = int(whole or "0") * 10**9 + int(part[:9].ljust(9, "0"))
    return -value if text.startswith("-") else value


def _address(text: str) -> str:
    import _socket

    for family in (_socket.AF_INET, _socket.AF_INET6):
        try:
            _socket.inet_pton(family, text.strip())
        except OSError:
            continue
        return text.strip()
    raise ValueError(f"IP address is not correctly formatted: {text}")


def _extra_host(text: str) -> str:
    for separator in ("=", ":"):
        name, found, address = text.partition(separator)
        if found:
            break
    if not found or not name:
        raise ValueError(f"bad format for add-host: {quoted(text)}")
    address = address.removeprefix("[").removesuffix("]")
    if address != "host-gateway":
        try:
            address = _address(address)
        except ValueError:
            raise ValueError(f"invalid IP address in add-host: {quoted(address)}") from None
    return f"{name}:{address}"


# those that the kernel keeps per IPC namespace
_KERNEL_SYSCTLS = frozenset(
    f"kernel.{name}" for name in "msgmax msgmnb msgmni sem shmall shmmax shmmni shm_rmid_forced".split()
)


def _sysctl(text: str) -> str:
    name, separator, _ = text.partition("=")
    if not separator or not (name.startswith(("net.", "fs.mqueue.")) or name in _KERNEL_SYSCTLS):
        raise ValueError(f"sysctl '{text}' is not allowed")
    return text


def _search(text: str) -> str:
    return text.strip()


def _link(text: str) -> str:
    name, _, alias = text.partition(":")
    if not text:
        raise ValueError("empty string specified for links")
    if ":" in alias:
        raise ValueError(f"bad format for links: {text}")
    if name == "":
        raise ValueError(f"bad format for links: {text}")
    return f"{name}:{alias or name.rpartition('/')[2]}"


_ULIMITS = frozenset(
    "as core cpu data fsize locks memlock msgqueue nice nofile nproc rss rtprio rttime sigpending stack".split()
)


def ulimit_of(text: str) -> "dict[str, Any]":
    name, separator, limits = text.partition("=")
    if not separator:
        raise ValueError(f"invalid ulimit argument: {text}")
    if name not in _ULIMITS:
        raise ValueError(f"invalid ulimit type: {name}")
    soft_text, colon, hard_text = limits.partition(":")
    if ":" in hard_text:
        raise ValueError(f"too many limit value arguments - {limits}, can only have up to two, `soft[:hard]`")
    values = []
    for value in (soft_text, hard_text) if colon else (soft_text,):
        if not value.removeprefix("-").isdigit():
            raise ValueError(f"strconv.ParseInt: parsing {quoted(value)}: invalid syntax")
        values.append(int(value))
    soft, hard = values[0], values[-1]
    if hard != -1 and (soft == -1 or soft > hard):
        raise ValueError(f"ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}")
    return {"Name": name, "Hard": hard, "Soft": soft}


def _device_rule(text: str) -> str:
    kind, _, rest = text.partition(" ")
    numbers, _, access = rest.partition(" ")
    major, colon, minor = numbers.partition(":")
    good = kind in ("a", "b", "c") and colon and access and not access.strip("rwm")
    if not good or not all(number == "*" or number.isdigit() for number in (major, minor)):
        raise ValueError(f"invalid device cgroup format '{text}'")
    return text


def _mount(text: str) -> "dict[str, Any]":
    from wherry.cli.mounts import parse_mount

    return parse_mount(text)


def _network(text: str) -> "dict[str, Any]":
    from wherry.cli.mounts import parse_network

    return parse_network(text)


def _later(name: str) -> "Callable[[str], dict[str, Any]]":
    """A check of `device_limits`, which is imported when such a flag is given."""

    def check(text: str) -> "dict[str, Any]":
        from wherry.cli import device_limits

        found: dict[str, Any] = getattr(device_limits, name)(text)
        return found

    return check


_CGROUPNS = (
    "Cgroup namespace to use (host|private)\n"
    "'host':    Run the container in the Docker host's cgroup namespace\n"
    "'private': Run the container in its own private cgroup namespace\n"
    "'':        Use the cgroup namespace as configured by the\n"
    "           default-cgroupns-mode option on the daemon (default)"
)

CREATE_FLAGS = (
    Flag("add-host", "", "list", "Add a custom host-to-IP mapping (host:ip)", check=_extra_host),
    Flag(
        "annotation",
        "",
        "map",
        "Add an annotation to the container (passed through to the OCI runtime) (default map[])",
    ),
    Flag("attach", "a", "list", "Attach to STDIN, STDOUT or STDERR", check=_attach),
    Flag(
        "blkio-weight",
        "",
        "uint16",
        "Block IO (relative weight), between 10 and 1000, or 0 to disable (default 0)",
    ),
    Flag(
        "blkio-weight-device",
        "",
        "list",
        "Block IO weight (relative device weight) (default [])",
        check=_later("weight_of"),
    ),
    Flag("cap-add", "", "list", "Add Linux capabilities"),
    Flag("cap-drop", "", "list", "Drop Linux capabilities"),
    Flag("cgroup-parent", "", "string", "Optional parent cgroup for the container"),
    Flag("cgroupns", "", "string", _CGROUPNS),
    Flag("cidfile", "", "string", "Write the container ID to the file"),
    Flag("cpu-period", "", "int", "Limit CPU CFS (Completely Fair Scheduler) period"),
    Flag("cpu-quota", "", "int", "Limit CPU CFS (Completely Fair Scheduler) quota"),
    Flag("cpu-rt-period", "", "int", "Limit CPU real-time period in microseconds"),
    Flag("cpu-rt-runtime", "", "int", "Limit CPU real-time runtime in microseconds"),
    Flag("cpu-shares", "c", "int", "CPU shares (relative weight)"),
    Flag("cpus", "", "decimal", "Number of CPUs", check=_cpus),
    Flag("cpuset-cpus", "", "string", "CPUs in which to allow execution (0-3, 0,1)"),
    Flag("cpuset-mems", "", "string", "MEMs in which to allow execution (0-3, 0,1)"),
    Flag("device", "", "list", "Add a host device to the container"),
    Flag("device-cgroup-rule", "", "list", "Add a rule to the cgroup allowed devices list", check=_device_rule),
    Flag(
        "device-read-bps",
        "",
        "list",
        "Limit read rate (bytes per second) from a device (default [])",
        check=_later("bytes_of"),
    ),
    Flag(
        "device-read-iops",
        "",
        "list",
        "Limit read rate (IO per second) from a device (default [])",
        check=_later("operations_of"),
    ),
    Flag(
        "device-write-bps",
        "",
        "list",
        "Limit write rate (bytes per second) to a device (default [])",
        check=_later("bytes_of"),
    ),
    Flag(
        "device-write-iops",
        "",
        "list",
        "Limit write rate (IO per second) to a device (default [])",
        check=_later("operations_of"),
    ),
    Flag("dns", "", "list", "Set custom DNS servers", check=_address),
    Flag("dns-opt", "", "list", "Set DNS options", hidden=True),
    Flag("dns-option", "", "list", "Set DNS options"),
    Flag("dns-search", "", "list", "Set custom DNS search domains", check=_search),
    Flag("domainname", "", "string", "Container NIS domain name"),
    Flag("entrypoint", "", "string", "Overwrite the default ENTRYPOINT of the image"),
    Flag("env", "e", "list", "Set environment variables", check=environment),
    Flag("env-file", "", "list", "Read in a file of environment variables"),
    Flag("expose", "", "list", "Expose a port or a range of ports"),
    Flag(
        "gpus",
        "",
        "gpu-request",
        "GPU devices to add to the container ('all' to pass all GPUs)",
        check=_later("gpus_of"),
    ),
    Flag("group-add", "", "list", "Add additional groups to join"),
    Flag("health-cmd", "", "string", "Command to run to check health"),
    Flag(
        "health-interval",
        "",
        "duration",
        "Time between running the check (ms|s|m|h) (default 0s)",
        check=durations.parse,
    ),
    Flag("health-retries", "", "int", "Consecutive failures needed to report unhealthy"),
    Flag(
        "health-start-interval",
        "",
        "duration",
        "Time between running the check during the start period (ms|s|m|h) (default 0s)",
        check=durations.parse,
    ),
    Flag(
        "health-start-period",
        "",
        "duration",
        "Start period for the container to initialize before starting health-retries countdown (ms|s|m|h) (default 0s)",
        check=durations.parse,
    ),
    Flag(
        "health-timeout",
        "",
        "duration",
        "Maximum time to allow one check to run (ms|s|m|h) (default 0s)",
        check=durations.parse,
    ),
    Flag("help", "", "bool", "Print usage"),
    Flag("hostname", "h", "string", "Container host name"),
    Flag("init", "", "bool", "Run an init inside the container that forwards signals and reaps processes"),
    Flag("interactive", "i", "bool", "Keep STDIN open even if not attached"),
    Flag("ip", "", "string", "IPv4 address (e.g., 172.30.100.104)"),
    Flag("ip6", "", "string", "IPv6 address (e.g., 2001:db8::33)"),
    Flag("ipc", "", "string", "IPC mode to use"),
    Flag("isolation", "", "string", "Container isolation technology"),
    Flag("label", "l", "list", "Set meta data on a container", check=_label),
    Flag("label-file", "", "list", "Read in a line delimited file of labels"),
    Flag("link", "", "list", "Add link to another container", check=_link),
    Flag("link-local-ip", "", "list", "Container IPv4/IPv6 link-local addresses"),
    Flag("log-driver", "", "string", "Logging driver for the container"),
    Flag("log-opt", "", "list", "Log driver options"),
    Flag("mac-address", "", "string", "Container MAC address (e.g., 92:d0:c6:0a:29:33)"),
    Flag("memory", "m", "bytes", "Memory limit", check=size_of),
    Flag("memory-reservation", "", "bytes", "Memory soft limit", check=size_of),
    Flag(
        "memory-swap",
        "",
        "bytes",
        "Swap limit equal to memory plus swap: '-1' to enable unlimited swap",
        check=_swap,
    ),
    Flag("memory-swappiness", "", "int", "Tune container memory swappiness (0 to 100) (default -1)", -1),
    Flag("mount", "", "mount", "Attach a filesystem mount to the container", check=_mount),
    Flag("name", "", "string", "Assign a name to the container"),
    Flag("net", "", "network", "Connect a container to a network", check=_network, hidden=True),
    Flag("net-alias", "", "list", "Add network-scoped alias for the container", hidden=True),
    Flag("network", "", "network", "Connect a container to a network", check=_network),
    Flag("network-alias", "", "list", "Add network-scoped alias for the container"),
    Flag("no-healthcheck", "", "bool", "Disable any container-specified HEALTHCHECK"),
    Flag("oom-kill-disable", "", "bool", "Disable OOM Killer"),
    Flag("oom-score-adj", "", "int", "Tune host's OOM preferences (-1000 to 1000)"),
    Flag("pid", "", "string", "PID namespace to use"),
    Flag("pids-limit", "", "int", "Tune container pids limit (set -1 for unlimited)"),
    Flag("platform", "", "string", "Set platform if server is multi-platform capable"),
    Flag("privileged", "", "bool", "Give extended privileges to this container"),
    Flag("publish", "p", "list", "Publish a container's port(s) to the host"),
    Flag("publish-all", "P", "bool", "Publish all exposed ports to random ports"),
    Flag("quiet", "q", "bool", "Suppress the pull output"),
    Flag("read-only", "", "bool", "Mount the container's root filesystem as read only"),
    Flag("restart", "", "string", 'Restart policy to apply when a container exits (default "no")', "no"),
    Flag(
        "rm",
        "",
        "bool",
        "Automatically remove the container and its associated anonymous volumes when it exits",
    ),
    Flag("runtime", "", "string", "Runtime to use for this container"),
    Flag("security-opt", "", "list", "Security Options"),
    Flag("shm-size", "", "bytes", "Size of /dev/shm", check=size_of),
    Flag("stop-signal", "", "string", "Signal to stop the container"),
    Flag("stop-timeout", "", "int", "Timeout (in seconds) to stop a container"),
    Flag("storage-opt", "", "list", "Storage driver options for the container"),
    Flag("sysctl", "", "map", "Sysctl options (default map[])", check=_sysctl),
    Flag("tmpfs", "", "list", "Mount a tmpfs directory"),
    Flag("tty", "t", "bool", "Allocate a pseudo-TTY"),
    Flag("ulimit", "", "ulimit", "Ulimit options (default [])", check=ulimit_of),
    Flag("user", "u", "string", "Username or UID (format: <name|uid>[:<group|gid>])"),
    Flag("userns", "", "string", "User namespace to use"),
    Flag("uts", "", "string", "UTS namespace to use"),
    Flag("volume", "v", "list", "Bind mount a volume"),
    Flag("volume-driver", "", "string", "Optional volume driver for the container"),
    Flag("volumes-from", "", "list", "Mount volumes from the specified container(s)"),
    Flag("workdir", "w", "string", "Working directory inside the container"),
)
_PULL = 'Pull image before {} ("always", "missing", "never") (default "missing")'
CREATE_ONLY = (Flag("pull", "", "string", _PULL.format("creating"), "missing"),)
RUN_ONLY = (
    Flag("detach", "d", "bool", "Run container in background and print container ID"),
    DETACH_KEYS,
    Flag("pull", "", "string", _PULL.format("running"), "missing"),
    Flag("sig-proxy", "", "bool", "Proxy received signals to the process (default true)", True),
    *WAIT_FLAGS,
)
