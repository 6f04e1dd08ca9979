"""Worker that writes a container's whole file system as an archive: what `export` gives.

Of a running container the child enters the mount namespace for a moment, takes a detached copy of the root mount, which
shows nothing of what is mounted on it, and reads that from the host's namespace. Of another one it mounts the same
layers read-only in a namespace of its own, the upper directory as the topmost of them: nothing is ever written, and a
start of the container meanwhile is not in the way.
"""

import os

from wherry.linux.mount import MS_RDONLY, clone_tree, fd_path, make_all_slave, mount
from wherry.linux.namespace import CLONE_NEWNS, open_namespace, setns, unshare
from wherry.snapshots.archive import write_archive
from wherry.snapshots.confine import confine_reader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

_OPTIONS = "index=off,redirect_dir=off,metacopy=off"


def export_worker(args: "dict[str, Any]", fds: "dict[str, int]") -> "Mapping[str, Any]":
    """Write the tree. A process of its own.

    Args:
        args: `{"trees": [directories of upper and layers, uppermost first], "point": a directory to mount on}` where
            the container does not run; at least two trees.
        fds: `target` (takes the archive), `namespace` (the mount namespace of a container that runs).

    Returns:
        the fields of `snapshots.archive.Written`.

    Raises:
        HostileInput, KernelError: as `write_archive`.
    """
    root = _root_of(fds["namespace"]) if "namespace" in fds else _mounted(args["trees"], args["point"])
    confine_reader()
    return write_archive(root, fds["target"], whiteouts=False, patient=True).to_json()


def _root_of(namespace: int) -> int:
    home = open_namespace("mount")
    setns(namespace, CLONE_NEWNS)
    try:
        root = clone_tree("/")
    finally:
        setns(home, CLONE_NEWNS)
    os.close(home)
    return _readable(root)


def _mounted(trees: "list[str]", point: str) -> int:
    unshare(CLONE_NEWNS)
    make_all_slave()
    # by descriptor: the paths of many layers are longer than what mount(2) takes
    lowers = [fd_path(os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)) for path in trees]
    mount("overlay", point, "overlay", MS_RDONLY, f"lowerdir={':'.join(lowers)},{_OPTIONS}")
    return os.open(point, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def _readable(tree: int) -> int:
    """A descriptor of the same directory that can be listed; the kernel gives one that only stands for it."""
    try:
        return os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=tree)
    finally:
        os.close(tree)
