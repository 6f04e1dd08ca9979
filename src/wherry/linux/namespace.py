"""Namespaces: their names and flags, unshare(2) and setns(2) (Python has them only from 3.12)."""

import ctypes
import os

from wherry.errors import KernelError
from wherry.linux.libc import libc

CLONE_NEWTIME = 0x00000080
CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

# OCI name -> (clone flag, file below /proc/<pid>/ns)
NAMESPACES = {
    "user": (CLONE_NEWUSER, "user"),
    "mount": (CLONE_NEWNS, "mnt"),
    "pid": (CLONE_NEWPID, "pid"),
    "network": (CLONE_NEWNET, "net"),
    "ipc": (CLONE_NEWIPC, "ipc"),
    "uts": (CLONE_NEWUTS, "uts"),
    "cgroup": (CLONE_NEWCGROUP, "cgroup"),
    "time": (CLONE_NEWTIME, "time"),
}

_unshare = libc["unshare"]
_unshare.argtypes = (ctypes.c_int,)
_setns = libc["setns"]
_setns.argtypes = (ctypes.c_int, ctypes.c_int)


def unshare(flags: int) -> None:
    """unshare(2)."""
    if _unshare(flags) < 0:
        raise KernelError("unshare", ctypes.get_errno())


def setns(fd: int, flags: int = 0) -> None:
    """setns(2). `fd` is a namespace's descriptor, or a pidfd with the namespaces to join as `flags`."""
    if _setns(fd, flags) < 0:
        raise KernelError("setns", ctypes.get_errno())


def open_namespace(kind: str, pid: "int | str" = "self") -> int:
    """Open a process's namespace of the OCI kind `kind`. For `pid` and `time`: the one that its children are born in
    is not meant, but the one it lives in."""
    path = f"/proc/{pid}/ns/{NAMESPACES[kind][1]}"
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise KernelError("open namespace", error.errno or 0, path) from None


def namespace_id(kind: str, pid: "int | str" = "self") -> "tuple[int, int]":
    """(device, inode): equal for two processes exactly if they share the namespace."""
    path = f"/proc/{pid}/ns/{NAMESPACES[kind][1]}"
    try:
        status = os.stat(path)
    except OSError as error:
        raise KernelError("stat namespace", error.errno or 0, path) from None
    return status.st_dev, status.st_ino
