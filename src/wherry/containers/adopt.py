"""After a crash, or an upgrade: read what is wanted, find what runs, take it over, and clean up the rest."""

import asyncio
import json
import logging
import os
from typing import Any

from wherry.containers import execs, exits, health, launch, records, restart, settle, strays
from wherry.containers.context import Context
from wherry.containers.model import Container, ExitRecord
from wherry.containers.states import recover
from wherry.errors import MonitorLost, NameInUse, StoreCorrupt, WherryError, from_wire, to_wire
from wherry.linux import descriptors
from wherry.linux.background import background
from wherry.runtime.cgroups import open_cgroup
from wherry.sandbox.ports import Monitor
from wherry.store.atomic import sweep_temporary

log = logging.getLogger("wherry.adopt")

START_DEADLINE = 60.0
_STARTS_AT_ONCE = 4


async def adopt_all(context: Context) -> list[Container]:
    """Load every container and adopt those whose monitor lives; what each holds of the networks is taken back first.

    Nothing is started again before the caller sets `context.adopted`: it might get what is another's.

    Returns:
        The containers that their restart policy wants started now.

    Raises:
        TooManyOpenFiles: more containers run than this process may have descriptors; nothing was done to them.
        NewerSchema: one was written by a newer version.
    """
    os.makedirs(context.roots.containers, mode=0o710, exist_ok=True)
    os.makedirs(context.roots.sandboxes, mode=0o700, exist_ok=True)
    context.adopted.clear()
    await strays.quiet(context)
    for id_ in sorted(os.listdir(context.roots.containers)):
        container = _load(context, id_)
        if container is not None:
            context.registry.add(container)
    sandboxes = len(os.listdir(context.roots.sandboxes))
    descriptors.check_taking(f"{sandboxes} running containers cannot be taken over", sandboxes)
    lost = {container.id: why for container in context.registry if (why := _reserve(context, container))}
    for container in context.registry:
        try:
            await _recover(context, container)
            if container.running and container.id in lost:
                _tell_lost(context, container, lost[container.id])
        except WherryError as error:
            # one container that cannot be taken over or cleaned up must not keep the others from being served
            log.error("container %s: %s", container.id[:12], error)
    await _sweep(context)
    for container in context.registry:
        if not container.running:
            # what it had is given back by now
            await container.settled.wait()
    return [c for c in context.registry if restart.starts_with_engine(c)]


def _load(context: Context, id_: str) -> Container | None:
    directory = context.roots.container(id_)
    if not os.path.exists(f"{directory}/container.json"):
        # killed between mkdir and the record: nobody was told of it
        context.trash(directory)
        return None
    sweep_temporary(directory)
    try:
        record = records.load(context.roots, id_)
        context.registry.reserve(record.name, record.id)
    except (StoreCorrupt, NameInUse) as error:
        log.error("%s; left as it is", error)
        return None
    container = Container(record)
    health.recover(container, context.roots.sandbox(id_), directory)
    return container


def _reserve(context: Context, container: Container) -> str:
    """Take back the addresses and ports that a sandbox has, whether it still lives or not; else why that cannot be."""
    run = context.roots.sandbox(container.id)
    if not os.path.isdir(run):
        return ""
    held = _read_json(f"{run}/launch.json")
    if held is None:
        return f"{run}/launch.json cannot be read"
    try:
        container.network = context.restore(container, held)
    except (WherryError, KeyError, TypeError, ValueError) as error:
        # another has them, which cannot be unless somebody wrote into the run root, or a network is gone
        return str(error) if isinstance(error, WherryError) else f"{run}/launch.json: {error!r}"
    return ""


def _tell_lost(context: Context, container: Container, why: str) -> None:
    """A living container's place on its networks is not known: say so where people look."""
    container.network_lost = True
    container.error = f"the network of this container is lost ({why}): restart it"
    log.error("container %s: %s", container.id[:12], container.error)
    for endpoint in (_read_json(f"{context.roots.sandbox(container.id)}/launch.json") or {}).get("endpoints") or []:
        told = {"container": container.id, "name": endpoint.get("network", ""), "type": endpoint.get("kind", "")}
        context.publish("network", "disconnect", endpoint.get("network_id", ""), told)


async def _recover(context: Context, container: Container) -> None:
    run = context.roots.sandbox(container.id)
    present = os.path.isdir(run)
    saved = _read_json(f"{run}/state.json")
    if present and saved is None:
        # killed in the midst of a start: the monitor may be about to write its first state
        saved = await strays.first_state(context, container.id, lambda: _read_json(f"{run}/state.json"))
    if saved is not None:
        try:
            await _take_over(context, container, run, saved)
            return
        except MonitorLost:
            await asyncio.get_running_loop().run_in_executor(None, _note_lost, context, container, saved)
            await strays.end(context, container.id)
            _from_record(context, container)
            if container.exit.finished_at and container.exit.finished_at >= (saved.get("started_at") or 0):
                exits.tell(context, container, container.exit, unseen=True)
    elif present:
        launch.unmark(context.roots.container(container.id))
    sweep_temporary(context.roots.container(container.id), theirs=True)
    _from_record(context, container)
    if not present:
        _note_power_loss(context, container)
    if present or saved is not None:
        await settle.settle(context, container, None)
    if container.record.host_config.auto_remove and container.status == "exited":
        from wherry.containers.remove import remove_exited

        await remove_exited(context, container)


async def _take_over(context: Context, container: Container, run: str, saved: dict[str, Any]) -> None:
    early: list[dict[str, Any]] = []
    settled = False

    def on_event(event: dict[str, Any]) -> None:
        # an exit may come between the state that is asked for and the moment that it is written down here
        if settled:
            exits.on_event(context, container, event)
        else:
            early.append(event)

    def on_lost() -> None:
        exits.on_lost(context, container)

    container.settled.clear()
    try:
        container.monitor = await context.adopt(run, on_event, on_lost)
        state = await _settled_state(container.monitor)
    except BaseException:
        container.monitor = None
        container.settled.set()
        raise
    container.started_at = state.get("started_at") or saved.get("started_at") or 0
    container.record.started_once = True
    container.record.restart_count = int(state.get("restart_count") or 0)
    sweep_temporary(run)
    if state["status"] == "paused" and state.get("frozen_for"):
        await _thaw(context, container, state)
    if state["status"] in ("running", "paused"):
        recover(container, state["status"])
        container.pid = state["init"]["pid"]
        container.netns_fd = state.get("netns_fd")
        execs.restore(context, container, state.get("execs") or [])
        execs.tell_missed(context, container, state.get("execs") or [])
        # read again: what a probe found since is in the file or comes as an event
        health.recover(container, run, context.roots.container(container.id))
        health.tell_missed(context, container)
        settled = True
        for event in early:
            exits.on_event(context, container, event)
        exits.check_ailing(context, container)
        return
    if not container.started_at:
        await _never_ran(context, container, state)
        return
    recover(container, "running")
    health.tell_missed(context, container)
    execs.tell_missed(context, container, state.get("execs") or [])
    exits.exited(context, container, _end_of(context, container, state), unseen=True)


async def _never_ran(context: Context, container: Container, state: dict[str, Any]) -> None:
    """Leave a start that failed while no engine was there as `start` leaves one that fails."""
    from wherry.containers.start import undo, worded

    failure = _end_of(context, container, state).error or to_wire(MonitorLost(exits.LOST))
    _from_record(context, container)
    await undo(context, container, worded(from_wire(failure)))


async def _thaw(context: Context, container: Container, state: dict[str, Any]) -> None:
    """Let a container go on that a verb of a killed engine had frozen for its own length."""
    if container.monitor is None:
        return
    try:
        await container.monitor.request("freeze", on=False)
    except MonitorLost:
        raise
    except WherryError as error:
        log.warning("container %s, frozen for %s: %s", container.id[:12], state["frozen_for"], error)
        return
    state["status"] = "running"
    context.event(container, "unpause")


async def _settled_state(monitor: Monitor) -> dict[str, Any]:
    """Ask for the state, and wait until a start that was under way has come to its end.

    Raises:
        MonitorLost: it comes to none.
    """
    try:
        async with asyncio.timeout(START_DEADLINE):
            while True:
                reply = await monitor.request("state")
                state: dict[str, Any] = reply["state"]
                if state["status"] != "starting":
                    return state
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise MonitorLost(f"the start did not come to an end within {START_DEADLINE:.0f} seconds") from None


def _end_of(context: Context, container: Container, state: dict[str, Any]) -> ExitRecord:
    record = records.load_exit(context.roots, container.id)
    if record is not None and record.finished_at >= container.started_at:
        return record
    told = state.get("exit")
    if told:
        # the disk was full: the monitor still knows
        return records.exit_from(told)
    return ExitRecord(code=255, error=to_wire(MonitorLost(exits.LOST)))


def _note_lost(context: Context, container: Container, saved: dict[str, Any]) -> None:
    """Monitor and engine both died: what the monitor left behind tells, or nothing does."""
    init = saved.get("init") or {}
    record = records.load_exit(context.roots, container.id)
    started_at = saved.get("started_at") or 0
    ended = record is not None and record.finished_at >= started_at
    if saved.get("status") == "starting" or ended:
        # it never ran, or it has ended
        if not ended:
            launch.unmark(context.roots.container(container.id))
        exits.end_group(context, container.id)
        return
    count = int(saved.get("restart_count") or 0)
    exits.lost_record(context, container.id, init.get("pid", 0), started_at, init.get("start_time"), count=count)


def _note_power_loss(context: Context, container: Container) -> None:
    """The run root is gone, as after a power failure: a start that has no exit on record ended with it."""
    try:
        started = os.stat(launch.start_mark(context.roots.container(container.id))).st_mtime_ns
    except FileNotFoundError:
        return
    if started > container.exit.finished_at:
        count = container.record.restart_count
        exits.lost_record(context, container.id, 0, started, why=exits.POWER_LOST, count=count)
        _from_record(context, container)
        exits.tell(context, container, container.exit, unseen=True)


def _from_record(context: Context, container: Container) -> None:
    """Take the state of a container that does not run from its last exit, or from the run before a failed start."""
    former = records.load_former_exit(context.roots, container.id)
    record = records.load_exit(context.roots, container.id)
    if record is None and former is not None:
        record = former
    elif record is not None and not record.started_at and former is not None:
        # a monitor's word on a start that failed: it knows of no run before
        record.started_at = former.started_at
        records.save_exit(context.roots, container.id, record)
    if record is None:
        return
    container.exit = record
    container.error = record.message
    container.record.restart_count = record.restart_count
    if record.started_at:
        container.started_at = record.started_at
        container.record.started_once = True
        recover(container, "exited")


async def _sweep(context: Context) -> None:
    """End what no container owns: monitors, cgroups and volatile directories that a crash left.

    Ours is what has its place under our exec root (`engine.holding` lets nobody else's live there). A cgroup alone says
    nothing: where mount namespaces share a cgroup tree it may be of another data root that is called as ours.
    """
    known = {container.id for container in context.registry}
    ours = set(os.listdir(context.roots.sandboxes))
    for id_ in ours - known:
        await _end_orphan(context, id_)
        context.trash(context.roots.sandbox(id_))
    group = open_cgroup(f"/{context.roots.scope}/containers")
    for child in _below(group.directories()) - known:
        if child not in ours and open_cgroup(f"/{context.roots.scope}/containers/{child}").occupied():
            log.warning("cgroup of %s: no container of this data root is in it; left as it is", child[:12])
        else:
            try:
                await asyncio.get_running_loop().run_in_executor(None, exits.end_group, context, child)
            except WherryError as error:
                log.error("cgroup of %s: %s", child[:12], error)


async def _end_orphan(context: Context, id_: str) -> None:
    """A removed container's monitor still waits for the order to end."""
    try:
        monitor = await context.adopt(context.roots.sandbox(id_), lambda _event: None, lambda: None)
        await monitor.request("end")
        monitor.close()
    except WherryError:
        await strays.end(context, id_)


def _below(directories: list[str]) -> set[str]:
    found: set[str] = set()
    for directory in directories:
        try:
            found.update(entry.name for entry in os.scandir(directory) if entry.is_dir(follow_symlinks=False))
        except FileNotFoundError:
            continue
    return found


def _read_json(path: str) -> dict[str, Any] | None:
    try:
        with open(path, "rb") as file:
            value = json.load(file)
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def start_wanted(context: Context, containers: list[Container]) -> None:
    """Start what restart policies want, in the background and a few at a time; one that fails stops nobody."""
    from wherry.containers.start import start

    gate = asyncio.Semaphore(_STARTS_AT_ONCE)

    async def one(container: Container) -> None:
        async with gate:
            if context.closing:
                return
            try:
                counted = container.record.host_config.restart_policy.name in restart.COUNTED
                if counted:
                    # a try like any other: a limit is not one for each engine
                    container.record.restart_count += 1
                await start(context, container, keep_count=counted)
            except Exception as error:  # noqa: BLE001 - one container's failure is logged, the others go on
                log.error("container %s: restart policy: %s", container.id[:12], error)

    # each waits for its turn
    seconds = restart.START_SECONDS * (1 + len(containers) // _STARTS_AT_ONCE)
    for container in containers:
        background().start(f"start {container.id[:12]} for its policy", one(container), seconds)
