"""Restart policies: the engine alone decides, from what is wanted and what the exit says. Back-off as dockerd's."""

import asyncio
import logging
import time

from wherry.containers import records
from wherry.containers.context import Context
from wherry.containers.model import Container
from wherry.containers.settle import resolve_waiters
from wherry.containers.states import move
from wherry.linux.background import background

log = logging.getLogger("wherry.restart")

FIRST_DELAY = 0.1
LONGEST_DELAY = 60.0
START_SECONDS = 600.0
"""Deadline of a start that a policy makes, the back-off not counted; adoption of all others may come first."""
COUNTED = ("on-failure", "on-unhealthy")
"""Policies that restart what failed, with a limit."""
STEADY = 10.0
"""Seconds of running after which the back-off starts anew."""


def wanted(context: Context, container: Container) -> bool:
    """Whether the policy starts this container again after the exit it just recorded."""
    policy = container.record.host_config.restart_policy
    if context.closing or container.stopping or container.record.wanted != "running":
        return False
    if policy.name in ("always", "unless-stopped"):
        return True
    failed = container.exit.code != 0 or container.ailing
    return policy.name in COUNTED and failed and has_tries_left(container)


def has_tries_left(container: Container) -> bool:
    """Whether a policy with a limit may start the container once more."""
    limit = container.record.host_config.restart_policy.maximum_retry_count
    return not limit or container.record.restart_count < limit


def starts_with_engine(container: Container) -> bool:
    """Whether an engine that has just begun starts a container which it did not find running.

    As dockerd's: `always` does not care who stopped it, but a container that never ran is left alone.
    """
    record, policy = container.record, container.record.host_config.restart_policy
    if container.status not in ("exited", "created") or policy.name in ("", "no"):
        return False
    if policy.name == "always":
        return record.started_once or record.wanted == "running"
    if record.wanted != "running":
        return False
    return policy.name == "unless-stopped" or (container.exit.code != 0 and has_tries_left(container))


def schedule(context: Context, container: Container, *, failed: bool = False) -> None:
    """Start `container` again after its back-off, unless somebody stopped it meanwhile.

    Args:
        failed: it could not be started: it has not run at all.
    """
    if container.status != "restarting" or context.closing:
        return
    ran = 0.0 if failed else (container.exit.finished_at - container.exit.started_at) / 1e9
    container.restart_delay = (
        FIRST_DELAY if ran >= STEADY else min(container.restart_delay * 2 or FIRST_DELAY, LONGEST_DELAY)
    )
    container.record.restart_count += 1
    # the back-off began with the end, which an engine that was killed meanwhile learns late
    passed = 0.0 if failed else (time.time_ns() - container.exit.finished_at) / 1e9
    delay = container.restart_delay - min(max(passed, 0.0), container.restart_delay)
    work = _later(context, container, delay)
    container.restart_task = background().start(f"restart {container.id[:12]}", work, delay + START_SECONDS)


async def _later(context: Context, container: Container, delay: float) -> None:
    await asyncio.sleep(delay)
    await context.adopted.wait()
    if container.status != "restarting" or context.closing:
        return
    try:
        await context.start_again(container)
    except Exception as error:  # noqa: BLE001 - nobody else hears of it
        log.warning("container %s: restart policy: %s", container.id[:12], error)
        # a start that fails counts as an exit: the policy decides on the recorded code
        if container.status != "restarting":
            return
        if wanted(context, container):
            schedule(context, container, failed=True)
        else:
            move(container, "exited")
            resolve_waiters(container)


async def cancel(container: Container) -> bool:
    """Stop waiting for the next start; True if there was one. A start that is under way is waited for, not broken."""
    while container.status == "restarting":
        if container.lock.locked():
            async with container.lock:
                continue
        task, container.restart_task = container.restart_task, None
        if task is not None:
            task.cancel()
        move(container, "exited")
        return True
    return False


def leave_to_next(context: Context) -> None:
    """End the waits for a next start, because the engine closes: the next engine starts what its policies want.

    A start that is under way goes on.
    """
    for container in context.registry:
        if container.status == "restarting" and container.restart_task and not container.lock.locked():
            container.restart_task.cancel()


async def give_up(container: Container) -> None:
    """Answer those that waited for an end that is now the last."""
    resolve_waiters(container)


async def want(context: Context, container: Container, wish: str) -> None:
    """Write down what the user wants, before any signal is sent; only a restart policy ever reads it."""
    record = container.record
    if record.wanted == wish or record.host_config.restart_policy.name in ("", "no"):
        return
    record.wanted = wish
    await asyncio.get_running_loop().run_in_executor(None, records.save, context.roots, record)
