"""Whether a working directory can be one: dockerd makes it with the container, and so refuses a file there at once."""

import os
import stat
from collections.abc import Sequence

from wherry.containers.context import Context
from wherry.errors import InvalidArgument

_OPAQUE = ("trusted.overlay.opaque", "user.overlay.opaque")


def check(context: Context, chain_ids: Sequence[str], path: str) -> None:
    """Look for `path` in the layers of an image. What a link leads to is left to the start, which looks inside.

    Raises:
        InvalidArgument: it, or what is above it, is there and no directory; in dockerd's words.
    """
    names = [name for name in path.split("/") if name]
    if not names or not chain_ids:
        return
    layers = _layers(context, chain_ids)
    for depth in range(1, len(names) + 1):
        below = "/".join(names[:depth])
        layers = _holders(layers, below, path)
        if not layers:
            return


def _layers(context: Context, chain_ids: Sequence[str]) -> list[str]:
    """The directories of the layers, the topmost first."""
    mount = context.layers.mounts(list(chain_ids), None, None)[0]
    options = dict(option.partition("=")[::2] for option in mount.options if "=" in option)
    return options["lowerdir"].split(":") if "lowerdir" in options else [mount.source]


def _holders(layers: list[str], below: str, path: str) -> list[str]:
    """The layers in which that is a directory which is seen."""
    found: list[str] = []
    for layer in layers:
        place = f"{layer}/{below}"
        try:
            status = os.lstat(place)
        except FileNotFoundError:
            continue
        if not stat.S_ISDIR(status.st_mode):
            gone = stat.S_ISCHR(status.st_mode) and status.st_rdev == 0
            if not found and not gone and not stat.S_ISLNK(status.st_mode):
                raise InvalidArgument(f"Cannot mkdir: {path} is not a directory")
            break
        found.append(layer)
        if any(name in _OPAQUE for name in os.listxattr(place, follow_symlinks=False)):
            break
    return found
