"""Which namespaces a container shares: with the host, with another container, or with nobody."""

import os

from wherry.containers.context import Context
from wherry.containers.groups import cgroup_path
from wherry.containers.model import Container
from wherry.errors import Conflict, InvalidArgument

_FILES = {"pid": "pid", "ipc": "ipc", "uts": "uts", "shm": "mnt", "mount": "mnt", "user": "user"}
_WORDS = {"pid": "PID", "ipc": "IPC", "uts": "UTS"}


def resolve(context: Context, container: Container) -> tuple[dict[str, int], dict[str, str]]:
    """Open the namespaces of other containers that this one joins.

    The network's is left to the network (`SandboxNetwork.fds`), which holds it by the monitor that keeps it. With a
    joined `ipc` comes `shm`: the mount namespace in which that container's /dev/shm is.

    Returns:
        Descriptors by type (the caller closes them), and `new`, `host` or `join` for each type.

    Raises:
        ContainerNotFound, Conflict: the other container is not there, does not run, or does not share.
        InvalidArgument: the mode is not known.
    """
    host = container.record.host_config
    joined: dict[str, int] = {}
    modes: dict[str, str] = {}
    try:
        for kind, mode in (("pid", host.pid_mode), ("ipc", host.ipc_mode), ("uts", host.uts_mode)):
            modes[kind] = _mode(kind, mode)
            if modes[kind] == "join":
                modes[kind] = _join(context, mode.removeprefix("container:"), kind, joined)
        if host.network_mode in ("host", "none"):
            modes["network"] = "host" if host.network_mode == "host" else "new"
        else:
            modes["network"] = "join" if host.network_mode.startswith("container:") else "new"
    except BaseException:
        for fd in joined.values():
            os.close(fd)
        raise
    return joined, modes


def take_hostname(context: Context, container: Container) -> None:
    """Give a container that joins another's network that one's host name, as dockerd does."""
    mode = container.record.host_config.network_mode
    if mode.startswith("container:"):
        other = context.registry.find(mode.removeprefix("container:"))
        container.record.config.hostname = other.record.config.hostname


def _mode(kind: str, mode: str) -> str:
    if mode == "host":
        return "host"
    if mode.startswith("container:"):
        return "join"
    if mode in ("", "private") or (kind == "ipc" and mode in ("shareable", "none")):
        return "new"
    raise InvalidArgument(f"invalid {kind.upper()} mode: {mode}")


def _join(context: Context, reference: str, kind: str, joined: dict[str, int]) -> str:
    """Open what a namespace of another container needs. Returns the mode: of one that has the host's, `host`."""
    other = context.registry.find(reference)
    failure = f"failed to join {_WORDS[kind]} namespace: container {other.id}"
    if not other.running:
        raise Conflict(f"{failure} is not running")
    theirs = other.record.host_config
    if kind == "ipc":
        if theirs.ipc_mode == "host":
            return "host"
        if theirs.ipc_mode != "shareable" and not theirs.ipc_mode.startswith("container:"):
            raise Conflict(f"{failure}: non-shareable IPC (hint: use IpcMode:shareable for the donor container)")
    for name in (kind, "shm") if kind == "ipc" else (kind,):
        try:
            joined[name] = _open(context, other, name)
        except OSError:
            raise Conflict(f"{failure} is not running") from None
    return "join"


def open_kind(context: Context, container: Container, kind: str) -> int:
    """Open the `mount` (what its processes see) or `user` namespace of a running container.

    Raises:
        OSError: it has ended.
    """
    return _open(context, container, kind)


def _open(context: Context, other: Container, kind: str) -> int:
    """Open a namespace of a running container's process 1.

    Raises OSError when that is gone, and its number perhaps another's already: what has the number is the container's
    exactly if it is in its cgroup, and the directory's descriptor stays with that process.
    """
    directory = os.open(f"/proc/{other.pid}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with open(
            "cgroup", encoding="utf-8", opener=lambda name, flags: os.open(name, flags, dir_fd=directory)
        ) as file:
            places = file.read()
        if cgroup_path(context, other.id) not in places:
            raise ProcessLookupError(f"{other.pid} is no process of container {other.id}")
        return os.open(f"ns/{_FILES[kind]}", os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)
    finally:
        os.close(directory)
