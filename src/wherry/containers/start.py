"""Start: allot the network, hand a launch to a fresh monitor, and pass on what it says."""

import asyncio
import errno
import logging
import os
from contextlib import AsyncExitStack
from typing import Any

from wherry.containers import (
    checkpoints,
    copying,
    exits,
    health,
    late,
    launch,
    mounting,
    namespaces,
    records,
    remove,
    settle,
    spawning,
    upper,
)
from wherry.containers.context import Context
from wherry.containers.model import Container
from wherry.containers.priming import Primed
from wherry.containers.states import move
from wherry.errors import (
    AlreadyInState,
    CommandNotExecutable,
    CommandNotFound,
    Conflict,
    InvalidArgument,
    KernelError,
    MonitorLost,
    WherryError,
    from_wire,
    to_wire,
)
from wherry.linux import descriptors
from wherry.linux.taken import until_taken

log = logging.getLogger("wherry.start")

START_DEADLINE = 60.0
_HEADS_WITHIN = 2.0
_OWN_DESCRIPTORS = 16
# of what the kernel refuses, what a runtime does inside of the container
_INIT = ("error mounting ", "error setting rlimits ", "open /proc/sys/", "write /proc/sys/")
_HINT = (
    ": Are you trying to mount a directory onto a file (or vice-versa)? Check if the specified host path exists and is "
    "the expected type"
)


async def start(
    context: Context,
    container: Container,
    *,
    keep_count: bool = False,
    replaces: bool = False,
    checkpoint: str = "",
    directory: str = "",
) -> None:
    """Start a container that does not run.

    Args:
        keep_count: nobody asked for this start: what is wanted, and the count of restarts, stay.
        replaces: it ran a moment ago: its descriptors are free again, and room for them is not asked for.
        checkpoint: restore it from this one.
        directory: where that is, if not with the container.

    Raises:
        AlreadyInState: it runs already.
        Conflict: it is paused or being removed.
        CommandNotFound, CommandNotExecutable, KernelError…: process 1 could not be started; the container is
            `exited` (or still `created`) with the code and the words that Docker gives, and nothing is left.
        TooManyOpenFiles: wherryd is at its limit of descriptors; nothing was made.
        NotFound, NotSupported: there is no such checkpoint, or none can be restored here (`checkpoints.source`).
    """
    async with container.lock:
        _check(container)
        source = await checkpoints.source(context, container, checkpoint, directory) if checkpoint else None
        await container.settled.wait()
        record = container.record
        container.restart_delay = 0.0
        policed = not keep_count and record.host_config.restart_policy.name not in ("", "no")
        if policed and (record.wanted != "running" or record.restart_count):
            record.wanted = "running"
            record.restart_count = 0
            await asyncio.get_running_loop().run_in_executor(None, records.save, context.roots, record)
        await _start(context, container, source, replaces=replaces)


async def start_again(context: Context, container: Container) -> None:
    """Start a container that its policy restarts; nothing that is wanted changes."""
    async with container.lock:
        await container.settled.wait()
        if container.status == "restarting":
            await _start(context, container, replaces=True)


def _check(container: Container) -> None:
    if container.status == "running":
        raise AlreadyInState(f"container {container.id} is already running")
    if container.status == "paused":
        raise Conflict("cannot start a paused container, try unpause instead")
    if container.status in ("removing", "dead"):
        raise Conflict("container is marked for removal and cannot be started")


def _descriptors(container: Container, clients: int) -> int:
    """How many descriptors a start opens at once, at most: those that it hands over are there twice for a moment."""
    record = container.record
    ports = sum(len(bindings or ()) for bindings in (record.host_config.port_bindings or {}).values())
    return _OWN_DESCRIPTORS + 2 * (clients + ports + len(record.mounts or ()))


async def _start(
    context: Context, container: Container, source: checkpoints.Source | None = None, *, replaces: bool
) -> None:
    container.error = ""
    container.stopping = container.ailing = container.network_lost = False
    joined: dict[str, int] = {}
    opened = mounting.Opened()
    # taken before anything can fail: a start that comes to nothing is the end of who waited for it
    clients, container.pending = container.pending, []
    promised = AsyncExitStack()
    try:
        if not replaces:
            need = _descriptors(container, len(clients))
            await promised.enter_async_context(descriptors.room(f"cannot start container {container.name}", need))
        await copying.settle(context, container)
        if container.record.started_once:
            records.put_exit_aside(context.roots, container.id)
            upper.ensure_free(f"{context.roots.container(container.id)}/upper")
        container.record.started_once = True
        late.check(container.record.config, container.record.host_config)
        joined, modes = namespaces.resolve(context, container)
        namespaces.take_hostname(context, container)
        network = container.network = await context.connect(container)
        # of two failures the launch's is the one to tell; those of these tasks count as seen then
        preparing = asyncio.ensure_future(network.prepare())
        preparing.add_done_callback(lambda task: task.cancelled() or task.exception())
        opened = await mounting.open_all(context, container)
        message = launch.prepare(context, container, network, modes, opened)
        if source is not None:
            message.update(checkpoints.launch_part(context, container, source))
        fds = {f"ns:{kind}": fd for kind, fd in joined.items()} | network.fds() | opened.fds
        for index, client in enumerate(clients):
            message["attach"].append({**client.request, "fd": f"attach:{index}"})
            fds[f"attach:{index}"] = client.fd
        publishing = asyncio.ensure_future(network.publish())
        publishing.add_done_callback(lambda task: task.cancelled() or task.exception())
        for client in clients:
            await until_taken(client.fd, _HEADS_WITHIN / len(clients))
        await preparing
        with Primed():
            await _spawn(context, container, message, fds)
        if container.monitor is not None:
            await network.hand_over(container.monitor)
        network.started()
        await publishing
    except BaseException as error:
        failure = worded(error)
        await undo(context, container, failure)
        if failure is error:
            raise
        raise failure from error
    finally:
        await promised.aclose()
        opened.close()
        for fd in joined.values():
            os.close(fd)
        for client in clients:
            os.close(client.fd)


def worded(error: BaseException) -> BaseException:
    """Give an error of process 1 the words that clients know; 126 and 127 are read out of them."""
    if isinstance(error, KernelError) and error.message.startswith(_INIT):
        words = f"error during container init: {error.message}"
        hint = _HINT if error.errno == errno.ENOTDIR else ""
        kind = CommandNotFound if error.errno in (errno.ENOENT, errno.ENOTDIR) else InvalidArgument
        return kind(f"{late.RUNTIME}{late.runtime_words(words)}{hint}")
    if isinstance(error, OSError) and error.errno in descriptors.EXHAUSTED:
        return descriptors.exhausted(error)
    if not isinstance(error, CommandNotFound | CommandNotExecutable):
        return error
    return type(error)(f"{late.RUNTIME}{late.runtime_words(error.message)}", **error.facts)


async def _spawn(context: Context, container: Container, message: dict[str, Any], fds: dict[str, int]) -> None:
    started: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
    container.settled.clear()

    def on_event(event: dict[str, Any]) -> None:
        kind = event.get("event")
        if kind == "started" and not started.done():
            started.set_result(event)
            _running(context, container, event)
        elif kind == "start-failed" and not started.done():
            started.set_exception(from_wire(event["error"]))
        else:
            exits.on_event(context, container, event)

    def on_lost() -> None:
        if not started.done():
            started.set_exception(MonitorLost("the container's monitor ended before the container was started"))
        else:
            exits.on_lost(context, container)

    container.monitor = await spawning.spawn(context, message, fds, on_event, on_lost)
    async with asyncio.timeout(START_DEADLINE):
        await started


def _running(context: Context, container: Container, event: dict[str, Any]) -> None:
    # at once, not after the await: the exit may be the very next event of the same burst
    move(container, "running")
    container.pid = event["pid"]
    container.netns_fd = event.get("netns_fd")
    container.started_at = event["started_at"]
    health.started(container)
    context.event(container, "start")


async def undo(context: Context, container: Container, error: BaseException) -> None:
    """Leave a failed start as Docker leaves it: not running, with a code and a reason, and nothing held.

    Args:
        error: why it failed, in the words of `worded`.
    """
    message = error.message if isinstance(error, WherryError) else str(error)
    if container.running:
        # process 1 runs, but a later step (publishing) failed: it must not run half wired
        await settle.kill_and_wait(container)
        container.error = message
        return
    monitor, container.monitor = container.monitor, None
    # the mark first: killed in between, a mark without a sandbox would look like a power failure
    launch.unmark(context.roots.container(container.id))
    await settle.settle(context, container, monitor)
    container.error = message
    container.exit.code = exits.start_failure_code(error)
    if not container.record.host_config.auto_remove:
        await _record_failure(context, container, error)
    if container.status != "created" or container.record.host_config.auto_remove:
        # who waits for the next exit of one that was only created goes on waiting, as with dockerd
        settle.resolve_waiters(container, error=container.error)
    if container.record.host_config.auto_remove:
        await remove.remove_exited(context, container)


async def _record_failure(context: Context, container: Container, error: BaseException) -> None:
    """Write down what a later engine shows; the monitor's record has neither Docker's words nor the run before."""
    record = container.exit
    record.error = {**to_wire(error), "message": container.error, "facts": {}}
    record.started_at = container.started_at
    record.restart_count = container.record.restart_count
    try:
        await asyncio.get_running_loop().run_in_executor(None, records.save_exit, context.roots, container.id, record)
    except OSError as failed:
        log.warning("container %s: its failed start is not recorded: %s", container.id[:12], failed)
