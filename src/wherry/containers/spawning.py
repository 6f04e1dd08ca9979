"""A monitor for a launch, however often the spawner is killed before there is one."""

import logging
from collections.abc import Mapping
from typing import Any

from wherry.containers import strays
from wherry.containers.context import Context
from wherry.errors import NotBegun, Unavailable
from wherry.sandbox.ports import EventHandler, LostHandler, Monitor

_TRIES = 3

log = logging.getLogger("wherry.spawning")


async def spawn(
    context: Context,
    message: dict[str, Any],
    fds: Mapping[str, int],
    on_event: EventHandler,
    on_lost: LostHandler,
    parent: str | None = None,
) -> Monitor:
    """Fork a monitor and hand it a launch; as `ports.SpawnMonitor`.

    Args:
        message, fds, on_event, on_lost: as of `context.spawn`.
        parent: as of `groups.cgroup_path`.

    Raises:
        Unavailable: the spawner was killed, perhaps after it had forked the monitor; nothing of the launch is left.
    """
    for tries in range(1, _TRIES + 1):
        try:
            return await context.spawn(message, fds, on_event, on_lost)
        except Unavailable as error:
            # a monitor that nobody is connected to would start the container
            found = await strays.end(context, message["id"], parent)
            if found or not isinstance(error, NotBegun) or tries == _TRIES:
                raise
            log.warning("container %s: %s; it is tried again", message["id"][:12], error)
    raise AssertionError("unreachable")
