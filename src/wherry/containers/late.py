"""What dockerd finds wrong with a container only when it starts, in its words: checked before anything is allotted."""

from wherry.containers import logs
from wherry.errors import InvalidArgument, NotSupported
from wherry.wire.containers import Config, HostConfig

RUNTIME = "failed to create task for container: failed to create shim task: OCI runtime create failed: "
_HIGHEST_ID = (1 << 31) - 1
# the kernel's shortest quota is 1 ms of 100
_SHORTEST = 10_000_000
_LIMITS = frozenset(
    "AS CORE CPU DATA FSIZE LOCKS MEMLOCK MSGQUEUE NICE NOFILE NPROC RSS RTPRIO RTTIME SIGPENDING STACK".split()
)
_IPC_SYSCTLS = frozenset(
    f"kernel.{name}" for name in ("msgmax", "msgmnb", "msgmni", "sem", "shmall", "shmmax", "shmmni", "shm_rmid_forced")
)


def check(config: Config, host: HostConfig) -> None:
    """Check what create has let through.

    Raises:
        InvalidArgument, NotSupported: in dockerd's words.
    """
    for text in (config.user, *(host.group_add or [])):
        ids(text)
    if host.cpu_shares < 0:
        raise InvalidArgument("shares: invalid argument")
    if 0 < host.nano_cpus < _SHORTEST:
        raise InvalidArgument(
            f"{RUNTIME}unable to start container process: error during container init: error setting cgroup config "
            f'for procHooks process: failed to write "{host.nano_cpus // 10_000}": invalid argument: unknown'
        )
    for request in host.device_requests or []:
        driver, wanted = request.get("Driver") or "", request.get("Capabilities") or []
        sets = " ".join("[" + " ".join(str(name) for name in group) + "]" for group in wanted)
        raise NotSupported(f'could not select device driver "{driver}" with capabilities: [{sets}]')
    logs.validate_values(host.log_config)
    for limit in host.ulimits or []:
        if limit.name.upper() not in _LIMITS:
            raise InvalidArgument(f"{RUNTIME}wrong rlimit value: RLIMIT_{limit.name.upper()}: unknown")
    for name in host.sysctls or {}:
        reason = _sysctl(name, host)
        if reason:
            raise InvalidArgument(f"{RUNTIME}{reason}: unknown")
    if len(config.hostname.encode()) > 64:
        raise InvalidArgument(
            f"{RUNTIME}unable to start container process: error during container init: sethostname: "
            "invalid argument: unknown"
        )


def runtime_words(message: str) -> str:
    """What a runtime says when it cannot start a process: clients read exit codes out of these words."""
    reason = ": permission denied"
    if message.endswith(f": is a directory{reason}"):
        return f"unable to start container process: {message.removesuffix(reason)}: unknown{reason}"
    return f"unable to start container process: {message}: unknown"


def ids(text: str) -> None:
    """Numbers that the kernel would wrap around to 0, or that mean "no change", are refused; names are for later.

    Raises:
        InvalidArgument: in dockerd's words.
    """
    for part in text.split(":"):
        if part.removeprefix("-").isdigit() and not 0 <= int(part) <= _HIGHEST_ID:
            raise InvalidArgument(f"uids and gids must be in range 0-{_HIGHEST_ID}")


def _sysctl(name: str, host: HostConfig) -> str:
    """Why it may not be set; empty: a namespace of the container's own holds it."""
    dotted = name.replace("/", ".")
    if dotted in _IPC_SYSCTLS or dotted.startswith("fs.mqueue."):
        return f'sysctl "{name}" is not allowed in the hosts ipc namespace' if host.ipc_mode == "host" else ""
    if dotted.startswith("net."):
        return f'sysctl "{name}" not allowed in host network namespace' if host.network_mode == "host" else ""
    if dotted == "kernel.hostname":
        return f'sysctl "{name}" is not allowed as it conflicts with the OCI "hostname" field'
    if dotted == "kernel.domainname" and host.uts_mode != "host":
        return ""
    return f'sysctl "{name}" is not in a separate kernel namespace'
