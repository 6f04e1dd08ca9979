"""Real containers under real monitors: a busybox root, a spawner, sockets for clients."""

import asyncio
import json
import os
import socket
import struct
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from wherry.monitor.client import MonitorHandle, Spawner
from wherry.runtime.cgroups import open_cgroup

CAPABILITIES = ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_KILL", "CAP_SETGID", "CAP_SETUID"]


def process(*args: str, tty: bool = False, env: tuple[str, ...] = ()) -> dict[str, Any]:
    """An OCI process object."""
    return {
        "terminal": tty,
        "user": {"uid": 0, "gid": 0},
        "args": list(args),
        "env": ["PATH=/bin", *env],
        "cwd": "/",
        "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), CAPABILITIES),
        "noNewPrivileges": True,
    }


def config(root: Path, *args: str, tty: bool = False, **linux: Any) -> dict[str, Any]:
    """An OCI runtime configuration with namespaces of its own for everything but the network."""
    return {
        "ociVersion": "1.2.0",
        "process": process(*args, tty=tty),
        "root": {"path": str(root)},
        "hostname": "test",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
            {
                "destination": "/dev/pts",
                "type": "devpts",
                "source": "devpts",
                "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"],
            },
        ],
        "linux": {"namespaces": [{"type": kind} for kind in ("pid", "mount", "ipc", "uts")], "resources": {}, **linux},
    }


class Container:
    """A container to be launched, and what its monitor has said."""

    def __init__(self, spawner: Spawner, base: Path, root: Path) -> None:
        self.id = uuid.uuid4().hex * 2
        self.spawner = spawner
        self.root = root
        self.run_dir = base / "run" / self.id
        self.data_dir = base / "data" / self.id
        (self.run_dir / "bundle").mkdir(parents=True)
        self.data_dir.mkdir(parents=True)
        self.cgroup = f"/wherry-montest-{self.id[:12]}"
        self.log = self.data_dir / f"{self.id}-json.log"
        self.events: list[dict[str, Any]] = []
        self.lost = 0
        self.handle: MonitorHandle | None = None
        self._news = asyncio.Event()

    def launch_object(self, *args: str, spec: dict[str, Any] | None = None, **values: Any) -> dict[str, Any]:
        """Write config.json and return the launch object."""
        path = self.run_dir / "bundle/config.json"
        path.write_text(json.dumps(spec or config(self.root, *args, tty=bool(values.get("tty")))))
        return {
            "id": self.id,
            "run_dir": str(self.run_dir),
            "data_dir": str(self.data_dir),
            "config_path": str(path),
            "cgroup": self.cgroup,
            "seccomp": None,
            "root_mounts": [],
            "tty": False,
            "open_stdin": False,
            "stdin_once": False,
            "console_size": None,
            "log": {"driver": "json-file", "path": str(self.log), "max_size": 10 << 20, "max_file": 3, "attrs": {}},
            "network": None,
            "attach": [],
            "stop_on_control_close": False,
            **values,
        }

    async def launch(self, *args: str, fds: dict[str, int] | None = None, **values: Any) -> None:
        """Spawn the monitor."""
        self.take(await self.spawner.spawn_monitor(self.launch_object(*args, **values), fds))

    def take(self, handle: MonitorHandle) -> None:
        """Listen to a handle."""
        self.handle = handle
        handle.on_event = self._event
        handle.on_lost = self._lost

    async def run(self, *args: str, **values: Any) -> dict[str, Any]:
        """Launch, and wait for the start or its failure."""
        await self.launch(*args, **values)
        return await self.event("started", "start-failed")

    async def event(self, *names: str, seconds: float = 15.0, **match: Any) -> dict[str, Any]:
        """Take the first event of one of these names."""
        async with asyncio.timeout(seconds):
            while True:
                for event in self.events:
                    if event["event"] in names and all(event.get(key) == value for key, value in match.items()):
                        self.events.remove(event)
                        return event
                self._news.clear()
                await self._news.wait()

    async def wait_lost(self) -> None:
        """Wait for `on_lost`."""
        async with asyncio.timeout(10):
            while not self.lost:
                self._news.clear()
                await self._news.wait()

    async def request(self, op: str, *, fds: dict[str, int] | None = None, **args: Any) -> dict[str, Any]:
        """Ask the monitor."""
        assert self.handle is not None
        async with asyncio.timeout(15):
            return await self.handle.request(op, fds=fds, **args)

    async def attach(self, **options: Any) -> "Client":
        """A new attached client."""
        client = Client.pair()
        try:
            await self.request("attach", fds={"client": client.fd}, **{**ATTACH, **options})
        finally:
            client.handed_over()
        return client

    async def execute(self, *args: str, tty: bool = False, **options: Any) -> tuple[str, "Client"]:
        """A new exec with a client."""
        client, exec_id = Client.pair(), uuid.uuid4().hex
        try:
            await self.request(
                "exec",
                fds={"client": client.fd},
                **{
                    "exec_id": exec_id,
                    "process": process(*args, tty=tty),
                    "stdin": True,
                    "stdout": True,
                    "stderr": True,
                    "tty": tty,
                    "detach_keys": "",
                    "seccomp": None,
                    **options,
                },
            )
        except BaseException:
            client.close()
            raise
        finally:
            client.handed_over()
        return exec_id, client

    async def close(self) -> None:
        """Leave nothing, whatever happened."""
        if self.handle is not None:
            handle, self.handle = self.handle, None
            if handle.alive:
                try:
                    async with asyncio.timeout(10):
                        await handle.request("end")
                        await handle.wait_dead()
                except Exception:
                    os.kill(handle.pid, 9)
                    raise
                finally:
                    handle.close()
            else:
                handle.close()
        cgroup = open_cgroup(self.cgroup)
        if cgroup.exists():
            cgroup.kill()
            cgroup.remove()

    def _event(self, event: dict[str, Any]) -> None:
        self.events.append(event)
        self._news.set()

    def _lost(self) -> None:
        self.lost += 1
        self._news.set()


ATTACH = {"stdin": True, "stdout": True, "stderr": True, "detach_keys": "", "framed": False}


class Client:
    """A client's end of a hijacked connection."""

    def __init__(self, sock: socket.socket, theirs: socket.socket) -> None:
        self.sock = sock
        self.sock.setblocking(False)
        self._theirs: socket.socket | None = theirs
        self._loop = asyncio.get_running_loop()

    @classmethod
    def pair(cls) -> "Client":
        return cls(*socket.socketpair())

    @property
    def fd(self) -> int:
        assert self._theirs is not None
        return self._theirs.fileno()

    def handed_over(self) -> None:
        if self._theirs is not None:
            self._theirs.close()
            self._theirs = None

    async def send(self, data: bytes) -> None:
        async with asyncio.timeout(20):
            await self._loop.sock_sendall(self.sock, data)

    def half_close(self) -> None:
        self.sock.shutdown(socket.SHUT_WR)

    async def read(self) -> bytes:
        """Everything until end of file."""
        out = bytearray()
        async with asyncio.timeout(20):
            while data := await self._loop.sock_recv(self.sock, 1 << 20):
                out += data
        return bytes(out)

    async def until(self, text: bytes) -> bytes:
        """Everything until `text` has come."""
        out = bytearray()
        async with asyncio.timeout(15):
            while text not in out:
                data = await self._loop.sock_recv(self.sock, 65536)
                assert data, bytes(out)
                out += data
        return bytes(out)

    def close(self) -> None:
        self.handed_over()
        self.sock.close()


def frames(data: bytes) -> dict[int, bytes]:
    """Payload by stream of framed output."""
    out: dict[int, bytearray] = {}
    position = 0
    while position < len(data):
        stream, length = struct.unpack_from(">BxxxI", data, position)
        assert len(data) >= position + 8 + length
        out.setdefault(stream, bytearray()).extend(data[position + 8 : position + 8 + length])
        position += 8 + length
    return {stream: bytes(payload) for stream, payload in out.items()}


class Bench:
    """Makes containers and cleans up after them."""

    def __init__(self, spawner: Spawner, base: Path, root: Path) -> None:
        self.spawner = spawner
        self._base = base
        self._root = root
        self.containers: list[Container] = []

    def container(self) -> Container:
        made = Container(self.spawner, self._base, self._root)
        self.containers.append(made)
        return made


@asynccontextmanager
async def open_bench(base: Path, root: Path) -> AsyncIterator[Bench]:
    spawner = Spawner()
    await spawner.start()
    bench = Bench(spawner, base, root)
    try:
        yield bench
    finally:
        errors: list[Exception] = []
        for container in bench.containers:
            try:
                await container.close()
            except Exception as error:  # noqa: BLE001 - the others are cleaned up first
                errors.append(error)
        await spawner.close()
        if errors:
            raise errors[0]


def log_text(container: Container) -> str:
    """What is in its log, all streams."""
    return "".join(json.loads(line)["log"] for line in container.log.read_bytes().splitlines())


async def launch_attached(
    container: Container, *args: str, clients: int = 1, attach: dict[str, object] | None = None, **values: object
) -> list[Client]:
    """Launch with clients that are there from the first byte."""
    made = [Client.pair() for _ in range(clients)]
    entries = [{"fd": f"attach:{n}", **ATTACH, **(attach or {})} for n in range(clients)]
    fds = {f"attach:{n}": client.fd for n, client in enumerate(made)}
    await container.launch(*args, fds=fds, attach=entries, **values)
    for client in made:
        client.handed_over()
    return made
