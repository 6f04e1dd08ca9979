"""A build's step as a sandbox: the same isolation, network and limits as a container's, without being one.

It has a monitor like a container, with a lifetime pipe: when this process dies, the monitor ends the step and takes
cgroup, links and mounts with it. Nothing of it is durable, and nothing lists it.
"""

import asyncio
import logging
import os
import shutil
import socket
import struct
from base64 import b64encode
from collections.abc import Callable
from typing import Any

import msgspec

from wherry.builder.ports import Output, Task, Terminal
from wherry.config_checks import shm_bytes
from wherry.containers import launch, spawning, strays
from wherry.containers.context import Context
from wherry.containers.groups import cgroup_path
from wherry.containers.model import Container, Record
from wherry.containers.priming import Primed
from wherry.containers.security import seccomp_filter
from wherry.containers.spec.configuration import SpecRequest, build_spec
from wherry.containers.start import START_DEADLINE
from wherry.containers.states import move
from wherry.errors import MonitorLost, NotFound, Unavailable, WherryError, from_wire
from wherry.linux import descriptors
from wherry.oci.isolation import READONLY_PATHS, masked_paths
from wherry.runtime.cgroups import open_cgroup
from wherry.wire.containers import Config, HostConfig

_HEADER = struct.Struct(">BxxxL")
_OWN_DESCRIPTORS = 8
_READ = 256 * 1024
# how long a step that has ended may give no output before its end, and how long its monitor may take to end
_OUTPUT_DEADLINE = 30.0
_END_DEADLINE = 30.0

log = logging.getLogger("wherry.steps")


class Steps:
    """Runs build steps.

    Args:
        context: the verbs' wiring: how monitors are made, the network, the machine.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self.running: dict[str, Container] = {}

    async def run(self, task: Task, output: Output, terminal: Terminal | None = None) -> int:
        """Run one step to its end; returns its exit code. See `builder.ports.RunTask`."""
        context = self._context
        container = Container(_record(task, context, tty=terminal is not None and terminal.size is not None))
        run = context.roots.sandbox(task.id)
        os.makedirs(f"{run}/bundle", mode=0o700)
        self.running[task.id] = container
        network = None
        try:
            network = container.network = await context.connect(container)
            await network.prepare()
            await network.publish()  # from here on netd knows the step
            message = self._message(container, task, network, run)
            fds = {**network.fds(), **task.data}
            if terminal is not None:
                fds["attach:1"] = _watched(message, terminal)
            with Primed():
                return await self._follow(container, message, fds, output, network.started)
        finally:
            self.running.pop(task.id, None)
            await asyncio.shield(self._settle(container))

    async def resize(self, id_: str, rows: int, columns: int) -> None:
        """Tell a running step that its terminal has another size.

        Raises:
            NotFound: no such step runs.
        """
        container = self.running.get(id_)
        if container is None or container.monitor is None:
            raise NotFound("no such step runs")
        await container.monitor.request("resize", height=rows, width=columns)

    async def _follow(
        self,
        container: Container,
        message: dict[str, Any],
        fds: dict[str, int],
        output: Output,
        started: Callable[[], None],
    ) -> int:
        loop = asyncio.get_running_loop()
        over: asyncio.Future[int] = loop.create_future()
        began = asyncio.Event()

        def on_event(event: dict[str, Any]) -> None:
            kind = event.get("event")
            if over.done():
                return
            if kind == "start-failed":
                over.set_exception(from_wire(event["error"]))
            elif kind == "started":
                container.pid = int(event["pid"])
                move(container, "running")
                began.set()
            elif kind == "exited":
                over.set_result(int(event["code"]))

        def on_lost() -> None:
            if not over.done():
                over.set_exception(MonitorLost("the step's monitor was killed"))

        descriptors.check("cannot run the step", _OWN_DESCRIPTORS + 2 * len(fds))
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        try:
            message["attach"].append(
                {"fd": "attach:0", "stdin": False, "stdout": True, "stderr": True, "detach_keys": "", "framed": True}
            )
            try:
                container.monitor = await spawning.spawn(
                    self._context,
                    message,
                    {**fds, "attach:0": theirs.fileno()},
                    on_event,
                    on_lost,
                    container.record.host_config.cgroup_parent,
                )
            finally:
                theirs.close()
            started()
            frames = _Frames(ours, output)
            reader = asyncio.ensure_future(frames.read())
            try:
                await _begun(began, over, container.id)
                code = await over
                await _rest(frames, reader, container.id)
            finally:
                reader.cancel()
                # the loop lets go of the socket only then; were it closed before, its number's next owner is not heard
                await asyncio.wait([reader])
                if not reader.cancelled():
                    reader.exception()  # another error may be on its way
            return code
        finally:
            over.cancel()
            ours.close()

    async def _settle(self, container: Container) -> None:
        """Give everything back; the step's processes are dead when this returns."""
        context = self._context
        monitor, container.monitor = container.monitor, None
        try:
            if monitor is not None:
                try:
                    async with asyncio.timeout(_END_DEADLINE):
                        await monitor.request("end")
                        await monitor.wait_dead()  # type: ignore[attr-defined]  # a MonitorHandle
                except (WherryError, TimeoutError):
                    await strays.end(context, container.id, container.record.host_config.cgroup_parent)
                finally:
                    monitor.close()
        finally:
            if container.network is not None:
                await container.network.release()
            await asyncio.get_running_loop().run_in_executor(None, self._clear, container)

    def _clear(self, container: Container) -> None:
        open_cgroup(self._cgroup(container)).remove()
        shutil.rmtree(self._context.roots.sandbox(container.id), ignore_errors=True)

    def _cgroup(self, container: Container) -> str:
        return cgroup_path(self._context, container.id, container.record.host_config.cgroup_parent)

    def _message(self, container: Container, task: Task, network: Any, run: str) -> dict[str, Any]:
        context, record = self._context, container.record
        files = launch.sandbox_files(network, run)
        spec = build_spec(
            SpecRequest(
                id=record.id,
                name=record.name,
                config=record.config,
                host_config=record.host_config,
                argv=task.args,
                hostname=record.config.hostname,
                cgroup_path=self._cgroup(container),
                machine=context.machine,
                files=files,
                namespace_modes={"network": network.plan()["namespace"]},
            )
        )
        # outer before inner; the user's own after the kernel's
        spec["mounts"] += sorted(task.mounts, key=lambda mount: str(mount["destination"]).rstrip("/").count("/"))
        spec["process"]["env"] = _environment(task)
        config_path = f"{run}/bundle/config.json"
        with open(os.open(config_path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(msgspec.json.encode(spec))
        return {
            "id": record.id,
            "run_dir": run,
            "data_dir": run,
            "config_path": config_path,
            "cgroup": self._cgroup(container),
            **seccomp_filter(context, record.host_config, frozenset(spec["process"]["capabilities"]["bounding"])),
            "root_mounts": [mount.to_json() for mount in task.root],
            "tty": False,
            "open_stdin": False,
            "stdin_once": False,
            "console_size": None,
            "log": {"driver": "none"},
            "network": network.plan(),
            "attach": [],
            "stop_on_control_close": True,
        }


def _watched(message: dict[str, Any], terminal: Terminal) -> int:
    """Let somebody watch and type, in place of us; returns the descriptor that goes along."""
    size = terminal.size
    message |= {"tty": size is not None, "open_stdin": True, "stdin_once": True, "console_size": size}
    message["attach"].append(
        {
            "fd": "attach:1",
            "stdin": True,
            "stdout": True,
            "stderr": True,
            "detach_keys": "",
            "framed": size is None,
            "tail": b64encode(terminal.first).decode(),
        }
    )
    return terminal.socket.fileno()


def _record(task: Task, context: Context, *, tty: bool = False) -> Record:
    limits = {key: value for key, value in task.limits.items() if value}
    host = msgspec.convert(limits, HostConfig, strict=False)
    host.network_mode = task.network or "default"
    host.extra_hosts = task.hosts
    host.privileged = task.insecure
    host.cgroupns_mode = host.cgroupns_mode or ("private" if context.machine.cgroup_version == "v2" else "host")
    host.ipc_mode = "private"
    host.shm_size = host.shm_size or shm_bytes(context.config.default_shm_size)
    if not task.insecure:
        host.masked_paths, host.readonly_paths = masked_paths(context.machine.cpus), list(READONLY_PATHS)
    config = Config(user=task.user, env=task.env, working_dir=task.cwd, tty=tty)
    config.hostname = task.hostname or ("buildkitsandbox" if host.network_mode != "host" else os.uname().nodename)
    return Record(
        id=task.id,
        name=f"build-{task.id[:12]}",
        created="",
        image="",
        image_name="",
        chain_ids=[],
        config=config,
        host_config=host,
        path=task.args[0] if task.args else "",
        args=task.args[1:],
    )


def _environment(task: Task) -> list[str]:
    """What the step asks for, and a PATH: nothing else may come into what it makes."""
    names = {entry.partition("=")[0] for entry in task.env}
    found = list(task.env)
    if "PATH" not in names:
        found.insert(0, "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
    return found


async def _begun(began: asyncio.Event, over: "asyncio.Future[int]", id_: str) -> None:
    """Wait until a step's program was started, or will not be.

    Raises:
        Unavailable: its monitor tells of neither.
    """
    waiting = asyncio.ensure_future(began.wait())
    both: list[asyncio.Future[Any]] = [waiting, over]
    try:
        await asyncio.wait(both, timeout=START_DEADLINE, return_when=asyncio.FIRST_COMPLETED)
        if not (waiting.done() or over.done()):
            raise Unavailable(f"step {id_[:12]} was not started within {START_DEADLINE:.0f} seconds")
    finally:
        waiting.cancel()


async def _rest(frames: "_Frames", reader: "asyncio.Future[None]", id_: str) -> None:
    """Wait for the end of a step's output; the step has ended. Output that does not end is not waited for."""
    while not reader.done():
        before = frames.taken
        await asyncio.wait([reader], timeout=_OUTPUT_DEADLINE)
        if frames.taken == before and not reader.done():
            log.error("step %s has ended, and its output has not; what it wrote last may be missing", id_[:12])
            return
    await reader


class _Frames:
    """Docker's frames of a step's output.

    Args:
        sock: where they come from; non-blocking.
        output: gets their content.

    Attributes:
        taken: bytes read so far.
    """

    def __init__(self, sock: socket.socket, output: Output) -> None:
        self._sock = sock
        self._output = output
        self.taken = 0

    async def read(self) -> None:
        """Read until the end."""
        loop = asyncio.get_running_loop()
        buffer = bytearray()
        while data := await loop.sock_recv(self._sock, _READ):
            self.taken += len(data)
            buffer += data
            while len(buffer) >= _HEADER.size:
                stream, size = _HEADER.unpack_from(buffer)
                end = _HEADER.size + size
                if len(buffer) < end:
                    break
                self._output(stream, bytes(buffer[_HEADER.size : end]))
                del buffer[:end]
