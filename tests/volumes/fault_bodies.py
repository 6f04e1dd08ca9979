"""Operations on volumes that are run under a fault (`tests.faults.inject`), and an engine's start without an engine."""

import asyncio
import os
import shutil
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

from tests.faults.trap import begin
from wherry.config import EngineConfig
from wherry.containers import create, data, records, remove
from wherry.containers.context import Context, Machine
from wherry.containers.model import Container
from wherry.errors import WherryError
from wherry.oci.mount import Mount
from wherry.paths import Roots
from wherry.store.atomic import discard, sweep_temporary
from wherry.volumes.store import Volumes
from wherry.wire.containers import CreateRequest, HostConfig

IMAGE = SimpleNamespace(
    id="sha256:" + "1" * 64, chain_ids=["sha256:" + "2" * 64], names=["img:latest"], size=1, raw_config=b"{}"
)


class Engine:
    """As much of an engine as makes and removes containers with volumes; it recovers as one does."""

    def __init__(self, root: str) -> None:
        self.roots = Roots(root, f"{root}/run")
        self.condemned: list[str] = []
        for path in (self.roots.containers, self.roots.trash):
            os.makedirs(path, exist_ok=True)
        self.volumes = Volumes(self.roots, self.condemned.append)
        self.context = Context(
            roots=self.roots,
            config=EngineConfig(),
            machine=Machine(capabilities=frozenset(), cgroup_version="v1", cpus=1, memory=1 << 30, tini=None),
            resolve_image=lambda _: IMAGE,
            layers=SimpleNamespace(mounts=lambda *_, **__: [Mount("/", "overlay", "overlay", ())]),
            volumes=self.volumes,
            spawn=_never,
            adopt=_never,
            run_worker=self._work,
            connect=_never,
            restore=lambda *_: None,  # type: ignore[arg-type]
            check_networks=lambda _: None,
            renamed=_never,
            publish=lambda *_: None,
            trash=lambda path: _trash(path, self.roots.trash),
        )
        wrong = self.volumes.load(self._wanted)
        assert wrong == [], wrong
        for id_ in sorted(os.listdir(self.roots.containers)):
            directory = self.roots.container(id_)
            if not os.path.exists(f"{directory}/container.json"):
                self.context.trash(directory)
                continue
            sweep_temporary(directory)
            record = records.load(self.roots, id_)
            self.context.registry.reserve(record.name, id_)
            self.context.registry.add(Container(record))

    def _wanted(self, id_: str) -> set[str]:
        try:
            return data.names_of(records.load(self.roots, id_))
        except WherryError:
            return set()

    async def _work(self, _kind: str, args: dict[str, Any], fds: Any, _progress: Any = None) -> dict[str, Any]:
        for item in args["items"]:
            if item["how"] == "here":
                os.close(os.open("filled", os.O_WRONLY | os.O_CREAT, 0o600, dir_fd=fds[item["fd"]]))
        return {}

    def sweep(self) -> None:
        """Delete what nobody needs, as the worker for that does."""
        for path in [*self.condemned, *(f"{self.roots.trash}/{name}" for name in os.listdir(self.roots.trash))]:
            shutil.rmtree(path, ignore_errors=True)


def _trash(path: str, trash: str) -> None:
    discard(path, trash)


async def _never(*_: Any, **__: Any) -> Any:
    raise AssertionError("nothing is started here")


def _run(operation: Callable[[], Awaitable[object]]) -> None:
    async def run() -> None:
        await operation()

    asyncio.run(run())


def make_volume(arguments: dict[str, Any]) -> None:
    """Make the volume `new`."""
    engine = Engine(arguments["root"])
    begin()
    engine.volumes.create("new", {"a": "b"}, {"type": "tmpfs", "device": "tmpfs"})


def remove_volume(arguments: dict[str, Any]) -> None:
    """Remove the volume `old`."""
    engine = Engine(arguments["root"])
    begin()
    engine.volumes.remove("old")


def make_container(arguments: dict[str, Any]) -> None:
    """Make a container with a new volume, one that is there, and one that nobody named."""
    engine = Engine(arguments["root"])
    request = CreateRequest(cmd=["true"], image="img", volumes={"/anon": {}})
    request.host_config = HostConfig(binds=["new:/new", "old:/old"])
    begin()
    _run(lambda: create.create(engine.context, request, "box"))


def remove_container(arguments: dict[str, Any]) -> None:
    """Remove the container `box` with its anonymous volumes."""
    engine = Engine(arguments["root"])
    begin()
    _run(lambda: remove.remove(engine.context, engine.context.registry.find("box"), volumes=True))
