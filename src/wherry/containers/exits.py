"""What happens when process 1 ends: record it, answer who waits, give everything back, restart or remove as wanted."""

import asyncio
import logging
from typing import Any

from wherry.containers import clock, groups, health, records, remove, restart
from wherry.containers.context import Context
from wherry.containers.model import Container, ExitRecord
from wherry.containers.settle import resolve_waiters, settle
from wherry.containers.states import move
from wherry.errors import CommandNotExecutable, CommandNotFound, MonitorLost, WherryError, to_wire
from wherry.linux.background import background
from wherry.linux.process import is_alive
from wherry.runtime.cgroups import open_cgroup
from wherry.sandbox.ports import Monitor

log = logging.getLogger("wherry.exits")

END_SECONDS = 120.0
"""Deadline of what follows an end: each of its steps has a shorter one of its own."""

KILLED = 128 + 9
POWER_LOST = "this container ended with the machine, its exit code is not known"
LOST = "the monitor of this container was killed, its exit code is not known"


def start_failure_code(error: BaseException) -> int:
    """The exit code that a failed start leaves: 127, 126, or 128 as dockerd does."""
    if isinstance(error, CommandNotFound):
        return 127
    return 126 if isinstance(error, CommandNotExecutable) else 128


def on_event(context: Context, container: Container, event: dict[str, Any]) -> None:
    """Take an event of a running container's monitor."""
    kind = event.get("event")
    if kind == "exited":
        exited(
            context,
            container,
            ExitRecord(
                code=event["code"],
                signal=event.get("signal"),
                oom=bool(event.get("oom")),
                started_at=container.started_at,
                finished_at=event["finished_at"],
                pid=container.pid,
                restart_count=container.record.restart_count,
            ),
        )
    elif kind == "exec-exited":
        process = container.execs.get(event["exec_id"])
        if process is not None and process.running:
            process.running = False
            process.exit_code = event["code"]
            context.event(container, "exec_die", execID=process.id, exitCode=str(event["code"]))
    elif kind == "health":
        health.on_result(context, container, event)
        check_ailing(context, container)
    elif kind == "detached":
        context.event(container, "detach")


def check_ailing(context: Context, container: Container) -> None:
    """Replace a container that is unhealthy, if its policy asks for that."""
    record = container.record
    if (
        record.host_config.restart_policy.name == health.POLICY
        and health.status(container) == "unhealthy"
        and container.status == "running"
        and not (container.ailing or container.stopping or context.closing)
        and record.wanted == "running"
        and restart.has_tries_left(container)
    ):
        container.ailing = True
        # `stop` stands over `start`, and `start` over this module
        from wherry.containers.stop import end_unhealthy

        seconds = container.record.config.stop_timeout or 0
        work = end_unhealthy(context, container)
        background().start(f"end of unhealthy {container.id[:12]}", work, END_SECONDS + max(seconds, 0))


def on_lost(context: Context, container: Container) -> None:
    """The monitor died and nobody told it to: end what it left, and say what is known. Never invent a code."""
    if not container.running:
        container.settled.set()
        return
    work = _lost(context, container, container.monitor)
    background().start(f"record the lost end of {container.id[:12]}", work, END_SECONDS)


async def _lost(context: Context, container: Container, monitor: Monitor | None) -> None:
    loop = asyncio.get_running_loop()
    record = await loop.run_in_executor(None, records.load_exit, context.roots, container.id)
    if record is None or record.finished_at < container.started_at:
        count = container.record.restart_count
        record = await loop.run_in_executor(
            None,
            lambda: lost_record(context, container.id, container.pid, container.started_at, count=count),
        )
    if container.running and container.monitor is monitor:
        exited(context, container, record)


def lost_record(
    context: Context,
    id_: str,
    pid: int,
    started_at: int,
    start_time: int | None = None,
    why: str = LOST,
    *,
    count: int = 0,
) -> ExitRecord:
    """End the cgroup of a container whose monitor was killed: 137 if that killed process 1, else lost (255).

    Args:
        count: the run's count of restarts.
    """
    group = open_cgroup(groups.cgroup_path(context, id_))
    if group.exists():
        try:
            # what is frozen does not end by itself between this look and the signal
            group.freeze(True)
        except WherryError as error:
            log.warning("container %s: %s", id_[:12], error)
    alive = pid > 0 and pid in group.pids() and is_alive(pid, start_time)
    end_group(context, id_)
    record = ExitRecord(
        code=137 if alive else 255,
        signal=9 if alive else None,
        started_at=started_at,
        finished_at=clock.now(),
        pid=pid,
        error=None if alive else to_wire(MonitorLost(why)),
        restart_count=count,
    )
    records.save_exit(context.roots, id_, record)
    return record


def end_group(context: Context, id_: str) -> None:
    """Kill every process of a container and remove its cgroup; blocking. Raises KernelError when they do not die."""
    group = open_cgroup(groups.cgroup_path(context, id_))
    if group.exists():
        group.kill()
        group.remove()


def exited(context: Context, container: Container, record: ExitRecord, *, unseen: bool = False) -> None:
    """Process 1 is gone: take its record, tell who waits, and settle the rest in the background.

    Args:
        unseen: it happened while no engine was there.
    """
    container.exit = record
    container.error = record.message
    container.pid = 0
    again = restart.wanted(context, container)
    move(container, "restarting" if again else "exited")
    health.ended(container)
    for process in container.execs.values():
        if process.running and process.exit_code is None:
            # its monitor was killed, and could not say: it was killed with process 1
            process.exit_code = KILLED
            context.event(container, "exec_die", execID=process.id, exitCode=str(KILLED))
        process.running = False
    tell(context, container, record, unseen=unseen)
    # also when its policy starts it again: who waits, waits for this exit
    resolve_waiters(container)
    monitor, container.monitor = container.monitor, None
    removed = container.record.host_config.auto_remove and not container.kept
    work = _after_exit(context, container, monitor, again, removed)
    background().start(f"settle {container.id[:12]}", work, END_SECONDS)


def tell(context: Context, container: Container, record: ExitRecord, *, unseen: bool = False) -> None:
    """Say that a container has ended, and why; what an engine did not see is told with its own time."""
    happened = record.finished_at if unseen else None
    if record.oom:
        context.event(container, "oom", happened)
    ran = max(0, record.finished_at - (record.started_at or container.started_at)) // 1_000_000_000
    context.event(container, "die", happened, execDuration=str(ran), exitCode=str(record.code))


async def _after_exit(
    context: Context, container: Container, monitor: Monitor | None, again: bool, removed: bool
) -> None:
    if again:
        await settle(context, container, monitor)
        restart.schedule(context, container)
    elif removed and not _is_missed(container):
        # whoever waits for the removal waits for the container's directory, not for the kernel's clean-up
        settling = asyncio.ensure_future(settle(context, container, monitor))
        await remove.remove_exited(context, container)
        await settling
    else:
        await settle(context, container, monitor)
        if removed:
            await remove.remove_exited(context, container)


def _is_missed(container: Container) -> bool:
    """Whoever saw the container removed may at once publish its port, ask for its address or remove its network."""
    if container.network is None:
        return False
    held = container.network.to_json()
    return bool(held.get("ports")) or any(not endpoint["default_bridge"] for endpoint in held.get("endpoints", ()))
