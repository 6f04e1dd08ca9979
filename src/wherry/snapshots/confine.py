"""What a worker gives up before it reads a stranger's bytes or trees: paths, network, most of root's powers."""

import ctypes
import os
import resource

from wherry.linux import inodes
from wherry.linux.libc import check, libc

_PR_SET_DUMPABLE = 4
_PR_SET_NO_NEW_PRIVS = 38
_CLONE_NEWNS, _CLONE_NEWIPC, _CLONE_NEWNET = 0x00020000, 0x08000000, 0x40000000
_MS_REC, _MS_SLAVE = 0x4000, 0x80000
_CAPABILITY_VERSION_3 = 0x20080522
# Owners, modes, devices, file capabilities; SYS_ADMIN since trusted.* attributes (an opaque directory) ask for it.
_CHOWN, _DAC_OVERRIDE, _FOWNER, _FSETID, _SYS_ADMIN, _MKNOD, _SETFCAP = 0, 1, 3, 4, 21, 27, 31
_KEPT = sum(1 << bit for bit in (_CHOWN, _DAC_OVERRIDE, _FOWNER, _FSETID, _SYS_ADMIN, _MKNOD, _SETFCAP))
# to read every file, and trusted.* attributes
_READS = sum(1 << bit for bit in (_DAC_OVERRIDE, _SYS_ADMIN))
_MEMORY = 2 << 30  # address space: the interpreter, its libraries, and the largest window that limits allow


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Data(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


def confine(root_fd: "int | None", max_file: int, *, left_host: bool = False) -> None:
    """Confine the calling process for good: `root_fd` becomes its root, it has no network, no core, few capabilities.

    Nothing can be imported afterwards. What the process needs of the outside it must hold as descriptors.

    Args:
        root_fd: directory that becomes `/` and the working directory; None keeps this process's root, with all that is
            mounted in it (a directory that was opened before is of the namespace that is left here).
        max_file: bytes of the largest file that may be written.
        left_host: its mount namespace is its own already (`mounted.leave_host`), with mounts that are needed.

    Raises:
        KernelError, OSError: a step failed; the process must then end, since it is half confined.
    """
    inodes.prepare()
    check(libc.unshare((0 if left_host else _CLONE_NEWNS) | _CLONE_NEWIPC | _CLONE_NEWNET), "unshare")
    # Slave, not private: a private copy would pin disks that the host unmounts.
    if not left_host:
        check(libc.mount(None, b"/", None, ctypes.c_ulong(_MS_REC | _MS_SLAVE), None), "make mounts slave")
    if root_fd is not None:
        os.fchdir(root_fd)
        os.chroot(".")
    os.umask(0o077)
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_AS, _MEMORY)
    _limit(resource.RLIMIT_FSIZE, max_file)
    _give_up(_KEPT)


def confine_reader() -> None:
    """Confine the calling process, which only reads what it holds descriptors of: no network, no core, few powers.

    Raises:
        KernelError, OSError: a step failed; the process must then end.
    """
    inodes.prepare()
    check(libc.unshare(_CLONE_NEWIPC | _CLONE_NEWNET), "unshare")
    os.umask(0o077)
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_AS, _MEMORY)
    _give_up(_READS)


def _give_up(kept: int) -> None:
    check(libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl no_new_privs")
    check(libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0), "prctl dumpable")
    data = (_Data * 2)()
    data[0].effective = data[0].permitted = kept & 0xFFFFFFFF
    check(libc.capset(ctypes.byref(_Header(_CAPABILITY_VERSION_3, 0)), ctypes.byref(data)), "capset")


def _limit(which: int, value: int) -> None:
    hard = resource.getrlimit(which)[1]
    if hard == resource.RLIM_INFINITY or value < hard:
        resource.setrlimit(which, (value, value))
