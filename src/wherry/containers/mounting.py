"""What a start mounts besides the root: the points of a container as mounts, and the descriptors behind them.

A volume that is a file system of its own (`volumes.options.needs_mount`) is mounted by a worker in a namespace of its
own. Nobody but the monitors of its users holds that: the next user asks one of them for it.
"""

import asyncio
import os
from typing import Any

from wherry.containers import data, userns
from wherry.containers.context import Context
from wherry.containers.model import Container
from wherry.containers.points import Point
from wherry.errors import InvalidArgument, KernelError, NotFound, WherryError
from wherry.linux.channel import pair
from wherry.linux.files import O_PATH, RESOLVE_BENEATH, open_in_root
from wherry.oci.mount import Mount
from wherry.runtime.idmaps import as_root
from wherry.volumes import options as driver_options
from wherry.volumes.store import Volume


class Opened:
    """What a launch is given: `mounts` for the configuration, `sources` by target for the monitor, `fds` for both.

    `hold:<volume>` descriptors stay with the monitor.
    """

    def __init__(self) -> None:
        self.mounts: list[Mount] = []
        self.sources: dict[str, dict[str, Any]] = {}
        self.fds: dict[str, int] = {}
        self.lock: asyncio.Lock | None = None

    def close(self) -> None:
        """Close this process's copies."""
        for fd in self.fds.values():
            os.close(fd)
        self.fds = {}
        if self.lock is not None:
            self.lock.release()
            self.lock = None


async def open_all(context: Context, container: Container, *, start: bool = True) -> Opened:
    """Open what is mounted in a container.

    Args:
        start: it is for a start: an event is told of each volume, and owners are shown as the container's user
            namespace has them. Else they are as on the disk.

    Returns:
        The caller closes it once the monitor has its copies.

    Raises:
        InvalidArgument, NotFound: a source is not there (any more), in dockerd's words.
        KernelError: a volume cannot be mounted.
    """
    opened = Opened()
    try:
        for point in data.points(container.record):
            if point.type == "bind":
                data.prepare_bind(point)
                opened.mounts.append(point.bound(point.source))
                if point.idmap:
                    _map_owners(point, opened)
            elif point.type == "image":
                layers = context.layers.mounts(point.chain_ids or [], None, None)[0]
                if point.subpath:
                    place = {"path": context.roots.sandboxes, "subpath": point.subpath}
                    opened.sources[point.target] = {"overlay": layers.to_json(), **place}
                    opened.mounts.append(point.bound(f"{point.source}:{point.subpath}"))
                else:
                    opened.mounts.append(Mount(point.target, layers.type, layers.source, layers.options))
            elif point.type == "volume":
                await _volume(context, container, point, opened, start)
    except BaseException:
        opened.close()
        raise
    for point in data.points(container.record):
        if start and point.type == "volume":
            attributes = {
                "destination": point.target,
                "propagation": "",
                "read/write": str(not point.read_only).lower(),
            }
            context.publish("volume", "mount", point.name, {"container": container.id, "driver": "local", **attributes})
    return opened


def let_go(context: Context, container: Container) -> None:
    """Tell that a container's volumes are not mounted any more; what is to be unmounted went with its monitor."""
    for name in sorted(data.names_of(container.record)):
        context.publish("volume", "unmount", name, {"container": container.id, "driver": "local"})


def _map_owners(point: Point, opened: Opened) -> None:
    """A bind whose files belong to root here and to somebody else on the host."""
    name = f"mount:{point.target}"
    try:
        opened.fds[name] = os.open(point.source, O_PATH | os.O_CLOEXEC)
    except OSError as error:
        raise KernelError("open", error.errno or 0, point.source) from None
    uid, gid = (int(part) for part in point.idmap.split(":"))
    opened.sources[point.target] = {"fd": name, "uid_map": as_root(uid), "gid_map": as_root(gid)}


async def _volume(context: Context, container: Container, point: Point, opened: Opened, start: bool) -> None:
    volume = context.volumes.find(point.name)
    if volume is None:
        volume = await _anew(context, point)
    settings = volume.options or {}
    directory = context.volumes.data(point.name)
    fd_name = f"mount:{point.target}"
    if driver_options.needs_mount(settings):
        held = f"hold:{point.name}"
        if opened.lock is None:
            # of two that start at once the second finds what the first has mounted
            await context.mounting.acquire()
            opened.lock = context.mounting
        if held not in opened.fds:
            opened.fds[held] = await namespace_of(context, container, volume)
        opened.sources[point.target] = {"fd": held, "path": directory, "subpath": point.subpath}
    elif driver_options.is_bind(settings):
        directory = settings["device"]
        _check_device(context, volume)
        if "ro" in driver_options.words(settings) and not point.read_only:
            point = data.replaced(point, read_only=True)
    maps = userns.lines(container.record.userns if start else None)
    if any(maps) and point.target not in opened.sources and not point.subpath:
        opened.fds[fd_name] = os.open(directory, O_PATH | os.O_CLOEXEC)
        opened.sources[point.target] = {"fd": fd_name}
    if point.subpath and point.target not in opened.sources:
        opened.fds[fd_name] = _subpath(directory, point.subpath)
        opened.sources[point.target] = {"fd": fd_name}
    if any(maps):
        opened.sources[point.target] |= {"uid_map": maps[0], "gid_map": maps[1]}
    shown = f"{directory}/{point.subpath}" if point.subpath else directory
    opened.mounts.append(point.bound(shown))


async def _anew(context: Context, point: Point) -> Volume:
    """A volume that is gone: of one that nobody named the next start makes an empty one; a named one is missed."""
    if not point.anonymous:
        raise NotFound(f"get {point.name}: no such volume")
    described = data.described(point)
    loop = asyncio.get_running_loop()
    volume, _ = await loop.run_in_executor(
        None, context.volumes.create, described.name, described.labels, described.options
    )
    return volume


def _check_device(context: Context, volume: Volume) -> None:
    device = (volume.options or {})["device"]
    if not os.path.isdir(device):
        reason = "no such file or directory" if not os.path.lexists(device) else "not a directory"
        place = context.volumes.data(volume.name)
        raise InvalidArgument(
            f"error while mounting volume '{place}': failed to mount local volume: "
            f"mount {device}:{place}, flags: 0x1000: {reason}"
        )


def _subpath(directory: str, subpath: str) -> int:
    """Open what lies in a volume. A container may have written it: no link leads out of it."""
    shown = f"{directory}/{subpath}"
    try:
        top = os.open(directory, O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            return open_in_root(top, subpath, O_PATH, resolve=RESOLVE_BENEATH)
        finally:
            os.close(top)
    except KernelError as error:
        reason = os.strerror(error.errno or 0).lower()
        raise InvalidArgument(f"cannot access path {shown}: lstat {shown}: {reason}") from None


async def namespace_of(context: Context, container: Container | None, volume: Volume) -> int:
    """The namespace in which a volume is mounted: of another user than `container`, or a new one.

    Raises:
        KernelError: it cannot be mounted.
    """
    for other in context.registry:
        if other is container or other.monitor is None or volume.name not in data.names_of(other.record):
            continue
        try:
            reply = await other.monitor.request("state")
            number = (reply["state"].get("held") or {}).get(volume.name)
            if number is not None:
                return os.open(f"/proc/{other.monitor.pid}/fd/{number}", os.O_RDONLY | os.O_CLOEXEC)
        except (WherryError, OSError):
            continue  # it is ending, and what it held with it
    loop = asyncio.get_running_loop()
    request: dict[str, Any] = await loop.run_in_executor(None, driver_options.mount_request, volume.options or {})
    ours, theirs = pair()
    try:
        target = context.volumes.data(volume.name)
        await context.run_worker("mount-volume", {**request, "target": target}, {"channel": theirs.fileno()})
        theirs.close()
        received = ours.receive()
    finally:
        ours.close()
        theirs.close()
    if received is None or "namespace" not in received[1]:
        raise WherryError(f"volume {volume.name} could not be mounted")
    return received[1]["namespace"]
