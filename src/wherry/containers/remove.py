"""Remove: from the registry, into the trash by one rename, and gone."""

import asyncio
import os
from typing import Any

from wherry.containers import data, restart, settle
from wherry.containers.clock import parse_rfc3339, parse_time
from wherry.containers.context import Context
from wherry.containers.inspect import sizes
from wherry.containers.model import Container
from wherry.containers.states import move
from wherry.errors import Conflict, WherryError
from wherry.store.atomic import fsync_dir


async def remove(context: Context, container: Container, *, force: bool = False, volumes: bool = False) -> None:
    """Remove a container that does not run; with `force`, kill it first; with `volumes`, those that nobody named too.

    Raises:
        Conflict: it runs, or is being removed already, in dockerd's words.
    """
    if container.status == "removing":
        raise Conflict(f"removal of container {container.record.name} is already in progress")
    if container.status in ("running", "paused", "restarting"):
        if not force:
            raise Conflict(_refusal(container))
        await restart.want(context, container, "stopped")
        if not await restart.cancel(container) and container.running:
            context.event(container, "kill", signal="9")
            await settle.kill_and_wait(container)
    if container.record.host_config.auto_remove and container.status == "exited" and not container.kept:
        # the exit has already begun the removal
        removed: asyncio.Future[dict[str, object]] = asyncio.get_running_loop().create_future()
        container.removal_waiters.append(removed)
        await removed
        return
    async with container.lock:
        await container.settled.wait()
        if container.status == "removing":
            # its own end (`--rm`, or a start that failed) was quicker
            return
        await remove_exited(context, container, volumes=volumes)


def _refusal(container: Container) -> str:
    state = f'cannot remove container "/{container.name}": container is {container.status}'
    if container.status == "paused":
        return f"{state} and must be unpaused first"
    return f"{state}: stop the container before removing or force remove"


async def remove_exited(context: Context, container: Container, *, volumes: bool = False) -> None:
    """Take a container that does not run off the disk and out of the registry, and answer who waits for that.

    Its anonymous volumes go first (with `--rm` always): killed in between, a removal that is asked again ends the same.
    """
    move(container, "removing")
    try:
        if volumes or container.record.host_config.auto_remove:
            await data.remove_anonymous(context, container)
        await asyncio.get_running_loop().run_in_executor(None, _discard, context, container)
    except OSError as error:
        move(container, "dead")
        container.error = str(error)
        raise WherryError(f"container {container.id}: driver failed to remove root filesystem: {error}") from error
    for client in container.pending:
        os.close(client.fd)
    container.pending = []
    for exec_id in container.execs:
        context.execs.pop(exec_id, None)
    context.registry.discard(container)
    context.event(container, "destroy")
    settle.resolve_waiters(container)
    waiters, container.removal_waiters = container.removal_waiters, []
    for waiter in waiters:
        if not waiter.done():
            waiter.set_result(settle.status(container))


def _discard(context: Context, container: Container) -> None:
    context.trash(context.roots.container(container.id))
    fsync_dir(context.roots.containers)


async def prune(context: Context, filters: dict[str, list[str]]) -> dict[str, Any]:
    """Remove every container that does not run.

    Args:
        filters: `until` (created before that time), `label`, `label!` (`key` or `key=value`).

    Returns:
        Docker's JSON: `ContainersDeleted` and `SpaceReclaimed` (bytes).
    """
    removed, freed = [], 0
    for container in context.registry:
        if container.status in ("created", "exited", "dead") and _prunable(container, filters):
            size = sizes(context, container)[0]
            try:
                await remove(context, container, volumes=False)
            except WherryError:
                continue
            removed.append(container.id)
            freed += size
    context.publish("container", "prune", "", {"reclaimed": str(freed)})
    return {"ContainersDeleted": removed or None, "SpaceReclaimed": freed}


def _prunable(container: Container, filters: dict[str, list[str]]) -> bool:
    labels = container.record.config.labels or {}

    def has(value: str) -> bool:
        key, equals, wanted = value.partition("=")
        return key in labels and (not equals or labels[key] == wanted)

    before = [parse_time(value) for value in filters.get("until", [])]
    created = parse_rfc3339(container.record.created)
    return (
        all(has(value) for value in filters.get("label", []))
        and not any(has(value) for value in filters.get("label!", []))
        and all(limit is None or created < limit for limit in before)
    )
