"""The wiring of the verbs: everything they need of others, in one value made by `engine/`."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from wherry.config import EngineConfig
from wherry.containers.claims import Claims
from wherry.containers.model import Container, Exec, Record
from wherry.containers.ports import Image, Layers, SandboxNetwork
from wherry.containers.records import Registry
from wherry.errors import NotSupported
from wherry.paths import Roots
from wherry.proxy.labels import Service
from wherry.sandbox.ports import AdoptMonitor, RunWorker, SpawnMonitor
from wherry.volumes.store import Volumes


class ResolveImage(Protocol):
    """Find an image by name or id; raises `ImageNotFound`, `AmbiguousPrefix`."""

    def __call__(self, name_or_id: str) -> Image: ...


class ConnectSandbox(Protocol):
    """Allot what a container's network mode asks for: addresses, host ports, or another's namespace."""

    async def __call__(self, container: Container) -> SandboxNetwork: ...


class RestoreSandbox(Protocol):
    """Take back, after a crash, what a live sandbox holds (`SandboxNetwork.to_json`)."""

    def __call__(self, container: Container, saved: Mapping[str, Any]) -> SandboxNetwork: ...


class Machine:
    """What this host can do, looked up once."""

    __slots__ = ("capabilities", "cgroup_version", "cpus", "memory", "tini")

    def __init__(
        self, *, capabilities: frozenset[str], cgroup_version: str, cpus: int, memory: int, tini: str | None
    ) -> None:
        self.capabilities = capabilities
        self.cgroup_version = cgroup_version
        self.cpus = cpus
        self.memory = memory
        self.tini = tini


class Context:
    """What every verb is given.

    Args:
        roots: where files lie.
        config: the engine's settings.
        machine: what this host can do.
        publish: takes an event (`type`, `action`, `id`, attributes) for the event stream; of what happened while no
            engine was there also when (nanoseconds).
    """

    def __init__(
        self,
        *,
        roots: Roots,
        config: EngineConfig,
        machine: Machine,
        resolve_image: ResolveImage,
        layers: Layers,
        volumes: Volumes,
        spawn: SpawnMonitor,
        adopt: AdoptMonitor,
        run_worker: RunWorker,
        connect: ConnectSandbox,
        restore: RestoreSandbox,
        check_networks: Callable[[Record], None],
        renamed: Callable[[Container, str], Awaitable[None]],
        publish: Callable[..., None],
        trash: Callable[[str], None],
    ) -> None:
        self.roots = roots
        self.config = config
        self.machine = machine
        self.resolve_image = resolve_image
        self.layers = layers
        self.volumes = volumes
        self.claims = Claims()
        # from the look for a mounted volume until the monitor that holds it is there
        self.mounting = asyncio.Lock()
        self.spawn = spawn
        self.adopt = adopt
        self.run_worker = run_worker
        self.connect = connect
        self.restore = restore
        self.check_networks = check_networks
        self.renamed = renamed
        self.publish = publish
        self.trash = trash
        self.registry = Registry()
        self.execs: dict[str, Exec] = {}
        self.closing = False
        self.adopted = asyncio.Event()
        """Not set while an engine takes over what lives: nothing is started again meanwhile."""
        self.adopted.set()
        self.start_again: Callable[[Container], Awaitable[None]] = _unwired
        self.check_service: Callable[[Service], None] = _no_services
        """Raises when no container of that service may be created."""
        self.leave_service: Callable[[Container], Awaitable[None]] = _unserved
        """Called before a container is told to stop; returns when nothing more is asked of it."""

    def event(self, container: Container, action: str, happened: int | None = None, **attributes: str) -> None:
        """Tell the event stream what happened to a container; `happened` says when, if it was while no engine was."""
        labels = container.record.config.labels or {}
        told = {**labels, "image": container.record.config.image, "name": container.name, **attributes}
        if happened is None:
            self.publish("container", action, container.id, told)
        else:
            self.publish("container", action, container.id, told, happened)


def _no_services(service: Service) -> None:
    raise NotSupported(f"there is no load balancer here for service {service.name}")


async def _unserved(_container: Container) -> None:
    return None


async def _unwired(container: Container) -> None:
    raise RuntimeError(f"nobody restarts containers here: {container.id}")
