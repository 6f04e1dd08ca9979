"""The fake engine's one container, `c1`."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable
from functools import partial
from types import SimpleNamespace
from typing import Any

from wherry.errors import (
    AlreadyInState,
    Conflict,
    ContainerNotFound,
    ExecNotFound,
    ImageNotFound,
    NotFound,
)
from wherry.wire.containers import (
    AttachOptions,
    CheckpointCreate,
    CreateRequest,
    CreateResponse,
    ExecConfig,
    ExecStart,
    LogOptions,
    UpdateRequest,
)

from .fake_streams import Behaviour, FakeTicket, echo, log_lines

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .fake_engine import FakeEngine

ID = "c0ffee" + "0" * 58
Json = dict[str, Any]
JsonList = list[Json]
Filters = dict[str, list[str]]
Names = list[str]


class FakeContainers:
    """One container, `c1`."""

    def __init__(self, engine: "FakeEngine") -> None:
        self.engine = engine
        self.calls: list[tuple[Any, ...]] = []
        self.tty = False
        self.behaviour: Behaviour = echo
        self.raises: Exception | None = None
        self.exit: asyncio.Future[dict[str, Any]] | None = None
        self.requests: list[CreateRequest] = []
        self.archives: list[AsyncGenerator[bytes, None]] = []
        self.closed = 0

    def _called(self, name: str, ref: str, *args: Any) -> None:
        self.calls.append((name, ref, *args))
        if self.raises is not None:
            raise self.raises
        if ref not in ("c1", ID, ID[:12]):
            raise ContainerNotFound(ref)

    async def create(self, request: CreateRequest, name: str | None, platform: str | None) -> CreateResponse:
        if request.image == "missing":
            raise ImageNotFound("missing:latest")
        self.requests.append(request)
        self._called("create", "c1", name, platform)
        self.tty = request.tty
        return CreateResponse(id=ID)

    async def export(self, ref: str) -> AsyncGenerator[bytes, None]:
        self._called("export", ref)
        yield b"archive"

    async def changes(self, ref: str) -> list[dict[str, Any]]:
        self._called("changes", ref)
        return [{"Path": "/x", "Kind": 1}]

    async def update(self, ref: str, request: UpdateRequest) -> Names:
        self._called("update", ref, request.memory)
        return ["less than asked"]

    async def stats(self, ref: str, quick: bool) -> dict[str, Any]:
        self._called("stats", ref, quick)
        return {"id": ID}

    async def watch_stats(self, ref: str, quick: bool) -> AsyncGenerator[dict[str, Any], None]:
        self._called("watch_stats", ref, quick)
        for number in range(2):
            yield {"id": ID, "number": number}

    async def start(self, ref: str, detach_keys: str = "", checkpoint: str = "", directory: str = "") -> None:
        self._called("start", ref, detach_keys, *filter(None, (checkpoint, directory)))

    async def checkpoint(self, ref: str, request: CheckpointCreate) -> None:
        self._called("checkpoint", ref, request.checkpoint_id, request.checkpoint_dir, request.exit)

    async def checkpoints(self, ref: str, directory: str) -> list[dict[str, Any]]:
        self._called("checkpoints", ref, directory)
        return [{"Name": "c1"}]

    async def remove_checkpoint(self, ref: str, name: str, directory: str) -> None:
        self._called("remove_checkpoint", ref, name, directory)

    async def stop(self, ref: str, timeout: int | None = None, signal: str | None = None) -> None:
        self._called("stop", ref, timeout, signal)
        raise AlreadyInState("not running")

    async def restart(self, ref: str, timeout: int | None = None, signal: str | None = None) -> None:
        self._called("restart", ref, timeout, signal)

    async def kill(self, ref: str, signal: str) -> None:
        self._called("kill", ref, signal)

    async def pause(self, ref: str) -> None:
        self._called("pause", ref)

    async def unpause(self, ref: str) -> None:
        self._called("unpause", ref)

    async def remove(self, ref: str, force: bool = False, volumes: bool = False, link: bool = False) -> None:
        self._called("remove", ref, force, volumes, link)

    async def rename(self, ref: str, name: str) -> None:
        self._called("rename", ref, name)

    async def resize(self, ref: str, height: int, width: int) -> None:
        self._called("resize", ref, height, width)

    async def wait(self, ref: str, condition: str) -> Awaitable[dict[str, Any]]:
        self._called("wait", ref, condition)
        if self.exit is not None:
            return self.exit

        async def exited() -> dict[str, Any]:
            await asyncio.to_thread(self.engine.exited.wait, 20)
            return {"StatusCode": 7, "Error": None}

        return asyncio.ensure_future(exited())

    async def list(self, all: bool, limit: int, size: bool, filters: Filters) -> JsonList:  # noqa: A002
        self._called("list", "c1", all, limit, size, filters)
        return [
            {
                "Id": ID,
                "Names": ["/c1"],
                "Image": "busybox",
                "ImageID": "sha256:1",
                "Command": "sh",
                "Created": 1700000000,
                "Ports": [],
                "Labels": {},
                "State": "running",
                "Status": "Up 3 seconds",
                "HostConfig": {"NetworkMode": "default"},
                "NetworkSettings": {"Networks": {}},
                "Mounts": [],
            }
        ]

    async def inspect(self, ref: str, size: bool = False) -> dict[str, Any]:
        self._called("inspect", ref, size)
        return {
            "Id": ID,
            "Name": "/c1",
            "Config": {"Tty": self.tty, "OpenStdin": True, "AttachStdin": True},
            "State": {"Running": True, "Status": "running", "ExitCode": 7},
            "HostConfig": {"LogConfig": {"Type": "json-file"}},
        }

    async def attach(self, ref: str, options: AttachOptions) -> FakeTicket:
        self._called("attach", ref, options)
        return FakeTicket(self.engine, self.behaviour, self.tty)

    async def logs(self, ref: str, options: LogOptions) -> FakeTicket:
        self._called("logs", ref, options)
        return FakeTicket(self.engine, partial(log_lines, chunked=options.chunked), self.tty)

    async def exec_create(self, ref: str, config: ExecConfig) -> str:
        self._called("exec_create", ref, config)
        self.tty = config.tty
        return "e1"

    async def exec_start(self, exec_id: str, start: ExecStart) -> FakeTicket:
        self.calls.append(("exec_start", exec_id, start))
        if exec_id != "e1":
            raise ExecNotFound(f"No such exec instance: {exec_id}")
        return FakeTicket(self.engine, self.behaviour, self.tty)

    async def exec_start_detached(self, exec_id: str, start: ExecStart) -> None:
        self.calls.append(("exec_start_detached", exec_id, start))

    async def exec_inspect(self, exec_id: str) -> dict[str, Any]:
        return {"ID": exec_id, "ExitCode": 5, "Running": False, "ProcessConfig": {"tty": self.tty}}

    async def exec_resize(self, exec_id: str, height: int, width: int) -> None:
        self.calls.append(("exec_resize", exec_id, height, width))

    async def path_stat(self, ref: str, path: str) -> Json:
        self._called("path_stat", ref, path)
        if path == "/nope":
            raise NotFound(f"Could not find the file {path} in container {ref}")
        return {"name": "f", "size": 2, "mode": 420, "mtime": "2026-11-24T11:44:44Z", "linkTarget": ""}

    async def copy_out(self, ref: str, path: str) -> SimpleNamespace:
        async def archive() -> AsyncGenerator[bytes, None]:
            yield b"a" * 1000
            if path == "/breaks":
                raise Conflict("it became shorter")
            try:
                while path == "/endless":
                    yield b"c" * 1000
                    await asyncio.sleep(0)
            finally:
                self.closed += 1
            yield b"b" * 10

        # kept, as a traceback may keep it: nobody but who reads it closes it
        self.archives.append(archive())
        return SimpleNamespace(stat=await self.path_stat(ref, path), archive=self.archives[-1])

    async def copy_in(
        self,
        ref: str,
        path: str,
        chunks: AsyncIterator[bytes],
        keep_kinds: bool = False,
        as_user: bool = False,
        chown: str = "",
    ) -> None:
        received = b""
        async for chunk in chunks:
            received += chunk
        self._called("copy_in", ref, path, received, keep_kinds, as_user, chown)

    async def top(self, ref: str, ps_args: str) -> dict[str, Any]:
        self._called("top", ref, ps_args)
        return {"Titles": ["PID", "CMD"], "Processes": [["1", "sh"]]}

    async def prune(self, filters: Filters) -> dict[str, Any]:
        return {"ContainersDeleted": None, "SpaceReclaimed": 0}
