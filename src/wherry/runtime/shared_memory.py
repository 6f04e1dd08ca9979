"""Another container's /dev/shm, for `--ipc container:X`: System V and POSIX shared memory belong together.

The container that it is taken from may be hostile: the path is walked without following a link or leaving what is
there, and what is found must be a tmpfs of its own.
"""

import os

from wherry.errors import InvalidSpec
from wherry.linux import mount as m
from wherry.linux.files import (
    O_PATH,
    RESOLVE_BENEATH,
    RESOLVE_NO_SYMLINKS,
    TMPFS_MAGIC,
    filesystem_magic,
    open_in_root,
)
from wherry.runtime.elsewhere import clone_from


def clone_shared_memory(namespace: int) -> int:
    """A detached copy of the mount at /dev/shm of a mount namespace.

    Args:
        namespace: descriptor of it.

    Raises:
        InvalidSpec: there is no tmpfs of its own there.
        KernelError: a system call failed.
    """
    return clone_from(namespace, _copy, "shm")


def _copy() -> int:
    root = os.open("/", O_PATH | os.O_DIRECTORY)
    below = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS
    devices = open_in_root(root, "dev", O_PATH | os.O_DIRECTORY, resolve=below)
    place = open_in_root(devices, "shm", O_PATH | os.O_DIRECTORY, resolve=below)
    if filesystem_magic(place) != TMPFS_MAGIC or os.fstat(place).st_dev == os.fstat(devices).st_dev:
        raise InvalidSpec("the /dev/shm of the container to share with is no file system of its own")
    return m.clone_tree("", at=place)
