"""Operations on containers that are run under a fault (`inject`): the verbs themselves, without monitors."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

from tests.faults.trap import begin
from wherry.config import EngineConfig
from wherry.containers import adopt, create, remove, update
from wherry.containers.context import Context
from wherry.containers.model import Container
from wherry.engine import machine, storage
from wherry.engine.containers import Containers
from wherry.paths import Roots
from wherry.store.atomic import discard
from wherry.volumes.store import Volumes
from wherry.wire.containers import CreateRequest, HostConfig, RestartPolicy, UpdateRequest

_IMAGE = SimpleNamespace(
    id="sha256:" + "0" * 64, chain_ids=["sha256:" + "1" * 64], names=["app:latest"], size=1, raw_config=b'{"config":{}}'
)


def context_of(root: str) -> Context:
    """The wiring of an engine over `root` that starts nothing."""
    roots = Roots(f"{root}/data", f"{root}/run")
    storage.prepare(roots)

    def nothing(*_: object, **__: object) -> Any:
        return None

    async def later(*_: object) -> None:
        return None

    def trash(path: str) -> None:
        discard(path, roots.trash)

    return Context(
        roots=roots,
        config=EngineConfig(),
        machine=machine.look(),
        resolve_image=lambda _name: cast("Any", _IMAGE),
        layers=cast("Any", None),
        volumes=Volumes(roots, nothing),
        spawn=nothing,
        adopt=nothing,
        run_worker=nothing,
        connect=nothing,
        restore=nothing,
        check_networks=nothing,
        renamed=later,
        publish=nothing,
        trash=trash,
    )


async def _adopted(root: str) -> Context:
    context = context_of(root)
    await adopt.adopt_all(context)
    return context


def containers_of(root: str) -> dict[str, Container]:
    """What an engine that starts finds, by name."""

    async def found() -> dict[str, Container]:
        context = await _adopted(root)
        return {container.name: container for container in context.registry}

    return asyncio.run(found())


def _request() -> CreateRequest:
    policy = RestartPolicy("always")
    return CreateRequest(image="app", cmd=["true"], host_config=HostConfig(restart_policy=policy, network_mode="none"))


def make(arguments: dict[str, Any]) -> None:
    """Create the container `name`."""

    async def body() -> None:
        context = await _adopted(arguments["root"])
        begin()
        await create.create(context, _request(), arguments["name"])

    asyncio.run(body())


def drop(arguments: dict[str, Any]) -> None:
    """Remove it."""

    async def body() -> None:
        context = await _adopted(arguments["root"])
        container = context.registry.find(arguments["name"])
        begin()
        await remove.remove(context, container)

    asyncio.run(body())


def change(arguments: dict[str, Any]) -> None:
    """Give it another policy, with a count."""

    async def body() -> None:
        context = await _adopted(arguments["root"])
        container = context.registry.find(arguments["name"])
        begin()
        await update.update(context, container, UpdateRequest(restart_policy=RestartPolicy("on-failure", 7)))

    asyncio.run(body())


def call(arguments: dict[str, Any]) -> None:
    """Give it another name."""

    async def body() -> None:
        context = await _adopted(arguments["root"])
        begin()
        await Containers(context).rename(arguments["name"], arguments["other"])

    asyncio.run(body())
