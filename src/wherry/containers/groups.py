"""Which cgroup a container lives in: below the engine's own branch, or below the parent that its creator named."""

import os
from typing import TYPE_CHECKING

from wherry.errors import InvalidArgument

if TYPE_CHECKING:
    from wherry.containers.context import Context


def cgroup_path(context: "Context", id_: str, parent: str | None = None) -> str:
    """Give the path below each hierarchy's root.

    Args:
        id_: the container's, which need not be on record.
        parent: `--cgroup-parent`, empty for the engine's branch; None: what the container's record says.
    """
    if parent is None:
        container = context.registry.get(id_)
        parent = "" if container is None else container.record.host_config.cgroup_parent
    return f"{normal_parent(parent) or f'/{context.roots.scope}/containers'}/{id_}"


def normal_parent(parent: str) -> str:
    """Make `--cgroup-parent` a path from the root of a hierarchy, as the cgroupfs driver of runc does.

    Returns:
        An absolute path without `..` and without a slash at its end; empty for none, and for the root itself.

    Raises:
        InvalidArgument: no kernel has a cgroup of that name, or `/proc/<pid>/cgroup` would not tell it.
    """
    if any(not char.isprintable() for char in parent) or any(len(os.fsencode(n)) > 255 for n in parent.split("/")):
        raise InvalidArgument(f"invalid cgroup parent: {parent!r}")
    return os.path.normpath(f"/{parent}").rstrip("/").replace("//", "/")
