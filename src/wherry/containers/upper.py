"""The one guard that private mounts take away: the same upper directory mounted twice is silent corruption."""

import asyncio
import os

from wherry.errors import Conflict

PATIENCE = 5.0


async def free_soon(path: str) -> None:
    """Wait a little for a worker of ours that has just ended; then as `ensure_free`."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + PATIENCE
    while True:
        try:
            ensure_free(path)
            return
        except Conflict:
            if loop.time() > deadline:
                raise
        await asyncio.sleep(0.01)


def ensure_free(path: str) -> None:
    """Refuse when some process's mount namespace still holds an overlay over `path`.

    The container's own processes are gone when this is called (its cgroup is empty); what is found is foreign: a
    shell that somebody took into the mount namespace from the host.

    Raises:
        Conflict: names the process.
    """
    seen = {_namespace("self")}
    needle = f"upperdir={path}"
    for entry in os.listdir("/proc"):
        if not entry.isdecimal():
            continue
        namespace = _namespace(entry)
        if not namespace or namespace in seen:
            continue
        seen.add(namespace)
        if _holds(entry, needle):
            raise Conflict(
                f"the container's root is still mounted in a namespace that process {entry} holds: end it first",
                pid=int(entry),
            )


def _namespace(pid: str) -> str:
    try:
        return os.readlink(f"/proc/{pid}/ns/mnt")
    except OSError:
        return ""


def _holds(pid: str, needle: str) -> bool:
    try:
        with open(f"/proc/{pid}/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            return any(needle in word for line in file for word in line.rsplit(" ", 1)[-1].split(","))
    except OSError:
        return False
