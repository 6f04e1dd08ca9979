"""Commit and diff: what a container changed, read from its upper directory; it may run."""

import os
from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

from wherry.containers import merge, stop
from wherry.containers.context import Context
from wherry.containers.model import Container
from wherry.errors import Conflict, WherryError
from wherry.images import changes as edits
from wherry.images.commit import Commit
from wherry.oci.reference import Reference
from wherry.wire.containers import Config

# Docker's numbers for a changed, an added and a deleted path
_KINDS = {"C": 0, "A": 1, "D": 2}


class MakeImage(Protocol):
    """Make an image on top of the one that a container was made from; returns its id. See `images.commit`."""

    async def __call__(self, base: str, upper_fd: int, what: Commit, /) -> str: ...


async def commit(
    context: Context,
    container: Container,
    make: MakeImage,
    *,
    config: Config | None = None,
    instructions: Sequence[str] = (),
    author: str = "",
    comment: str = "",
    name: Reference | None = None,
    pause: bool = True,
) -> str:
    """Make an image of what a container changed.

    Args:
        make: makes it.
        config: what the image shall say of how it is run; the container's own where None.
        instructions: `--change`.
        pause: freeze the container meanwhile, if it runs.

    Returns:
        the image id.

    Raises:
        InvalidArgument: an instruction is wrong.
        Conflict: the container is being removed.
        ImageNotFound: its image is gone.
    """
    if container.status in ("dead", "removing"):
        raise Conflict(f"cannot commit container {container.id} which is {container.status.capitalize()}")
    own = merge.as_json(container.record.config)
    asked = edits.apply(merge.as_json(config) if config is not None else own, instructions)
    joined = merge.as_json(merge.fill(msgspec.convert(asked, Config), own))
    what = Commit(container.id, own, joined, author=author, comment=comment, name=name)
    upper = _open_upper(context, container)
    try:
        frozen = pause and container.status == "running" and await _freeze(context, container)
        try:
            id_ = await make(container.record.image, upper, what)
        finally:
            if frozen:
                await _thaw(context, container)
    finally:
        os.close(upper)
    shown = name.familiar() if name else ""
    context.event(container, "commit", comment=comment, imageID=id_, imageRef=shown)
    return id_


async def _freeze(context: Context, container: Container) -> bool:
    """Freeze it; False where it has ended, or somebody has frozen it, meanwhile: nothing writes any more."""
    try:
        await stop.pause(context, container, "commit")
    except WherryError:
        if container.status == "running":
            raise
        return False
    return True


async def _thaw(context: Context, container: Container) -> None:
    if container.status != "paused":
        return  # somebody stopped it, or thawed it, meanwhile
    try:
        await stop.unpause(context, container)
    except WherryError:
        if container.running:
            raise


async def changes(context: Context, container: Container) -> list[dict[str, Any]]:
    """Docker's list of what a container added, changed and deleted, in order of path.

    Raises:
        HostileInput: its tree is deeper than any archive may be.
    """
    found: list[dict[str, Any]] = []

    def take(line: dict[str, Any]) -> None:
        found.extend({"Path": _shown(path), "Kind": _KINDS[kind]} for kind, path in line["changes"])

    upper = _open_upper(context, container)
    try:
        below = [context.layers.path(chain_id) for chain_id in reversed(container.record.chain_ids)]
        await context.run_worker("changes", {"below": below}, {"tree": upper}, take)
    finally:
        os.close(upper)
    return found


def _shown(path: str) -> str:
    """A path as JSON has it: bytes that are no UTF-8 become U+FFFD, as in Go."""
    return os.fsencode(path).decode("utf-8", "replace")


def _open_upper(context: Context, container: Container) -> int:
    path = f"{context.roots.container(container.id)}/upper"
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
