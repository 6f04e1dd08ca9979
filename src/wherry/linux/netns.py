"""Network namespaces by descriptor: make one, enter one for a moment, come back (namespaces(7), setns(2)).

A network namespace is a property of the thread. Everything here leaves the calling thread in the namespace where it
was, also when it fails; if the way back is barred the process must not go on as if nothing were, and is told so.
"""

import os

from wherry.linux.libc import check, libc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    T = TypeVar("T")

CLONE_NEWNET = 0x40000000
_OWN = "/proc/thread-self/ns/net"


def open_own() -> int:
    """Give a close-on-exec descriptor of the calling thread's network namespace."""
    return os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC)


def enter(netns_fd: int) -> None:
    """Move the calling thread into the network namespace behind `netns_fd`, for good.

    Raises:
        KernelError: the descriptor is no network namespace, or CAP_SYS_ADMIN is missing.
    """
    check(libc.setns(netns_fd, CLONE_NEWNET), "setns to the network namespace")


def inside(netns_fd: int, action: "Callable[[], T]") -> "T":
    """Run `action` in the network namespace behind `netns_fd` and return its result; the thread comes back always."""
    home = open_own()
    try:
        enter(netns_fd)
        try:
            return action()
        finally:
            enter(home)
    finally:
        os.close(home)


def create(action: "Callable[[], object] | None" = None) -> int:
    """Make a new network namespace, run `action` inside it, and give a close-on-exec descriptor of it.

    The namespace lives as long as the descriptor. When `action` raises, nothing is left.
    """
    home = open_own()
    fd = -1
    try:
        check(libc.unshare(CLONE_NEWNET), "unshare the network namespace")
        try:
            fd = open_own()
            if action is not None:
                action()
        except BaseException:
            if fd >= 0:
                os.close(fd)
            raise
        finally:
            enter(home)
    finally:
        os.close(home)
    return fd
