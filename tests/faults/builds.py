"""A build that is run under a fault (`inject`): the real builder, its workers in forks of their own as in an engine.

Only what a RUN does is told here: `write` makes one file in the step's root. Sandboxes are killed in `tests/build`.
"""

import array
import asyncio
import io
import json
import os
import signal
import socket
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from tests.faults.trap import begin
from tests.images.conftest import Store
from wherry.builder.build import Build, Builder
from wherry.builder.cache.store import Cache
from wherry.builder.contexts import context as contexts
from wherry.builder.ports import Output, Task, Terminal
from wherry.builder.request import Request
from wherry.errors import from_wire, to_wire
from wherry.images.model import Image
from wherry.linux.libc import check, libc
from wherry.monitor.workers import KINDS
from wherry.snapshots.mounted import join_layers, leave_host

CONTENT = "x" * 70_000
DOCKERFILE = """FROM kept
COPY f /0
RUN ["write", "/1"]
LABEL a=b
"""
_DIE_WITH_PARENT = 1
_LIMIT = 1 << 20


def _write(args: dict[str, Any], _fds: Mapping[str, int]) -> dict[str, Any]:
    """What a RUN does: a file in its root."""
    leave_host()
    root = join_layers(args["root"], args["at"])
    fd = os.open(args["path"].lstrip("/"), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644, dir_fd=root)
    with os.fdopen(fd, "w") as file:
        file.write(CONTENT)
    return {}


class Workers:
    """A process that forks a worker for each request, and dies with us: the place of an engine's spawner."""

    def __init__(self) -> None:
        self._ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        if os.fork() == 0:
            self._ours.close()
            check(libc.prctl(_DIE_WITH_PARENT, signal.SIGKILL, 0, 0, 0), "prctl")
            _serve(theirs)
        theirs.close()
        self._one = asyncio.Lock()

    async def run(self, kind: str, args: dict[str, Any], fds: Mapping[str, int]) -> dict[str, Any]:
        """Run one worker to its end; raises its error."""
        async with self._one:
            asked = json.dumps([kind, args, list(fds)]).encode()
            given = array.array("i", fds.values()).tobytes()
            self._ours.sendmsg([asked], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, given)] if fds else [])
            answer = json.loads(await asyncio.to_thread(self._ours.recv, _LIMIT))
        if "error" in answer:
            raise from_wire(answer["error"])
        result: dict[str, Any] = answer["ok"]
        return result

    def close(self) -> None:
        """End it."""
        self._ours.close()
        os.wait()


def _serve(channel: socket.socket) -> None:
    kinds = {**KINDS, "write": _write}
    while True:
        data, ancillary, _, _ = channel.recvmsg(_LIMIT, socket.CMSG_SPACE(64))
        if not data:
            os._exit(0)
        given = array.array("i")
        for _, _, part in ancillary:
            given.frombytes(part)
        kind, args, names = json.loads(data)
        worker = os.fork()
        if worker == 0:
            check(libc.prctl(_DIE_WITH_PARENT, signal.SIGKILL, 0, 0, 0), "prctl")
            try:
                answer = {"ok": kinds[kind](args, dict(zip(names, given, strict=True))) or {}}
            except BaseException as error:  # noqa: BLE001 (told to whoever asked)
                answer = {"error": to_wire(error)}
            channel.send(json.dumps(answer).encode())
            os._exit(0)
        for fd in given:
            os.close(fd)
        os.waitpid(worker, 0)


@contextmanager
def building(root: str) -> Iterator[tuple[Store, Cache]]:
    """Open a data root and its cache of steps, as an engine that starts does."""
    os.makedirs(f"{root}/build", exist_ok=True)
    store = Store(root)
    stores = store.images._stores
    cache = Cache(store.database, stores)
    stores.holders.append(cache)
    store.run(store.images.recover())
    store.run(store.images.collect())
    try:
        yield store, cache
    finally:
        store.close()
        store.run(store.loop.shutdown_default_executor())
        store.loop.close()


def build(arguments: dict[str, Any]) -> None:
    """Build `DOCKERFILE` as `app`; each step that has ended is a line of the file `log`."""
    workers = Workers()
    with building(arguments["root"]) as (store, cache), open(arguments["log"], "a", buffering=1) as log:
        begin()
        try:
            store.run(_build(arguments["root"], store, cache, workers, log))
        finally:
            workers.close()


async def _build(root: str, store: Store, cache: Cache, workers: Workers, log: io.TextIOBase) -> None:
    async def run(task: Task, output: Output, terminal: Terminal | None = None) -> int:
        output(1, b"writing\n")
        at = f"{root}/run/build/task"
        os.makedirs(at, exist_ok=True)
        await workers.run("write", {"root": task.root[0].to_json(), "at": at, "path": task.args[1]}, {})
        return 0

    async def find(name: str, platform: str, pull: bool, tell: Any) -> Image:
        assert not platform and not pull and callable(tell)
        return store.images.resolve(name)

    def sink(message: dict[str, Any]) -> None:
        for vertex in message.get("vertexes", ()):
            if vertex.get("completed") and not vertex.get("error"):
                log.write(f"{'cached' if vertex.get('cached') else 'done'} {vertex['name']}\n")

    async def nothing(*_: Any) -> Any:
        raise AssertionError("nothing is fetched")

    async def chunks() -> Any:
        yield _archive()

    stores = store.images._stores
    builder = Builder(stores, cache, f"{root}/build", run_worker=workers.run, run_task=run, find_image=find)
    tree = await contexts.receive(store.overlay, workers.run, chunks())
    try:
        await Build(builder, Request(tags=["app"]), tree, sink, fetch=nothing).run()
    finally:
        if tree.path:
            store.overlay.abandon(tree.path)


def _archive() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, text in (("Dockerfile", DOCKERFILE), ("f", CONTENT)):
            info = tarfile.TarInfo(name)
            info.size = len(text)
            archive.addfile(info, io.BytesIO(text.encode()))
    return out.getvalue()
