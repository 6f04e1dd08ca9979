"""Processes of ours that nobody is connected to: forked while the engine, the spawner or a monitor died.

They are found in the cgroup of monitors by the title that each has, which names its container (`monitor.child`).
Between its fork and its title a process still bears the spawner's, or is a spare.
"""

import asyncio
import os
import signal
from collections.abc import Callable
from typing import Any

from wherry.containers.context import Context
from wherry.containers.groups import cgroup_path
from wherry.errors import Unavailable
from wherry.runtime.cgroups import open_cgroup

PATIENCE = 5.0
_NAMELESS = frozenset({"wherry-spawner", "wherry-spare"})
_PAUSE = 0.005


async def quiet(context: Context) -> None:
    """Wait until a dead engine's spawner has ended, and what it forked bears its own name; end it if it does not.

    Raises:
        Unavailable: it does not die.
    """
    await _until_gone(lambda: _nameless(context))


async def end(context: Context, id_: str, parent: str | None = None) -> bool:
    """Kill the monitor of a container, and what helps it, and the container's processes: nobody can reach them.

    Args:
        parent: as of `groups.cgroup_path`.

    Returns:
        Whether there was anything of them; nothing has begun where there was not.

    Raises:
        Unavailable: they do not die.
    """
    loop = asyncio.get_running_loop()
    await quiet(context)
    group = open_cgroup(cgroup_path(context, id_, parent))
    deadline = loop.time() + PATIENCE
    any_found = group.exists()
    while loop.time() < deadline:
        # in turns: a helper that is killed late may have put its child into the cgroup meanwhile
        found = named(context, id_)
        any_found = any_found or bool(found)
        for pid in found:
            _kill(pid)
        if group.exists():
            await loop.run_in_executor(None, group.kill)
        if not found and not group.pids():
            return any_found
        await asyncio.sleep(_PAUSE)
    raise Unavailable(f"container {id_}: processes {named(context, id_) + group.pids()} do not die")


async def first_state(context: Context, id_: str, read: Callable[[], dict[str, Any] | None]) -> dict[str, Any] | None:
    """Wait for the first state that a monitor writes; None when there is no monitor, or it never writes one."""
    deadline = asyncio.get_running_loop().time() + PATIENCE
    while named(context, id_) and asyncio.get_running_loop().time() < deadline:
        if (state := read()) is not None:
            return state
        await asyncio.sleep(_PAUSE)
    if (state := read()) is None:
        await end(context, id_)
    return state


def named(context: Context, id_: str) -> list[int]:
    """The processes of the cgroup of monitors whose title names a container."""
    return [pid for pid, title in _titles(context) if title.partition(" ")[2] == id_]


def _nameless(context: Context) -> list[int]:
    return [pid for pid, title in _titles(context) if title in _NAMELESS and not _ours(pid)]


def _ours(pid: int) -> bool:
    """Our spawner, or a child of it: it has told us of what it forks, or will."""
    here, parent = os.getpid(), _parent(pid)
    return here in (parent, _parent(parent))


def _titles(context: Context) -> list[tuple[int, str]]:
    found = []
    for pid in open_cgroup(f"/{context.roots.scope}/monitors").pids():
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                found.append((pid, file.read(256).rstrip(b"\0").decode(errors="replace")))
        except OSError:
            continue
    return found


def _parent(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b") ")[2].split()[1])
    except (OSError, IndexError):
        return 0


async def _until_gone(find: Callable[[], list[int]]) -> None:
    deadline = asyncio.get_running_loop().time() + PATIENCE
    while found := find():
        late = asyncio.get_running_loop().time() - deadline
        if late > PATIENCE:
            raise Unavailable(f"processes {found} do not die")
        if late > 0:
            for pid in found:
                _kill(pid)
        await asyncio.sleep(_PAUSE)


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
