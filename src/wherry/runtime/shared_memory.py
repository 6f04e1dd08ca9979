"""Another container's /dev/shm, for `--ipc container:X`: System V and POSIX shared memory belong together.

A mount can only be copied from inside its mount namespace, so a child enters that, copies and sends the descriptor. The
container that it enters may be hostile: the path is walked without following a link or leaving what is there, and what
is found must be a tmpfs of its own. The child cannot be looked into: it is not dumpable, and in no pid namespace of
that container.
"""

import os

from wherry.errors import InvalidSpec, KernelError
from wherry.linux import mount as m
from wherry.linux.clone import clone, reap
from wherry.linux.files import (
    O_PATH,
    RESOLVE_BENEATH,
    RESOLVE_NO_SYMLINKS,
    TMPFS_MAGIC,
    filesystem_magic,
    open_in_root,
)
from wherry.linux.namespace import NAMESPACES, setns
from wherry.runtime import sync


def clone_shared_memory(namespace: int) -> int:
    """A detached copy of the mount at /dev/shm of a mount namespace.

    Args:
        namespace: descriptor of it.

    Raises:
        InvalidSpec: there is no tmpfs of its own there.
        KernelError: a system call failed.
    """
    ours, theirs = sync.pair()
    try:
        pid, pidfd = clone()
        if pid == 0:
            _child(namespace, sync.ChildSide(theirs))
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
    side = sync.ParentSide(ours)
    try:
        message, tree = side.receive()
    finally:
        side.close()
        reap(pidfd)
        os.close(pidfd)
    if message is not None and "error" in message:
        raise sync.raised(message)
    if tree is None:
        raise KernelError("copy /dev/shm of another container")
    return tree


def _child(namespace: int, side: sync.ChildSide) -> None:
    try:
        setns(namespace, NAMESPACES["mount"][0])
        root = os.open("/", O_PATH | os.O_DIRECTORY)
        below = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS
        devices = open_in_root(root, "dev", O_PATH | os.O_DIRECTORY, resolve=below)
        place = open_in_root(devices, "shm", O_PATH | os.O_DIRECTORY, resolve=below)
        if filesystem_magic(place) != TMPFS_MAGIC or os.fstat(place).st_dev == os.fstat(devices).st_dev:
            raise InvalidSpec("the /dev/shm of the container to share with is no file system of its own")
        tree = m.clone_tree("", at=place)
        side.say("shm", tree)
    except BaseException as error:  # noqa: BLE001  told to the parent
        side.fail(error)
    finally:
        os._exit(0)
