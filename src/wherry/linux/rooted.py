"""A process that lives in a chroot, and one that does not.

Who enters a mount namespace (setns(2)) is at that namespace's root then, whatever its own root was. So nobody may make
or enter namespaces for others while its root is a directory in the midst of one: what is named by path then would be
the host's. Such a process gets a private namespace of which its root is the root.
"""

import os

from wherry.errors import KernelError, NotSupported
from wherry.linux import mount as m
from wherry.linux.files import O_PATH
from wherry.linux.namespace import NAMESPACES, open_namespace, setns, unshare

_FLAGS = O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


def become_root() -> bool:
    """Make `/` the root of this process's mount namespace where it is not; True where it was not.

    The namespace is a new one then, which still receives what is mounted outside. The caller has no other thread, and
    CAP_SYS_ADMIN.

    Raises:
        NotSupported: the kernel does not allow it.
    """
    where = os.open(".", _FLAGS)
    root = os.open("/", _FLAGS)
    try:
        try:
            if _is_root(root):
                os.fchdir(where)
                return False
        except KernelError:
            return False  # who may not enter a namespace enters nobody's, and says so then
        _enter(root)
        os.fchdir(where)
        here = os.getcwd()
    finally:
        os.close(where)
        os.close(root)
    try:
        _move_into_own_namespace()
    except KernelError as error:
        raise NotSupported(
            f"the root directory is a chroot, and cannot be made the root of a mount namespace ({error}): "
            "start it without chroot, or with pivot_root"
        ) from None
    os.chdir(here)
    return True


def _is_root(root: int) -> bool:
    """Go to the root of the mount namespace, and say whether that is `root`."""
    namespace = open_namespace("mount")
    try:
        setns(namespace, NAMESPACES["mount"][0])
    finally:
        os.close(namespace)
    there = os.open("/", _FLAGS)
    try:
        return os.path.samestat(os.fstat(there), os.fstat(root)) and _mount_id(there) == _mount_id(root)
    finally:
        os.close(there)


def _mount_id(fd: int) -> int:
    with open(f"/proc/self/fdinfo/{fd}", encoding="ascii") as lines:
        return next((int(line.split()[1]) for line in lines if line.startswith("mnt_id:")), 0)


def _enter(root: int) -> None:
    os.fchdir(root)
    os.chroot(".")


def _move_into_own_namespace() -> None:
    unshare(NAMESPACES["mount"][0])
    # the new namespace's copy of where we are
    root = os.open("/", _FLAGS)
    try:
        _is_root(root)
        m.mount("", "/", "", m.MS_REC | m.MS_SLAVE)
        os.fchdir(root)
        # a mount point of its own, with what is mounted below: pivot_root(2) asks for one
        tree = m.clone_tree(".", recursive=True)
        try:
            m.attach(tree, root, shown="/")
            os.fchdir(tree)
        finally:
            os.close(tree)
    finally:
        os.close(root)
    m.pivot_root(".", ".")
    # the old root lies on top of the new one now, and "." finds it
    m.umount(".")
    os.chdir("/")
