"""The end of a run: signals, who waits for the exit, and giving everything back."""

import asyncio
import os
from typing import Any

from wherry.containers import groups, mounting, strays
from wherry.containers.context import Context
from wherry.containers.model import Container
from wherry.errors import WherryError
from wherry.runtime.cgroups import open_cgroup
from wherry.sandbox.ports import Monitor

END_SECONDS = 10.0
"""A monitor that has not ended by then is killed, with what is left of its container."""
_VOLATILE = ("bundle/config.json", "bundle/health.json", "health.json", "state.json", "launch.json", "monitor.sock")


async def settle(context: Context, container: Container, monitor: Monitor | None) -> None:
    """Give back what a run held: the monitor with its sandbox, addresses and ports, and the volatile directory."""
    try:
        if monitor is not None:
            try:
                async with asyncio.timeout(END_SECONDS):
                    await monitor.request("end")
            except (WherryError, TimeoutError):
                await strays.end(context, container.id)
            finally:
                monitor.close()
        mounting.let_go(context, container)
        network, container.network = container.network, None
        if network is not None:
            networks = network.settings()["Networks"]
            container.past_networks = {name: item["NetworkID"] for name, item in networks.items()}
            await network.release()
        await asyncio.get_running_loop().run_in_executor(None, _clear_sandbox, context, container.id)
    finally:
        container.settled.set()


def _clear_sandbox(context: Context, id_: str) -> None:
    open_cgroup(groups.cgroup_path(context, id_)).remove()
    run = context.roots.sandbox(id_)
    for name in _VOLATILE:
        try:
            os.unlink(f"{run}/{name}")
        except FileNotFoundError:
            continue
    for directory in (f"{run}/bundle", run):
        try:
            os.rmdir(directory)
        except FileNotFoundError:
            continue
        except OSError:
            # a process that was killed in the midst of a write left its temporary file
            context.trash(run)
            return


def resolve_waiters(container: Container, *, error: str = "") -> None:
    """Answer those that wait for the next exit."""
    waiters, container.exit_waiters = container.exit_waiters, []
    for waiter in waiters:
        if not waiter.done():
            waiter.set_result(status(container, error))


def status(container: Container, error: str = "") -> dict[str, Any]:
    """What `wait` answers."""
    return {"StatusCode": container.exit.code, **({"Error": {"Message": error}} if error else {})}


async def kill_and_wait(container: Container, signal: int = 9) -> None:
    """Kill a running container and wait until its exit is recorded."""
    exited_: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
    container.exit_waiters.append(exited_)
    container.stopping = True
    if container.status == "paused" and container.monitor is not None:
        await container.monitor.request("freeze", on=False)
    await send(container, signal)
    await exited_


async def send(container: Container, signal: int) -> None:
    """Send a signal to process 1; a monitor that just lost it is no error."""
    if container.monitor is not None:
        try:
            await container.monitor.request("signal", signal=signal, exec_id=None)
        except WherryError:
            if container.running:
                raise
