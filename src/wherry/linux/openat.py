"""openat2(2): open a path so that it cannot leave a directory, whatever symbolic links lie on the way."""

import ctypes
import os
from errno import EAGAIN

from wherry.errors import KernelError
from wherry.linux.libc import libc

RESOLVE_NO_XDEV = 0x01  # never cross into another mount
RESOLVE_NO_MAGICLINKS = 0x02  # never follow /proc/<pid>/fd/N and its like
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08  # fail (EXDEV) where the path would leave the directory
RESOLVE_IN_ROOT = 0x10  # as chroot(2): the directory is `/`, and `..` stops at it

_SYS_OPENAT2 = 437  # the same number on every architecture
# beside four programs that rename without pause, a path with 160 times `..` took 3 tries, and 1106 at the worst
_TRIES = 4096
_HOW_SIZE = 24  # struct open_how: flags, mode, resolve
_How = ctypes.c_uint64 * 3

# A function object of our own: argtypes set on a shared one would hold for everybody.
_syscall = libc["syscall"]
_syscall.argtypes = (ctypes.c_long, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_size_t)
_syscall.restype = ctypes.c_long


def openat2(dir_fd: int, path: "bytes | str", flags: int, resolve: int, mode: int = 0) -> int:
    """Open `path` relative to `dir_fd` under the `RESOLVE_*` rules; the descriptor is close-on-exec.

    Args:
        dir_fd: directory the path starts from (and, with RESOLVE_IN_ROOT, ends at).
        path: file name; `str` is encoded as file names are.
        flags: open(2) flags.
        resolve: RESOLVE_* bits.
        mode: permission bits where the file is created.

    Raises:
        KernelError: the call failed; `errno` as in openat2(2) (EXDEV: it would leave;
            ELOOP: a link that is not allowed; EAGAIN: somebody renames without end).
    """
    how = _How(flags | os.O_CLOEXEC, mode, resolve)
    name = os.fsencode(path)
    errno = EAGAIN
    for _ in range(_TRIES):
        fd: int = _syscall(_SYS_OPENAT2, dir_fd, name, ctypes.byref(how), _HOW_SIZE)
        if fd >= 0:
            return fd
        errno = ctypes.get_errno()
        # A rename anywhere on the machine while `..` was resolved: the kernel could not tell, and asks to try again.
        if errno != EAGAIN:
            break
    raise KernelError("openat2", errno, os.fsdecode(name))


def open_in_root(root_fd: int, path: "bytes | str", flags: int, mode: int = 0) -> int:
    """Open `path` as a process chrooted to `root_fd` would, without magic links.

    Raises:
        KernelError: as `openat2`.
    """
    return openat2(root_fd, path, flags, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS, mode)
