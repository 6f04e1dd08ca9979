"""A copy of a mount that is in another mount namespace.

A mount can only be copied from inside its mount namespace, so a child enters that, copies and sends the descriptor. It
cannot be looked into: it is not dumpable, and in no pid namespace of a container.
"""

import os

from wherry.errors import KernelError
from wherry.linux.clone import clone, reap
from wherry.linux.mount import make_all_slave
from wherry.linux.namespace import NAMESPACES, setns, unshare
from wherry.runtime import sync

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


def clone_from(namespace: int | None, copy: "Callable[[], int]", what: str) -> int:
    """Run `copy` in a mount namespace, and return the descriptor that it returned there.

    Args:
        namespace: descriptor of it; None: a new one, a copy of the caller's that sends nothing back.
        copy: opens what is wanted; paths begin at that namespace's root. It must import nothing.
        what: for an error.

    Raises:
        WherryError: what `copy` raised.
        KernelError: a system call failed.
    """
    ours, theirs = sync.pair()
    try:
        pid, pidfd = clone()
        if pid == 0:
            _child(namespace, copy, sync.ChildSide(theirs), what)
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
        raise KernelError(f"copy {what} of another namespace")
    return tree


def _child(namespace: int | None, copy: "Callable[[], int]", side: sync.ChildSide, what: str) -> None:
    try:
        if namespace is None:
            unshare(NAMESPACES["mount"][0])
            make_all_slave()
        else:
            setns(namespace, NAMESPACES["mount"][0])
        side.say(what, copy())
    except BaseException as error:  # noqa: BLE001  told to the parent
        side.fail(error)
    finally:
        os._exit(0)
