"""An engine without containers: it answers like one, and its streams really run over the client's socket."""

import asyncio
import threading
from collections.abc import AsyncGenerator, AsyncIterator
from types import SimpleNamespace
from typing import Any

from wherry.errors import (
    Forbidden,
    NetworkNotFound,
    NotFound,
    VolumeNotFound,
)
from wherry.wire.networks import ConnectRequest, DisconnectRequest, NetworkCreate

from .fake_containers import FakeContainers, Filters, Json, JsonList
from .fake_images import FakeBuild, FakeImages


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

    async def export(self, name: str) -> AsyncGenerator[bytes, None]:
        await self.inspect(name)

        async def archive() -> AsyncGenerator[bytes, None]:
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

    async def subscribe(
        self, since: int | None, until: int | None, filters: Filters
    ) -> AsyncGenerator[dict[str, Any], None]:
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
