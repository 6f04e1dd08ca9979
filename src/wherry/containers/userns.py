"""User namespaces: whether a container gets one, and the ids that its root and its users have on the host.

`userns-remap` in daemon.json gives one to every container that does not say `--userns=host`; `--userns=remap` asks for
one. The ids are those that /etc/subuid and /etc/subgid set aside, as for dockerd. What is on the disk keeps the ids of
images and volumes: layers and volumes are mounted through id maps (`runtime.mapped_root`).
"""

from wherry.errors import InvalidArgument
from wherry.wire.containers import HostConfig

DEFAULT_USER = "dockremap"
_SMALLEST = 65536
_FIRST_FREE = 100000  # where login.defs begins


def resolve(host: HostConfig, engine_wide: str) -> list[int] | None:
    """The ids of a container that is being made.

    Args:
        host: what was asked.
        engine_wide: `userns-remap`.

    Returns:
        First host uid, first host gid, and how many of both; None: the host's own.

    Raises:
        InvalidArgument: a mode that is none, what cannot be had with a user namespace, or ids that nobody set aside.
    """
    mode = host.userns_mode
    if mode not in ("", "host", "remap"):
        raise InvalidArgument(f"invalid userns mode: {mode}")
    if mode == "host" or not (mode or engine_wide):
        return None
    if host.privileged:
        raise InvalidArgument(
            "privileged mode is incompatible with user namespaces.  You must run the container in the host namespace "
            "when running privileged mode"
        )
    for kind, value in (("network", host.network_mode), ("PID", host.pid_mode), ("IPC", host.ipc_mode)):
        if value == "host":
            raise InvalidArgument(f"cannot share the host's {kind} namespace when user namespaces are enabled")
        if value.startswith("container:"):
            raise InvalidArgument(f"cannot share another container's {kind} namespace when user namespaces are enabled")
    if host.uts_mode == "host":
        raise InvalidArgument("cannot share the host's UTS namespace when user namespaces are enabled")
    return subordinate(engine_wide or "default")


def subordinate(text: str) -> list[int]:
    """Read `default`, `user` or `user:group`, as `userns-remap` has it. Returns and raises as `resolve`."""
    user, _, group = (DEFAULT_USER if text == "default" else text).partition(":")
    uid, count = _range("/etc/subuid", user, "subuid")
    gid, groups = _range("/etc/subgid", group or user, "subgid")
    return [uid, gid, min(count, groups)]


def _range(path: str, name: str, what: str) -> tuple[int, int]:
    free = _FIRST_FREE
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            for line in file:
                parts = line.strip().split(":")
                if len(parts) != 3 or not parts[1].isdigit() or not parts[2].isdigit():
                    continue
                first, count = int(parts[1]), int(parts[2])
                free = max(free, first + count)
                if parts[0] == name:
                    if first == 0 or count < _SMALLEST:
                        raise InvalidArgument(
                            f"{path}: the ids of {name} are too few, or root's: at least {_SMALLEST} are needed"
                        )
                    return first, count
    except FileNotFoundError:
        pass  # the same as a file that does not name the user
    raise InvalidArgument(
        f'Can\'t create ID mappings: No {what} ranges found for user "{name}" in {path}: '
        f"add a line such as {name}:{free}:{_SMALLEST}"
    )


def lines(ids: list[int] | None) -> tuple[str, str]:
    """Lines of `uid_map` and `gid_map`; empty ones where there is no user namespace."""
    if ids is None:
        return "", ""
    uid, gid, count = ids
    return f"0 {uid} {count}\n", f"0 {gid} {count}\n"
