"""Checkpoints: a running container's processes written to disk, listed, removed, and started from.

They lie in `containers/<id>/checkpoints/<name>`, or below a directory that the caller names. A directory there is a
checkpoint if it has our manifest: nothing else is listed, started from or removed.
"""

import asyncio
import os
import shutil
from collections.abc import Callable
from typing import Any, TypeVar

from wherry.containers import criu, names, restart
from wherry.containers.context import Context
from wherry.containers.model import Container
from wherry.errors import Conflict, InvalidArgument, NotFound, NotRunning, NotSupported, WherryError
from wherry.store.atomic import fsync_dir

MANIFEST = "wherry.json"

T = TypeVar("T")


class Source:
    """What a start is restored from: the checkpoint's directory, and the program that does it."""

    __slots__ = ("directory", "program")

    def __init__(self, directory: str, program: list[str]) -> None:
        self.directory = directory
        self.program = program


async def create(
    context: Context, container: Container, ref: str, name: str, directory: str = "", *, leave: bool = True
) -> None:
    """Write a checkpoint; the container is frozen meanwhile, and whatever goes wrong, it goes on as it was.

    Args:
        ref: as the caller names the container.
        name: the checkpoint's.
        directory: absolute, for one outside of the container's own.
        leave: the container goes on; else it is killed once the checkpoint is durable.

    Raises:
        NotRunning, InvalidArgument, Conflict: in dockerd's words.
        NotSupported: the container has what cannot be restored.
        WherryError: there is no CRIU that works here, or it failed: then with the path of its log.
    """
    async with container.lock:
        if not container.running or container.monitor is None:
            raise NotRunning(f"container {container.id} is not running")
        if not _is_name(name):
            raise InvalidArgument(f"Invalid checkpoint ID ({name}), only {_ALLOWED} are allowed")
        try:
            _check_container(container)
            program = await criu.find()
        except WherryError as error:
            raise type(error)(f"Cannot checkpoint container {ref}: {error.message}") from None
        parent = _parent(context, container, directory)
        await _off_loop(lambda: _make(parent, name, ref))
        try:
            if not leave:
                # before the end, or its policy would start it again
                container.stopping = True
                await restart.want(context, container, "stopped")
            await container.monitor.request(
                "checkpoint",
                directory=parent,
                name=name,
                exit=not leave,
                criu=program,
                log=_log(context, container, "dump"),
            )
        except WherryError as error:
            if not leave and container.running:
                container.stopping = False
                await restart.want(context, container, "running")
            raise type(error)(f"Cannot checkpoint container {ref}: {error.message}") from None
        context.event(container, "checkpoint")
    if not leave:
        await container.settled.wait()


async def listing(context: Context, container: Container, ref: str, directory: str = "") -> list[dict[str, Any]]:
    """Name a container's checkpoints, by name.

    Raises:
        NotFound, InvalidArgument: `directory` is not there, or not absolute.
    """
    parent = _parent(context, container, directory)

    def look() -> list[dict[str, Any]]:
        try:
            found = sorted(entry.name for entry in os.scandir(parent) if _is_checkpoint(parent, entry.name))
        except FileNotFoundError:
            if directory:
                raise NotFound(f"checkpoint  does not exist for container {ref}") from None
            found = []
        except NotADirectoryError:
            raise InvalidArgument(f"{parent} exists and is not a directory") from None
        return [{"Name": name} for name in found]

    return await _off_loop(look)


async def remove(context: Context, container: Container, ref: str, name: str, directory: str = "") -> None:
    """Remove a checkpoint: by one rename, then its files.

    Raises:
        NotFound: there is none of that name, in dockerd's words.
    """
    parent = _parent(context, container, directory)
    async with container.lock:

        def discard() -> None:
            _existing(parent, name, ref)
            going = f"{parent}/.{container.id[:12]}-removed-{name}"
            shutil.rmtree(going, ignore_errors=True)
            os.rename(f"{parent}/{name}", going)
            fsync_dir(parent)
            shutil.rmtree(going)

        await _off_loop(discard)


async def source(context: Context, container: Container, name: str, directory: str = "") -> Source:
    """What a start from a checkpoint needs.

    Raises:
        NotFound, InvalidArgument: there is no such checkpoint, in dockerd's words.
        NotSupported: the container has what cannot be restored.
        WherryError: there is no CRIU that works here.
    """
    parent = _parent(context, container, directory)
    await _off_loop(lambda: _existing(parent, name, f"/{container.name}"))
    try:
        _check_container(container)
        return Source(f"{parent}/{name}", await criu.find())
    except WherryError as error:
        raise type(error)(f"OCI runtime restore failed: {error.message}: unknown") from None


def launch_part(context: Context, container: Container, source: Source) -> dict[str, Any]:
    """What a launch that restores has besides (`monitor.sandbox`)."""
    return {"checkpoint": source.directory, "criu": source.program, "criu_log": _log(context, container, "restore")}


_ALLOWED = "[a-zA-Z0-9][a-zA-Z0-9_.-]"


def _is_name(name: str) -> bool:
    return 2 <= len(name) <= 200 and names.ALPHABET.issuperset(name) and name[0].isalnum()


def _parent(context: Context, container: Container, directory: str) -> str:
    if not directory:
        return f"{context.roots.container(container.id)}/checkpoints"
    if not directory.startswith("/") or "\0" in directory or os.path.normpath(directory) != directory.rstrip("/"):
        raise InvalidArgument(f"invalid checkpoint directory {directory!r}: it must be a clean absolute path")
    return directory.rstrip("/")


def _log(context: Context, container: Container, verb: str) -> str:
    return f"{context.roots.container(container.id)}/criu-{verb}.log"


def _check_container(container: Container) -> None:
    """Raise NotSupported for what a restore could not bring back as it was."""
    record = container.record
    host = record.host_config
    if record.config.tty:
        raise NotSupported("checkpoint not support on containers with tty")
    if record.userns:
        raise NotSupported("checkpoint of a container in a user namespace is not supported")
    for what, mode in (("PID", host.pid_mode), ("IPC", host.ipc_mode), ("UTS", host.uts_mode)):
        if mode.startswith("container:") or (what == "PID" and mode == "host"):
            raise NotSupported(f"checkpoint of a container that shares a {what} namespace is not supported")


def _make(parent: str, name: str, ref: str) -> None:
    os.makedirs(parent, mode=0o700, exist_ok=True)
    target = f"{parent}/{name}"
    if not os.path.lexists(target):
        return
    if os.path.isdir(target) and not os.path.islink(target):
        raise Conflict(
            f"cannot checkpoint container {ref}: checkpoint with name {name} already exists for container {ref}"
        )
    raise Conflict(f"cannot checkpoint container {ref}: {target} exists and is not a directory")


def _is_checkpoint(parent: str, name: str) -> bool:
    path = f"{parent}/{name}"
    return _is_name(name) and not os.path.islink(path) and os.path.isfile(f"{path}/{MANIFEST}")


def _existing(parent: str, name: str, ref: str) -> None:
    if not _is_checkpoint(parent, name):
        raise NotFound(f"checkpoint {name} does not exist for container {ref}")


async def _off_loop(work: Callable[[], T]) -> T:
    return await asyncio.get_running_loop().run_in_executor(None, work)
