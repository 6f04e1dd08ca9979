"""Exec: another process in a running container."""

import asyncio
import logging
import os
from typing import Any

from wherry.containers import late, links, names, priming
from wherry.containers.context import Context
from wherry.containers.merge import as_list
from wherry.containers.model import Container, Exec
from wherry.containers.priming import Primed
from wherry.containers.security import seccomp_filter
from wherry.containers.spec import security as spec_security
from wherry.containers.spec.configuration import exec_process
from wherry.containers.streams import check_detach_keys
from wherry.containers.ticket import Ticket, stream_request
from wherry.errors import (
    CommandNotExecutable,
    CommandNotFound,
    Conflict,
    ExecNotFound,
    InvalidArgument,
    KernelError,
    MonitorLost,
    NotBegun,
    NotRunning,
    Paused,
    WherryError,
)
from wherry.linux.process import is_alive
from wherry.sandbox.ports import Monitor
from wherry.wire.containers import ExecConfig, ExecStart

_RELATIVE = "Cwd must be an absolute path"
_READY_WITHIN = 10.0
_LOST_WITHIN = 10.0
_TRIES = 3
_PLAIN = ("unable to find ", "Unable to find ", "uids and gids ")

log = logging.getLogger("wherry.execs")


def create(context: Context, container: Container, config: ExecConfig) -> str:
    """Prepare an exec; returns its id.

    Raises:
        NotRunning, Paused, InvalidArgument: in dockerd's words.
    """
    _check(container)
    check_detach_keys(config.detach_keys)
    priming.soon()
    argv = as_list(config.cmd)
    if not argv:
        raise InvalidArgument("No exec command specified")
    own = links.with_environment(context.registry, container.record)
    process = exec_process(own, container.record.host_config, config, argv, context.machine)
    found = Exec(names.new_id(), container.id, config, process)
    container.execs[found.id] = found
    context.execs[found.id] = found
    context.event(container, f"exec_create: {_words(argv)}", execID=found.id)
    return found.id


def find(context: Context, exec_id: str) -> Exec:
    """Find an exec by id.

    Raises:
        ExecNotFound: in dockerd's words.
    """
    found = context.execs.get(exec_id)
    if found is None:
        raise ExecNotFound(f"No such exec instance: {exec_id}")
    return found


def restore(context: Context, container: Container, entries: list[dict[str, Any]]) -> None:
    """Take back the execs that a monitor names: whoever is attached to one still asks for its exit code.

    Args:
        entries: `execs` of its state: `exec_id`, `pid`, `start_time`, `code` (None while it runs), `finished_at` (ns).
    """
    for entry in entries:
        found = Exec(entry["exec_id"], container.id, ExecConfig(), {"args": _argv(entry["pid"], entry["start_time"])})
        found.pid, found.exit_code = entry["pid"], entry["code"]
        found.started, found.running = True, entry["code"] is None
        found.ready.set()
        container.execs[found.id] = found
        context.execs[found.id] = found


def tell_missed(context: Context, container: Container, entries: list[dict[str, Any]]) -> None:
    """Tell of the execs that ended while no engine was there, each with its time."""
    for entry in entries:
        if entry["code"] is not None and entry.get("finished_at"):  # an older monitor noted no time
            told = {"execID": entry["exec_id"], "exitCode": str(entry["code"])}
            context.event(container, "exec_die", entry["finished_at"], **told)


def _argv(pid: int, start_time: int) -> list[str]:
    """The words of a process as it shows them now; one empty word when it is gone."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = file.read().rstrip(b"\0").decode(errors="replace").split("\0")
    except OSError:
        words = [""]
    return words if is_alive(pid, start_time) else [""]


def _check(container: Container) -> None:
    if not container.running:
        raise NotRunning(f"container {container.id} is not running")
    if container.status == "paused":
        raise Paused(f"Container {container.name} is paused, unpause the container before exec")


def start(context: Context, exec_id: str, options: ExecStart) -> Ticket:
    """Check that an exec can start; the ticket starts it on the client's connection.

    One that was started before is found out only there: as dockerd does, the connection is taken over and told.

    Raises:
        ExecNotFound, NotRunning, Paused: in dockerd's words.
    """
    found = find(context, exec_id)
    container = context.registry.find(found.container_id)
    _check(container)
    config = found.config
    request = stream_request(
        stdin=config.attach_stdin,
        stdout=config.attach_stdout,
        stderr=config.attach_stderr,
        detach_keys=config.detach_keys,
        tty=config.tty,
    )
    # how the client reads is what its start says, whatever the exec has
    request["framed"] = not options.tty

    async def connect(fd: int, tail: bytes) -> None:
        try:
            if (again := _started(found)) is not None:
                _say(fd, f"{again}\r\n", framed=not options.tty)
                return
            await _run(context, container, found, options, {**request, **Ticket.tail(tail)}, {"client": fd})
        except WherryError as error:
            # the head is sent: the reason goes down the stream, as dockerd does
            _say(fd, f"{failure_text(error)}\r\n", framed=not options.tty)
        finally:
            os.close(fd)

    return Ticket(tty=options.tty, connect=connect)


async def start_detached(context: Context, exec_id: str, options: ExecStart) -> None:
    """Start an exec without a client; raises what starting it raises."""
    found = find(context, exec_id)
    container = context.registry.find(found.container_id)
    _check(container)
    if (again := _started(found)) is not None:
        raise again
    request = stream_request(stdin=False, stdout=False, stderr=False, detach_keys="", tty=found.config.tty)
    try:
        await _run(context, container, found, options, request, {})
    except (CommandNotFound, CommandNotExecutable, InvalidArgument, KernelError) as error:
        raise InvalidArgument(failure_text(error)) from None


def _started(found: Exec) -> WherryError | None:
    """What dockerd says of an exec that was started before."""
    if found.running:
        return InvalidArgument(f"Error: Exec command {found.id} is already running")
    return Conflict(f"Error: Exec command {found.id} has already run") if found.started else None


async def _run(
    context: Context,
    container: Container,
    found: Exec,
    options: ExecStart,
    request: dict[str, Any],
    fds: dict[str, int],
) -> None:
    if container.monitor is None:
        raise NotRunning(f"container {container.id} is not running")
    found.started = found.running = True
    size = options.console_size or found.config.console_size
    process = {**found.process}
    if size and any(size):
        process["consoleSize"] = {"height": size[0], "width": size[1]}
    # the profile is the container's, also of a privileged exec, as dockerd has it
    own = container.record.host_config
    capabilities = frozenset(spec_security.capabilities(own, context.machine.capabilities))
    context.event(container, f"exec_start: {_words(process['args'])}", execID=found.id)
    try:
        if not process["cwd"].startswith("/"):
            raise InvalidArgument(_RELATIVE)
        confinement = seccomp_filter(context, own, capabilities)
        with Primed():
            reply = await _ask(container, {**request, "exec_id": found.id, "process": process, **confinement}, fds)
    except WherryError:
        found.running = False
        # for whatever the reason, as dockerd
        found.exit_code = 126
        found.ready.set()
        raise
    found.pid = reply["pid"]
    found.ready.set()


async def _ask(container: Container, message: dict[str, Any], fds: dict[str, int]) -> dict[str, Any]:
    """Have the monitor start it; again, if something of ours was killed before the program ran."""
    for _ in range(_TRIES - 1):
        try:
            return await _monitor(container).request("exec", fds=fds, **message)
        except NotBegun as error:
            log.warning("exec in container %s: %s; it is tried again", container.id[:12], error)
    return await _monitor(container).request("exec", fds=fds, **message)


def _monitor(container: Container) -> Monitor:
    if container.monitor is None:
        raise NotRunning(f"container {container.id} is not running")
    return container.monitor


def _words(argv: list[str]) -> str:
    """A command as events name it: with a space behind the program, whatever follows."""
    return f"{argv[0]} {' '.join(argv[1:])}"


def failure_text(error: WherryError) -> str:
    """The words of a failed exec, as dockerd gives them: what it finds out before its runtime does is told plainly."""
    if error.message.startswith(_PLAIN):
        return error.message
    reason = f"{_RELATIVE}: unknown" if error.message == _RELATIVE else late.runtime_words(error.message)
    return f"OCI runtime exec failed: exec failed: {reason}"


def _say(fd: int, text: str, *, framed: bool) -> None:
    import struct

    data = text.encode()
    try:
        os.set_blocking(fd, True)
        os.write(fd, struct.pack(">BxxxL", 1, len(data)) + data if framed else data)
    except OSError:
        return


async def inspect(context: Context, exec_id: str) -> dict[str, Any]:
    """Docker's JSON of an exec."""
    found = find(context, exec_id)
    container = context.registry.find(found.container_id)
    if found.running and container.monitor is not None:
        # a client asks as soon as its stream has ended: whatever the monitor said before it answers this comes first
        monitor = container.monitor
        try:
            await monitor.request("state")
        except MonitorLost:
            # what it ran is being ended; a client that asks now would take no code for 0
            if container.monitor is monitor and container.running:
                ended: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
                container.exit_waiters.append(ended)
                await asyncio.wait([ended], timeout=_LOST_WITHIN)
        except WherryError:
            found.running = container.running and found.running
    config, process = found.config, found.process
    argv = process["args"]
    return {
        "ID": found.id,
        "Running": found.running,
        "ExitCode": found.exit_code,
        "ProcessConfig": {
            "tty": config.tty,
            "entrypoint": argv[0],
            "arguments": argv[1:],
            "privileged": config.privileged,
            **({"user": config.user} if config.user else {}),
        },
        "OpenStdin": config.attach_stdin,
        "OpenStderr": config.attach_stderr,
        "OpenStdout": config.attach_stdout,
        "CanRemove": not found.running and found.exit_code is not None,
        "ContainerID": found.container_id,
        "DetachKeys": "",
        "Pid": found.pid,
    }


async def resize(context: Context, exec_id: str, height: int, width: int) -> None:
    """Set the window of an exec's terminal; waits for one whose start was answered and is under way.

    Raises:
        ExecNotFound, NotRunning: in dockerd's words.
        KernelError: it does not start within ten seconds.
    """
    found = find(context, exec_id)
    try:
        async with asyncio.timeout(_READY_WITHIN):
            await found.ready.wait()
    except TimeoutError:
        raise KernelError("timeout waiting for exec session ready") from None
    container = context.registry.find(found.container_id)
    if not found.running or container.monitor is None:
        raise NotRunning(f"exec {exec_id} is not running")
    await container.monitor.request("resize", exec_id=exec_id, height=height, width=width)
