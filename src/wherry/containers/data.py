"""The data of a container: which volumes and paths it gets when it is made, and who uses a volume.

A volume that is made with a container becomes one with it: it is staged, filled with what the image has at its place,
and `container.json` decides. Killed anywhere in between, the engine finds both or neither (`volumes.store`).
"""

import asyncio
import os
from typing import Any

from wherry.containers import binds
from wherry.containers.context import Context
from wherry.containers.model import Container, Record
from wherry.containers.points import Point
from wherry.errors import ContainerNotFound, InvalidArgument, WherryError
from wherry.volumes import names
from wherry.volumes import options as driver_options
from wherry.volumes.store import ANONYMOUS, Volume, Volumes
from wherry.wire.containers import Config, HostConfig


def points(record: Record) -> list[Point]:
    """The mount points of a container, of whatever version its record is."""
    if record.mounts is None:
        # written before there were volumes: `-v /x` and VOLUME lie in its own layer
        record.mounts = [point for point in binds.parse(record.host_config) if point.type != "volume"]
    return record.mounts


def shown(context: Context, record: Record) -> list[dict[str, Any]]:
    """`Mounts` of inspect and list."""
    return [point.shown(context.volumes.data(point.name)) for point in points(record)]


def users(context: Context, name: str, *, but: Container | None = None) -> list[str]:
    """Ids of the containers that have the volume, running or not; `but` does not count."""
    return [
        container.id
        for container in context.registry
        if container is not but and any(point.name == name for point in container.record.mounts or ())
    ]


def names_of(record: Record) -> set[str]:
    """The volumes that a container has."""
    return {point.name for point in points(record) if point.type == "volume"}


# -- what a new container gets


def gather(context: Context, config: Config, host: HostConfig) -> list[Point]:
    """Join what others give (`--volumes-from`), what was asked for, and what the image declares, as dockerd does.

    Later ones take the place of earlier ones at the same target; what the image declares gives way to all.

    Raises:
        InvalidArgument, NotSupported: as `binds.parse`, and for a container that is not there.
        ImageNotFound: of a mounted image.
    """
    found: dict[str, Point] = {}
    for text in host.volumes_from or []:
        reference, mode = binds.parse_volumes_from(text)
        try:
            source = context.registry.find(reference)
        except ContainerNotFound as error:
            # no 404, as dockerd: the docker command would take it for a missing image, and pull that
            raise InvalidArgument(error.message) from None
        for point in points(source.record):
            if point.type == "tmpfs":
                continue
            read_only = point.read_only or "ro" in mode.split(",")
            found[point.target] = replaced(point, mode="", read_only=read_only, copy=False)
    for point in binds.parse(host):
        if point.type == "image":
            image = context.resolve_image(point.source)
            found[point.target] = replaced(point, chain_ids=list(image.chain_ids))
        else:
            found[point.target] = point
    taken = {os.path.normpath(target) for target in host.tmpfs or {}}
    for target in binds.anonymous_targets(config.volumes):
        if target not in found and target not in taken:
            found[target] = Point("volume", target, anonymous=True)
    for point in found.values():
        if point.type == "volume" and not point.name:
            point.name = names.anonymous()
    return list(found.values())


def replaced(point: Point, **changes: Any) -> Point:
    """A copy of a point with other values."""
    return Point(**{name: changes.get(name, getattr(point, name)) for name in Point.__struct_fields__})


def prepare_bind(point: Point) -> None:
    """Make a missing source directory, as `docker run -v` does, or refuse.

    Raises:
        InvalidArgument: the source is not there and must be.
    """
    if os.path.lexists(point.source):
        return
    if not point.create:
        raise InvalidArgument(f'invalid mount config for type "bind": bind source path does not exist: {point.source}')
    try:
        os.makedirs(point.source, exist_ok=True)
    except OSError as error:
        raise InvalidArgument(
            f"error while creating mount source path '{point.source}': mkdir {point.source}: "
            f"{(error.strerror or str(error)).lower()}"
        ) from None


async def stage(context: Context, record: Record) -> list[str]:
    """Make the binds' sources and, staged, the volumes that are not there yet; fill those that are empty.

    Returns:
        Names of the staged volumes, for `settle` or `drop`.

    Raises:
        InvalidArgument: a path or an option cannot be.
        WherryError: a volume could not be filled; nothing is left of those that were staged.
    """
    loop = asyncio.get_running_loop()
    for point in record.mounts or ():
        if point.type == "bind":
            prepare_bind(point)
    staged: dict[str, str] = {}
    try:
        for point in record.mounts or ():
            if point.type == "volume" and point.name not in staged and context.volumes.find(point.name) is None:
                volume = described(point)
                staged[point.name] = await loop.run_in_executor(None, context.volumes.stage, record.id, volume)
        await _fill(context, record, staged)
    except BaseException:
        drop(context, record, list(staged))
        raise
    return list(staged)


def described(point: Point) -> Volume:
    """The volume that a point names, not made yet."""
    labels = {**(point.labels or {}), **({ANONYMOUS: ""} if point.anonymous else {})}
    return Volumes.described(point.name, labels, point.options)


async def settle(context: Context, record: Record, staged: list[str]) -> None:
    """The container's record is written: make its volumes volumes, and tell."""
    if not staged:
        return
    made = await asyncio.get_running_loop().run_in_executor(None, context.volumes.adopt_staged, record.id, staged)
    for volume in made:
        context.publish("volume", "create", volume.name, {"driver": "local"})


def drop(context: Context, record: Record, staged: list[str]) -> None:
    """The container came to nothing."""
    context.volumes.drop_staged(record.id, staged)


async def _fill(context: Context, record: Record, staged: dict[str, str]) -> None:
    """Hand every empty volume that wants a copy to the worker that makes it."""
    items: list[dict[str, Any]] = []
    fds: dict[str, int] = {}
    try:
        for point in record.mounts or ():
            if point.type != "volume" or not point.copy:
                continue
            item = _item(context, record, point, staged)
            if item is None:
                continue
            where, how = item
            name = f"volume{len(items)}"
            fds[name] = os.open(where, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            items.append({"target": point.target, "fd": name, **how})
        if items:
            root = context.layers.mounts(record.chain_ids, None, None)[0]
            await context.run_worker(
                "populate", {"root": root.to_json(), "place": context.roots.sandboxes, "items": items}, fds
            )
    except OSError as error:
        raise WherryError(f"failed to populate volume: {error}") from error
    finally:
        for fd in fds.values():
            os.close(fd)


def _item(context: Context, record: Record, point: Point, staged: dict[str, str]) -> tuple[str, dict[str, Any]] | None:
    """Where a volume is filled, and how; None where there is nothing to do."""
    known = context.volumes.find(point.name)
    settings = (point.options if known is None else known.options) or {}
    if driver_options.needs_mount(settings):
        # a file system of its own is another machine's, or begins empty at each start
        return None
    if driver_options.is_bind(settings):
        where = settings["device"]
        return (where, {"how": "here"}) if os.path.isdir(where) and not os.listdir(where) else None
    if point.name in staged:
        return f"{staged[point.name]}/_data", {"how": "here"}
    data = context.volumes.data(point.name)
    if os.listdir(data):
        return None
    # filled beside it, so that a crash leaves it empty or full; one that a container sees may not change its place
    seen = any(
        container.running and any(other.name == point.name for other in points(container.record))
        for container in context.registry
        if container.id != record.id
    )
    return context.volumes.path(point.name), {"how": "entries" if seen else "whole"}


# -- the end


async def remove_anonymous(context: Context, container: Container) -> None:
    """Take away the volumes that nobody named and nobody else uses."""
    loop = asyncio.get_running_loop()
    for point in points(container.record):
        if point.type != "volume" or not point.anonymous or context.volumes.find(point.name) is None:
            continue
        if point.name in context.claims or users(context, point.name, but=container):
            continue
        await loop.run_in_executor(None, context.volumes.remove, point.name)
        context.publish("volume", "destroy", point.name, {"driver": "local"})
