"""Which namespaces a container shares: with the host, with another container, or with nobody."""

import os

from wherry.containers.context import Context
from wherry.containers.model import Container
from wherry.errors import Conflict, InvalidArgument

_KINDS = {"network": "net", "pid": "pid", "ipc": "ipc", "uts": "uts"}


def resolve(context: Context, container: Container) -> tuple[dict[str, int], dict[str, str]]:
    """Open the namespaces of other containers that this one joins.

    The network's is left to the network (`SandboxNetwork.fds`), which holds it by the monitor that keeps it.

    Returns:
        Descriptors by type (the caller closes them), and `new`, `host` or `join` for each type.

    Raises:
        ContainerNotFound, Conflict: the other container is not there or does not run.
        InvalidArgument: the mode is not known.
    """
    host = container.record.host_config
    joined: dict[str, int] = {}
    modes: dict[str, str] = {}
    try:
        for kind, mode in (("pid", host.pid_mode), ("ipc", host.ipc_mode), ("uts", host.uts_mode)):
            modes[kind] = _mode(kind, mode)
            if modes[kind] == "join":
                joined[kind] = open_of(context, mode.removeprefix("container:"), kind)
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


def open_of(context: Context, reference: str, kind: str) -> int:
    """Open a namespace of a running container's process 1 (`/proc/<pid>/ns/<kind>`)."""
    other = context.registry.find(reference)
    if not other.running:
        raise Conflict(f"cannot join {kind} of a non running container: {other.id}")
    return os.open(f"/proc/{other.pid}/ns/{_KINDS[kind]}", os.O_RDONLY | os.O_CLOEXEC)
