"""Several layers as one: each is laid into the same tree, lowest first; files are linked, not copied.

What a layer deletes goes from the tree, and stays written down as deleted only where the layers below have it.
"""

import os
import stat

from wherry.linux.openat import RESOLVE_BENEATH, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, openat2
from wherry.snapshots.metadata import is_opaque, is_whiteout
from wherry.snapshots.remove import remove_tree
from wherry.snapshots.tree import OPAQUE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

_BENEATH = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def worker(args: "dict[str, Any]", fds: "dict[str, int]") -> "dict[str, Any]":
    """Lay layers over one another.

    Args:
        args: `layers` (trees, lowest first), `below` (trees of what they stand on, newest first).
        fds: `target`, an empty directory on the same file system.
    """
    below = [os.open(path, _DIRECTORY) for path in args["below"]]
    for path in args["layers"]:
        layer = os.open(path, _DIRECTORY)
        try:
            _lay(layer, fds["target"], "", below)
        finally:
            os.close(layer)
    return {}


def _lay(layer: int, target: int, path: str, below: "Sequence[int]") -> None:
    for name in sorted(os.listdir(layer)):
        found = os.stat(name, dir_fd=layer, follow_symlinks=False)
        full = f"{path}/{name}" if path else name
        there = _look(target, name)
        if is_whiteout(found):
            remove_tree(target, name)
            if _below(full, below):
                os.mknod(name, stat.S_IFCHR | 0o600, 0, dir_fd=target)
        elif stat.S_ISDIR(found.st_mode):
            _directory(layer, target, name, full, there, below)
        else:
            remove_tree(target, name)
            os.link(name, name, src_dir_fd=layer, dst_dir_fd=target, follow_symlinks=False)
    status = os.fstat(layer)
    os.fchown(target, status.st_uid, status.st_gid)
    for key in os.listxattr(layer):
        if not key.startswith("trusted.overlay."):
            os.setxattr(target, key, os.getxattr(layer, key))
    os.fchmod(target, stat.S_IMODE(status.st_mode))
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))


def _directory(
    layer: int, target: int, name: str, full: str, there: os.stat_result | None, below: "Sequence[int]"
) -> None:
    child = os.open(name, _DIRECTORY, dir_fd=layer)
    try:
        hides = is_opaque(child)
        if there is not None and (hides or not stat.S_ISDIR(there.st_mode)):
            # a whiteout in its place hid what is below, and so must what replaces it
            hides = hides or is_whiteout(there)
            remove_tree(target, name)
            there = None
        if there is None:
            os.mkdir(name, 0o700, dir_fd=target)
        into = os.open(name, _DIRECTORY, dir_fd=target)
        try:
            if hides and _below(full, below):
                os.setxattr(into, OPAQUE, b"y")
            _lay(child, into, full, below)
        finally:
            os.close(into)
    finally:
        os.close(child)


def _look(directory: int, name: str) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _below(path: str, below: "Sequence[int]") -> bool:
    """Whether the layers below, newest first, show something there."""
    for fd in below:
        try:
            found = openat2(fd, path, os.O_PATH | os.O_NOFOLLOW, _BENEATH)
        except OSError:
            continue
        try:
            return not is_whiteout(os.fstat(found))
        finally:
            os.close(found)
    return False
