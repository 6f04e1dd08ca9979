"""An engine without containers: it answers like one, and its streams really run over the client's socket."""

import asyncio
import socket
import struct
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from types import SimpleNamespace
from typing import Any

from wherry.build.request import Request
from wherry.build.sent import SentContexts
from wherry.errors import (
    AlreadyInState,
    Conflict,
    ContainerNotFound,
    ExecNotFound,
    Forbidden,
    ImageNotFound,
    NetworkNotFound,
    NotFound,
    Unauthorized,
    VolumeNotFound,
)
from wherry.oci.platform import Platform
from wherry.wire.build import BuildRequest
from wherry.wire.containers import (
    AttachOptions,
    CreateRequest,
    CreateResponse,
    ExecConfig,
    ExecStart,
    LogOptions,
    UpdateRequest,
)
from wherry.wire.copies import Blob, Missing, Offer
from wherry.wire.networks import ConnectRequest, DisconnectRequest, NetworkCreate

ID = "c0ffee" + "0" * 58
Json = dict[str, Any]
JsonList = list[Json]
Filters = dict[str, list[str]]
Names = list[str]
Behaviour = Callable[[socket.socket, bytes], None]


def frame(data: bytes, stream: int = 1) -> bytes:
    """Wrap output as Docker does where there is no terminal."""
    return struct.pack(">BxxxL", stream, len(data)) + data


def echo(sock: socket.socket, tail: bytes, *, framed: bool = True) -> None:
    """Send back what comes, tail first, until the client ends its side; then say so."""
    wrap = frame if framed else bytes
    data = tail
    while True:
        if data:
            sock.sendall(wrap(data))
        data = sock.recv(65536)
        if not data:
            break
    sock.sendall(wrap(b"<end>"))


def shell(sock: socket.socket, tail: bytes) -> None:
    """A terminal that echoes lines in capitals and ends at `exit`."""
    sock.sendall(b"/ # ")
    line = tail
    while b"exit" not in line:
        data = sock.recv(4096)
        if not data:
            return
        line += data
        if b"\r" in line or b"\n" in line:
            sock.sendall(b"\r\n" + line.strip().upper() + b"\r\n/ # ")
            if b"exit" in line:
                break
            line = b""


def count(sock: socket.socket, tail: bytes) -> None:
    """Count bytes until the client ends its side."""
    total = len(tail)
    while data := sock.recv(1 << 18):
        total += len(data)
    sock.sendall(frame(b"%d" % total))


def log_lines(sock: socket.socket, tail: bytes) -> None:
    """Three lines on both streams."""
    sock.sendall(frame(b"one\n") + frame(b"two\n", 2) + frame(b"three\n"))


Missings = list[Missing]


class FakeTicket:
    """Runs a behaviour over the socket in a thread, as a monitor would in a process."""

    def __init__(self, engine: "FakeEngine", behaviour: Behaviour, tty: bool) -> None:
        self.engine = engine
        self.behaviour = behaviour
        self.tty = tty

    async def connect(self, fd: int, tail: bytes = b"") -> None:
        """Take the socket over."""
        self.engine.tails.append(tail)
        thread = threading.Thread(target=self._run, args=(fd, tail))
        self.engine.threads.append(thread)
        thread.start()

    def _run(self, fd: int, tail: bytes) -> None:
        with socket.socket(fileno=fd) as sock:
            sock.setblocking(True)
            sock.settimeout(20)
            try:
                self.behaviour(sock, tail)
            except OSError as error:
                self.engine.stream_errors.append(error)
            finally:
                self.engine.exited.set()


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

    async def watch_stats(self, ref: str, quick: bool) -> AsyncIterator[dict[str, Any]]:
        self._called("watch_stats", ref, quick)
        for number in range(2):
            yield {"id": ID, "number": number}

    async def start(self, ref: str, detach_keys: str = "") -> None:
        self._called("start", ref, detach_keys)

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
        return FakeTicket(self.engine, log_lines, self.tty)

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
        async def archive() -> AsyncIterator[bytes]:
            yield b"a" * 1000
            if path == "/breaks":
                raise Conflict("it became shorter")
            yield b"b" * 10

        return SimpleNamespace(stat=await self.path_stat(ref, path), archive=archive())

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


class FakeImage:
    """What an image shows."""

    id = "sha256:" + "4" * 64
    names = ("busybox:latest", "hub.c.163.com/public/ubuntu:14.04")
    repo_digests: tuple[str, ...] = ()
    layers: tuple[str, ...] = ()
    size = 1982298
    parent = ""
    named_at = 1795508412764338873
    raw_config = (
        b'{"architecture":"amd64","os":"linux","created":"2026-11-24T08:20:12.751308442Z","comment":"Imported from -",'
        b'"docker_version":"26.1.5+dfsg1","config":{"Cmd":["sh"]},"rootfs":{"type":"layers","diff_ids":["sha256:41"]},'
        b'"history":[]}'
    )


Found = list[FakeImage]


class FakeImages:
    """One image with two names."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.received = b""
        self.raises: Exception | None = None

    async def resolve(self, ref: str) -> FakeImage:
        if ref not in (*FakeImage.names, FakeImage.id, "busybox"):
            raise ImageNotFound(f"No such image: {ref}:latest")
        return FakeImage()

    async def list(self, filters: Filters, all: bool) -> Found:  # noqa: A002
        return [FakeImage()]

    async def tag(self, source: str, repo: str, tag: str) -> None:
        self.calls.append(("tag", source, repo, tag))

    async def remove(self, ref: str, force: bool, noprune: bool) -> JsonList:
        self.calls.append(("remove", ref, force, noprune))
        return [{"Untagged": ref}]

    async def history(self, ref: str) -> JsonList:
        await self.resolve(ref)
        return [{"Id": FakeImage.id, "Created": 1, "CreatedBy": "", "Tags": None, "Size": 1, "Comment": ""}]

    async def load(self, chunks: AsyncIterator[bytes], progress: Callable[[Any], None], quiet: bool) -> None:
        async for chunk in chunks:
            self.received += chunk
        progress({"stream": "Loaded image: busybox:latest\n"})
        if self.raises is not None:
            raise self.raises

    async def save(self, names: Names) -> AsyncIterator[bytes]:
        self.calls.append(("save", *names))
        for name in names:
            await self.resolve(name)
        yield b"a" * 100000
        if self.raises is not None:
            raise self.raises
        yield b"b" * 1000

    async def import_from(self, address: str, *rest: object) -> str:
        self.calls.append(("import from", address, *rest[:-1]))
        return FakeImage.id

    async def commit(self, ref: str, *rest: object) -> str:
        self.calls.append(("commit", ref, *rest))
        return f"sha256:{ID}"

    async def import_(
        self, chunks: AsyncIterator[bytes], repo: str, tag: str, changes: Names, message: str, platform: str
    ) -> str:
        async for chunk in chunks:
            self.received += chunk
        self.calls.append(("import", repo, tag, changes, message, platform))
        return FakeImage.id

    async def pull(self, image: str, tag: str, platform: str, auth: str, progress: Callable[[Any], None]) -> None:
        if image.endswith("missing"):
            raise ImageNotFound("pull access denied for missing")
        progress({"status": f"Pulling from {image}", "id": tag})

    async def push(
        self, image: str, tag: str, auth: str, progress: Callable[[Any], None], platform: Platform | None
    ) -> None:
        progress({"status": f"The push refers to repository [{image}]"})

    async def offer(self, ref: str) -> Offer:
        return Offer([ref], FakeImage.id, [Blob(FakeImage.id, 3)])

    async def missing(self, offered: Offer) -> Missings:
        return [Missing(blob.digest, 1) for blob in offered.blobs]

    async def read_blob(self, digest: str, offset: int) -> AsyncIterator[bytes]:
        yield b"abc"[offset:]

    async def receive_blob(self, digest: str, size: int, offset: int, chunks: AsyncIterator[bytes]) -> None:
        self.calls.append(("blob", digest, size, offset, b"".join([chunk async for chunk in chunks])))

    async def assemble(self, offered: Offer, progress: Callable[[Any], None]) -> str:
        progress({"status": "Pull complete"})
        return FakeImage.id

    async def login(self, auth: dict[str, Any]) -> dict[str, Any]:
        if auth.get("password") != "right":
            raise Unauthorized("unauthorized: incorrect username or password")
        return {"Status": "Login Succeeded", "IdentityToken": ""}

    async def distribution(self, image: str, auth: str) -> dict[str, Any]:
        return {"Descriptor": {"digest": FakeImage.id}, "Platforms": []}

    async def search(self, term: str, limit: int, filters: Any, auth: str) -> Any:
        return [{"name": term, "description": str(limit)}]

    async def check(self, repair: bool, auth: str, progress: Callable[[Any], None]) -> dict[str, Any]:
        return {"Findings": [], "repair": repair}

    async def shared_sizes(self) -> dict[str, int]:
        return {FakeImage.id: 7}

    async def local_manifests(self, ref: str) -> Any:
        return [{"ID": ref}]

    async def manifests(self, image: str, auth: str, insecure: bool, verbose: bool) -> Any:
        return {"Ref": image, "insecure": insecure, "verbose": verbose}

    async def remote_tags(self, image: str, auth: str) -> Any:
        return ["1", "2"]

    async def bootstrap(self, name: str, progress: Callable[[Any], None]) -> str:
        progress({"status": f"making {name}"})
        return FakeImage.id

    async def prune(self, filters: Filters) -> dict[str, Any]:
        return {"ImagesDeleted": None, "SpaceReclaimed": 0}


class FakeBuild:
    """A builder without anything in it."""

    sent: SentContexts

    async def client(
        self,
        wire: BuildRequest,
        auths: Json,
        send: Callable[[Json], None],
        write: Callable[[bytes, int], Awaitable[None]],
    ) -> None:
        send({"path": wire.path})

    async def archive(self, chunks: AsyncIterator[bytes]) -> str:
        return str(sum([len(chunk) async for chunk in chunks]))

    async def classic(
        self,
        request: Request,
        chunks: AsyncIterator[bytes],
        remote: str,
        auths: Json,
        quiet: bool,
        progress: Callable[[Json], None],
    ) -> None:
        size = sum([len(chunk) async for chunk in chunks])
        progress({"stream": f"{request.path} {request.tags} {size} {remote} {sorted(auths)} {quiet}"})

    async def prune(self, filters: Filters, everything: bool, keep: int) -> Json:
        return {"CachesDeleted": None, "SpaceReclaimed": 0}


class FakeNetworks:
    """The bridge, and who was connected to it and disconnected."""

    def __init__(self) -> None:
        self.changes: list[tuple[str, ConnectRequest | DisconnectRequest]] = []

    async def list(self, filters: Filters) -> JsonList:
        return [
            {"Name": "bridge", "Id": "b" * 64, "Driver": "bridge", "Scope": "local", "Created": "2026-11-24T08:20:12Z"}
        ]

    async def inspect(self, ref: str) -> dict[str, Any]:
        if ref != "bridge":
            raise NetworkNotFound(f"network {ref} not found")
        return {"Name": "bridge"}

    async def create(self, request: NetworkCreate) -> dict[str, Any]:
        return {"Id": "n" * 64, "Warning": "", "Asked": [request.name, request.driver]}

    async def remove(self, ref: str) -> None:
        await self.inspect(ref)
        raise Forbidden(f"{ref} is a pre-defined network and cannot be removed")

    async def prune(self, filters: Filters) -> dict[str, Any]:
        return {"NetworksDeleted": None}

    async def attach(self, ref: str, request: ConnectRequest) -> None:
        await self.inspect(ref)
        self.changes.append((ref, request))

    async def detach(self, ref: str, request: DisconnectRequest) -> None:
        await self.inspect(ref)
        self.changes.append((ref, request))

    async def examine(self, ref: str, port: str) -> JsonList:
        return [{"ok": False, "text": f"{ref} {port}"}]


class FakeVolumes:
    """One volume, `data`."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    async def list(self, filters: Filters) -> dict[str, Any]:
        return {"Volumes": [{"Name": "data"}], "Warnings": None}

    async def inspect(self, name: str) -> dict[str, Any]:
        if name != "data":
            raise VolumeNotFound(f"get {name}: no such volume")
        return {"Name": name}

    async def create(self, name: str, driver: str, options: dict[str, str], labels: dict[str, str]) -> dict[str, Any]:
        return {"Name": name, "Driver": driver, "Options": options, "Labels": labels}

    async def export(self, name: str) -> AsyncIterator[bytes]:
        await self.inspect(name)

        async def archive() -> AsyncIterator[bytes]:
            yield b"a" * 1000

        return archive()

    async def import_(self, name: str, labels: dict[str, str], chunks: AsyncIterator[bytes]) -> dict[str, Any]:
        received = b"".join([chunk async for chunk in chunks])
        return {"Name": name, "Labels": labels, "Received": len(received)}

    async def clone(self, source: str, name: str, labels: dict[str, str]) -> dict[str, Any]:
        await self.inspect(source)
        return {"Name": name, "Labels": labels}

    async def remove(self, name: str, force: bool) -> None:
        self.calls.append(("remove", name, force))
        await self.inspect(name)

    async def prune(self, filters: Filters) -> dict[str, Any]:
        self.calls.append(("prune", filters))
        return {"VolumesDeleted": [], "SpaceReclaimed": 0}


class FakeSystem:
    """This machine, roughly."""

    async def info(self) -> dict[str, Any]:
        return {"ID": "x", "Containers": 1, "NCPU": 2, "OSType": "linux"}

    async def df(self, types: Any, version: tuple[int, ...]) -> dict[str, Any]:
        return {"types": list(types)}

    async def version(self) -> dict[str, Any]:
        return {
            "Version": "0.1.0",
            "GitCommit": "",
            "GoVersion": "",
            "Components": [{"Name": "Engine", "Version": "1"}],
        }

    async def ping(self) -> None:
        """Nothing to see to."""


class FakeEvents:
    """Two events, then silence unless `until` was given."""

    def __init__(self) -> None:
        self.closed = threading.Event()

    async def subscribe(self, since: int | None, until: int | None, filters: Filters) -> AsyncIterator[dict[str, Any]]:
        try:
            for action in ("create", "start"):
                yield {"Type": "container", "Action": action, "since": since, "until": until}
            if until is None:
                await asyncio.Event().wait()
        finally:
            self.closed.set()


class FakeServices:
    """One service."""

    async def listing(self) -> JsonList:
        return [{"Name": "web"}]

    async def inspect(self, name: str) -> Json:
        if name != "web":
            raise NotFound(f"No such service: {name}")
        return {"Name": name, "Members": []}

    async def statistics(self) -> JsonList:
        return [{"Service": "web", "Member": "", "Total": 3}]


class FakeEngine(SimpleNamespace):
    """The facade."""

    def __init__(self) -> None:
        super().__init__()
        self.tails: list[bytes] = []
        self.threads: list[threading.Thread] = []
        self.stream_errors: list[OSError] = []
        self.exited = threading.Event()
        self.containers = FakeContainers(self)
        self.images = FakeImages()
        self.build = FakeBuild()
        self.networks = FakeNetworks()
        self.volumes = FakeVolumes()
        self.services = FakeServices()
        self.system = FakeSystem()
        self.events = FakeEvents()
