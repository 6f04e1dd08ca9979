"""Mounts by descriptor: open_tree(2), move_mount(2), mount_setattr(2), fsopen(2) and the older mount(2), umount2(2).

Paths of a container are never given to the kernel as words: a target is a descriptor, for the old call the magic link
`/proc/self/fd/<n>` of one (`fd_path`), which only the host's /proc may serve.
"""

import ctypes
import errno
import os

from wherry.errors import KernelError
from wherry.linux.libc import libc

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_SYNCHRONOUS = 16
MS_REMOUNT = 32
MS_MANDLOCK = 64
MS_DIRSYNC = 128
MS_NOSYMFOLLOW = 256
MS_NOATIME = 1024
MS_NODIRATIME = 2048
MS_BIND = 4096
MS_MOVE = 8192
MS_REC = 16384
MS_SILENT = 32768
MS_UNBINDABLE = 1 << 17
MS_PRIVATE = 1 << 18
MS_SLAVE = 1 << 19
MS_SHARED = 1 << 20
MS_RELATIME = 1 << 21
MS_I_VERSION = 1 << 23
MS_STRICTATIME = 1 << 24
MS_LAZYTIME = 1 << 25

MNT_DETACH = 2
UMOUNT_NOFOLLOW = 8

OPEN_TREE_CLONE = 1
OPEN_TREE_CLOEXEC = os.O_CLOEXEC
AT_FDCWD = -100
AT_SYMLINK_NOFOLLOW = 0x100
AT_EMPTY_PATH = 0x1000
AT_RECURSIVE = 0x8000

MOUNT_ATTR_RDONLY = 0x01
MOUNT_ATTR_NOSUID = 0x02
MOUNT_ATTR_NODEV = 0x04
MOUNT_ATTR_NOEXEC = 0x08
MOUNT_ATTR__ATIME = 0x70
MOUNT_ATTR_RELATIME = 0x00
MOUNT_ATTR_NOATIME = 0x10
MOUNT_ATTR_STRICTATIME = 0x20
MOUNT_ATTR_NODIRATIME = 0x80
MOUNT_ATTR_NOSYMFOLLOW = 0x200000
MOUNT_ATTR_IDMAP = 0x100000

_MOVE_BY_FD = 0x04 | 0x40  # MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH
_FSCONFIG_SET_FLAG = 0
_FSCONFIG_SET_STRING = 1
_FSCONFIG_CMD_CREATE = 6

_SYS_OPEN_TREE = 428
_SYS_MOVE_MOUNT = 429
_SYS_FSOPEN = 430
_SYS_FSCONFIG = 431
_SYS_FSMOUNT = 432
_SYS_MOUNT_SETATTR = 442

_long, _int, _char_p, _void_p, _uint = ctypes.c_long, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_uint


class _MountAttr(ctypes.Structure):
    _fields_ = (
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    )


# one function object per call: its argument types are set once, so that a call builds no ctypes objects
_open_tree = libc["syscall"]
_open_tree.argtypes = (_long, _int, _char_p, _uint)
_move_mount = libc["syscall"]
_move_mount.argtypes = (_long, _int, _char_p, _int, _char_p, _uint)
_fsopen = libc["syscall"]
_fsopen.argtypes = (_long, _char_p, _uint)
_fsconfig = libc["syscall"]
_fsconfig.argtypes = (_long, _int, _uint, _char_p, _char_p, _int)
_fsmount = libc["syscall"]
_fsmount.argtypes = (_long, _int, _uint, _uint)
_mount_setattr = libc["syscall"]
_mount_setattr.argtypes = (_long, _int, _char_p, _uint, ctypes.POINTER(_MountAttr), ctypes.c_size_t)
for _function in (_open_tree, _move_mount, _fsopen, _fsconfig, _fsmount, _mount_setattr):
    _function.restype = _long
_mount = libc["mount"]
_mount.argtypes = (_char_p, _char_p, _char_p, ctypes.c_ulong, _char_p)
_umount2 = libc["umount2"]
_umount2.argtypes = (_char_p, _int)
_pivot_root = libc["pivot_root"]
_pivot_root.argtypes = (_char_p, _char_p)

_ATTR_SIZE = ctypes.sizeof(_MountAttr)


def fd_path(fd: int) -> str:
    """The path that stands for a descriptor, for calls that only take paths."""
    return f"/proc/self/fd/{fd}"


def _fail(what: str, path: str | None = None) -> "KernelError":
    return KernelError(what, ctypes.get_errno(), path)


def mount(source: str, target: str, fstype: str, flags: int = 0, data: str = "", *, shown: str | None = None) -> None:
    """mount(2). `shown` is the path that an error names when `target` is a descriptor's path.

    Raises:
        KernelError: the call failed; `call` reads `mount <type>`.
    """
    if _mount(os.fsencode(source), os.fsencode(target), fstype.encode() or None, flags, os.fsencode(data) or None) < 0:
        raise _fail(f"mount {fstype or source}", shown or target)


def umount(path: str, flags: int = MNT_DETACH) -> None:
    """umount2(2)."""
    if _umount2(os.fsencode(path), flags) < 0:
        raise _fail("umount", path)


def pivot_root(new_root: str, put_old: str) -> None:
    """pivot_root(2)."""
    if _pivot_root(os.fsencode(new_root), os.fsencode(put_old)) < 0:
        raise _fail("pivot_root", new_root)


def clone_tree(path: str, *, recursive: bool = False, at: int = AT_FDCWD, nofollow: bool = False) -> int:
    """A detached copy of the mount at `path` (with those below it if `recursive`), as a descriptor.

    With `at` a descriptor and `path` empty the copy starts at that descriptor's file.
    """
    flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC
    if recursive:
        flags |= AT_RECURSIVE
    if not path:
        flags |= AT_EMPTY_PATH
    if nofollow:
        flags |= AT_SYMLINK_NOFOLLOW
    fd: int = _open_tree(_SYS_OPEN_TREE, at, os.fsencode(path), flags)
    if fd < 0:
        raise _fail("open_tree", path)
    return fd


def attach(tree: int, target: int, *, shown: str) -> None:
    """Attach the detached mount `tree` at the file that `target` holds. `shown` names it in an error."""
    if _move_mount(_SYS_MOVE_MOUNT, tree, b"", target, b"", _MOVE_BY_FD) < 0:
        raise _fail("move_mount", shown)


def set_attributes(
    fd: int, add: int = 0, clear: int = 0, propagation: int = 0, *, recursive: bool = False, shown: str = ""
) -> None:
    """mount_setattr(2) on the mount at `fd`, and on those below it if `recursive`."""
    attr = _MountAttr(add, clear, propagation, 0)
    flags = AT_EMPTY_PATH | (AT_RECURSIVE if recursive else 0)
    if _mount_setattr(_SYS_MOUNT_SETATTR, fd, b"", flags, attr, _ATTR_SIZE) < 0:
        raise _fail("mount_setattr", shown or None)


def map_owners(tree: int, namespace: int, *, recursive: bool = False) -> None:
    """Make a detached mount show its owners through a user namespace's id maps (MOUNT_ATTR_IDMAP, Linux 5.12): what
    the disk has as an id inside of it is shown as what that is outside.

    Raises:
        KernelError: EINVAL where the file system does not do that, or the mount is mapped already.
    """
    attr = _MountAttr(MOUNT_ATTR_IDMAP, 0, 0, namespace)
    flags = AT_EMPTY_PATH | (AT_RECURSIVE if recursive else 0)
    if _mount_setattr(_SYS_MOUNT_SETATTR, tree, b"", flags, attr, _ATTR_SIZE) < 0:
        raise _fail("mount_setattr idmap")


def new_filesystem(fstype: str, source: str, options: "tuple[str, ...]", attributes: int = 0) -> int:
    """Make a file system that is mounted nowhere yet: fsopen, fsconfig for each option, fsmount.

    Args:
        fstype: kernel name.
        source: shown in mountinfo.
        options: `key` or `key=value` (a value is limited to 255 bytes by the kernel).
        attributes: MOUNT_ATTR_* of the mount.

    Returns:
        Descriptor of the detached mount.
    """
    context: int = _fsopen(_SYS_FSOPEN, fstype.encode(), 1)
    if context < 0:
        raise _fail(f"fsopen {fstype}")
    try:
        for option in (f"source={source}", *options) if source else options:
            key, equals, value = option.partition("=")
            command = _FSCONFIG_SET_STRING if equals else _FSCONFIG_SET_FLAG
            text = os.fsencode(value) if equals else None
            if _fsconfig(_SYS_FSCONFIG, context, command, key.encode(), text, 0) < 0:
                raise _fail(f"fsconfig {fstype} {option[:64]}")
        if _fsconfig(_SYS_FSCONFIG, context, _FSCONFIG_CMD_CREATE, None, None, 0) < 0:
            raise _fail(f"mount {fstype}")
        fd: int = _fsmount(_SYS_FSMOUNT, context, 1, attributes)
        if fd < 0:
            raise _fail(f"fsmount {fstype}")
        return fd
    finally:
        os.close(context)


def make_all_slave() -> None:
    """Every mount of this namespace receives from the host and sends nothing back. Never private: a private copy pins
    disks that the host unmounts."""
    if _mount(None, b"/", None, MS_SLAVE | MS_REC, None) < 0:
        number = ctypes.get_errno()
        # "/" of a chroot is no mount point: nothing then to change there, but the tree above is out of reach
        if number != errno.EINVAL:
            raise KernelError("mount --make-rslave", number, "/")
        raise KernelError("mount --make-rslave (the caller's root is not a mount point)", number, "/")
