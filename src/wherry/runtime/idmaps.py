"""User namespaces that nobody lives in: what an id-mapped mount takes its map from (mount_setattr(2))."""

import os

from wherry.errors import KernelError
from wherry.linux.clone import clone, reap
from wherry.linux.namespace import NAMESPACES, open_namespace
from wherry.linux.process import pidfd_send_signal
from wherry.linux.signals import SIGKILL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

HIGHEST = 0xFFFFFFFE


def make_user_namespace(uid_map: str, gid_map: str) -> int:
    """A user namespace with these maps (user_namespaces(7)), as a descriptor.

    Raises:
        KernelError: the kernel refuses.
    """
    return _make(uid_map, gid_map, ("user",))[0]


def make_namespaces(uid_map: str, gid_map: str) -> "tuple[int, int]":
    """A user namespace with these maps, and a network namespace that belongs to it, as descriptors.

    Raises:
        KernelError: the kernel refuses.
    """
    user, network = _make(uid_map, gid_map, ("user", "network"))
    return user, network


def _make(uid_map: str, gid_map: str, kinds: "tuple[str, ...]") -> "list[int]":
    flags = 0
    for kind in kinds:
        flags |= NAMESPACES[kind][0]
    waits, holds = os.pipe2(os.O_CLOEXEC)
    try:
        pid, pidfd = clone(flags)
        if pid == 0:
            _wait(waits, holds)
    finally:
        os.close(waits)
    try:
        for name, text in (("uid_map", uid_map), ("gid_map", gid_map)):
            try:
                fd = os.open(f"/proc/{pid}/{name}", os.O_WRONLY | os.O_CLOEXEC)
                try:
                    os.write(fd, text.encode())
                finally:
                    os.close(fd)
            except OSError as error:
                raise KernelError(f"write {name}", error.errno or 0) from None
        return [open_namespace(kind, pid) for kind in kinds]
    finally:
        os.close(holds)
        pidfd_send_signal(pidfd, SIGKILL)
        reap(pidfd)
        os.close(pidfd)


def _wait(waits: int, holds: int) -> "NoReturn":
    """Be there until we are killed, or nobody is left who would."""
    try:
        os.close(holds)
        os.read(waits, 1)
    finally:
        os._exit(0)


def as_root(own: int) -> str:
    """The map that shows what belongs to `own` as root's, and makes root's files `own`'s; other ids stay, root's own
    files belong to nobody.

    Args:
        own: an id of the host.
    """
    if own == 0:
        return f"0 0 {HIGHEST + 1}\n"
    parts = [(1, 1, own - 1), (own, 0, 1), (own + 1, own + 1, HIGHEST - own)]
    return "".join(f"{disk} {shown} {count}\n" for disk, shown, count in parts if count > 0)
