"""Stop, kill, restart: what is wanted is written first, then the signal is sent."""

import asyncio
import signal as signals
from typing import Any

from wherry.containers import restart, settle
from wherry.containers.context import Context
from wherry.containers.model import Container
from wherry.containers.start import start
from wherry.containers.states import move
from wherry.containers.validate import stop_signal
from wherry.errors import AlreadyInState, InvalidArgument, NotPaused, NotRunning, Paused

DEFAULT_TIMEOUT = 10
_HIGHEST = 64


def parse_signal(text: str) -> int:
    """Read a signal by name (with or without SIG) or number.

    Raises:
        InvalidArgument: in dockerd's words.
    """
    negative = text.startswith("-") and text[1:].isdigit()
    number = 0 if negative else stop_signal(text)
    if number > _HIGHEST or negative:
        raise InvalidArgument(f"the linux daemon does not support signal {text}")
    return number


def _asked_signal(container: Container, signal: str | None, doing: str) -> int:
    """The signal that ends it: the one asked for, its own, or SIGTERM; `doing` begins a refusal."""
    try:
        return parse_signal(signal or container.record.config.stop_signal or "SIGTERM")
    except InvalidArgument as error:
        raise InvalidArgument(f"{doing} {container.name}: {error.message}") from None


async def stop(context: Context, container: Container, timeout: int | None = None, signal: str | None = None) -> None:
    """Send the stop signal, wait, then kill.

    Args:
        timeout: seconds to wait (None: the container's own, or 10; negative: for ever).
        signal: by name; None or empty: the container's own, or SIGTERM.

    Raises:
        AlreadyInState: it does not run.
    """
    number = _asked_signal(container, signal, "cannot stop container:")
    if await _stop_restarting(context, container):
        context.event(container, "stop")
        return
    if not container.running:
        raise AlreadyInState(f"container {container.id} is already stopped")
    await restart.want(context, container, "stopped")
    seconds = timeout if timeout is not None else container.record.config.stop_timeout
    await _stop(context, container, number, DEFAULT_TIMEOUT if seconds is None else seconds)
    context.event(container, "stop")


async def _stop_restarting(context: Context, container: Container) -> bool:
    """End a container that waits for its next start; whether it did. As dockerd, which lets no signal be heard of."""
    if not await restart.cancel(container):
        return False
    await restart.want(context, container, "stopped")
    settle.resolve_waiters(container)
    return True


async def shut_down(context: Context, container: Container) -> None:
    """Stop a container because the engine ends: what the user wants of it stays as it is written."""
    if container.running:
        number = parse_signal(container.record.config.stop_signal or "SIGTERM")
        seconds = container.record.config.stop_timeout
        await _stop(context, container, number, DEFAULT_TIMEOUT if seconds is None else seconds)


async def end_unhealthy(context: Context, container: Container) -> None:
    """End a container that is to be started again because it is unhealthy: its stop signal, then SIGKILL."""
    pid, loop = container.pid, asyncio.get_running_loop()
    number = parse_signal(container.record.config.stop_signal or "SIGTERM")
    seconds = container.record.config.stop_timeout
    deadline = loop.time() + (DEFAULT_TIMEOUT if seconds is None or seconds < 0 else seconds)
    context.event(container, "kill", signal=str(number))
    await settle.send(container, number)
    while container.running and container.pid == pid and not (container.stopping or context.closing):
        if loop.time() > deadline:
            context.event(container, "kill", signal="9")
            await settle.send(container, signals.SIGKILL)
            return
        await asyncio.sleep(0.05)


async def _stop(context: Context, container: Container, number: int, seconds: int) -> None:
    if seconds:
        await context.leave_service(container)
    if not container.running:
        # it ended while its wish was written down
        await container.settled.wait()
        return
    container.stopping = True
    done: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
    container.exit_waiters.append(done)
    if container.status == "paused" and container.monitor is not None:
        await container.monitor.request("freeze", on=False)
    context.event(container, "kill", signal=str(number))
    await settle.send(container, number)
    try:
        async with asyncio.timeout(seconds if seconds >= 0 else None):
            await asyncio.shield(done)
    except TimeoutError:
        context.event(container, "kill", signal="9")
        await settle.send(container, signals.SIGKILL)
        await done
    await container.settled.wait()


async def kill(context: Context, container: Container, signal: str) -> None:
    """Send a signal to process 1.

    Raises:
        NotRunning: in dockerd's words.
    """
    number = _asked_signal(container, signal or "SIGKILL", "cannot kill container:")
    ends = number in (signals.SIGKILL, parse_signal(container.record.config.stop_signal or "SIGTERM"))
    if container.status == "restarting" and ends and await _stop_restarting(context, container):
        return
    if not container.running:
        raise NotRunning(f"cannot kill container: {container.name}: container {container.id} is not running")
    if ends:
        # as dockerd: a container that the user ended is not started again by its policy
        container.stopping = True
        await restart.want(context, container, "stopped")
    context.event(container, "kill", signal=str(number))
    if number == signals.SIGKILL and container.monitor is not None:
        # what is asked about it next finds it ended
        await settle.kill_and_wait(container)
    else:
        await settle.send(container, number)


async def restart_container(context: Context, container: Container, timeout: int | None, signal: str | None) -> None:
    """Stop, if it runs, then start."""
    ran = container.running
    if ran:
        number = _asked_signal(container, signal, "Cannot restart container")
        seconds = timeout if timeout is not None else container.record.config.stop_timeout
        container.kept = True
        try:
            await _stop(context, container, number, DEFAULT_TIMEOUT if seconds is None else seconds)
        finally:
            container.kept = False
        context.event(container, "stop")
    elif await restart.cancel(container):
        context.event(container, "stop")
    await start(context, container, replaces=ran)
    context.event(container, "restart")


async def pause(context: Context, container: Container, verb: str = "") -> None:
    """Freeze every process of the container.

    Args:
        verb: for whose length alone it is frozen: whatever becomes of the engine, it does not stay so.

    Raises:
        NotRunning, Paused: in dockerd's words.
    """
    if container.status == "paused":
        raise Paused(f"Container {container.id} is already paused")
    if container.status != "running" or container.monitor is None:
        raise NotRunning(f"container {container.id} is not running")
    await container.monitor.request("freeze", on=True, verb=verb)
    if container.status == "paused":
        raise Paused(f"Container {container.id} is already paused")
    move(container, "paused")
    context.event(container, "pause")


async def unpause(context: Context, container: Container) -> None:
    """Thaw it.

    Raises:
        NotPaused: in dockerd's words.
    """
    if container.status != "paused" or container.monitor is None:
        raise NotPaused(f"Container {container.id} is not paused")
    await container.monitor.request("freeze", on=False)
    if container.status == "running":
        raise NotPaused(f"Container {container.id} is not paused")
    move(container, "running")
    context.event(container, "unpause")
