"""A path in somebody's root, found as Docker's copy finds it, and what `HEAD …/archive` tells of it.

Links on the way are resolved inside the root, the last component is not followed unless the path ends with `/` or
`/.`. Everything is a descriptor from then on: what the path means a moment later does not matter (CVE-2018-15664).
"""

import os
import posixpath
import stat
from errno import ELOOP, ENOENT

from wherry.errors import KernelError
from wherry.linux.files import O_PATH, filesystem_magic, open_in_root

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_MAX_LINKS = 40

# file systems that are windows into the kernel: nothing in them is anybody's data
_WINDOWS = frozenset(
    {
        0x9FA0,  # proc
        0x62656572,  # sysfs
        0x27E0EB,  # cgroup
        0x63677270,  # cgroup2
        0x1CD1,  # devpts
        0x19800202,  # mqueue
        0x64626720,  # debugfs
        0x74726163,  # tracefs
        0x73636673,  # securityfs
        0xCAFE4A11,  # bpf
        0xF97CFF8C,  # selinux
        0x6165676C,  # pstore
        0x42494E4D,  # binfmt_misc
    }
)

# Go's os.FileMode, which clients read
_GO_DIRECTORY, _GO_LINK, _GO_DEVICE, _GO_FIFO, _GO_SOCKET = 1 << 31, 1 << 27, 1 << 26, 1 << 25, 1 << 24
_GO_SETUID, _GO_SETGID, _GO_CHARACTER, _GO_STICKY = 1 << 23, 1 << 22, 1 << 21, 1 << 20
_GO_TYPES = {
    stat.S_IFDIR: _GO_DIRECTORY,
    stat.S_IFLNK: _GO_LINK,
    stat.S_IFBLK: _GO_DEVICE,
    stat.S_IFCHR: _GO_DEVICE | _GO_CHARACTER,
    stat.S_IFIFO: _GO_FIFO,
    stat.S_IFSOCK: _GO_SOCKET,
}


class Located:
    """What was found.

    Fields: `directory`, its descriptor where it is a directory, else -1; `held`, a descriptor (O_PATH) of what is no
    directory, else -1; `name`, what an archive of it calls it; `status`; `path`, absolute and clean.
    """

    __slots__ = ("directory", "held", "name", "path", "status")

    def __init__(self, path: str, name: str, status: os.stat_result, *, directory: int = -1, held: int = -1) -> None:
        self.path = path
        self.name = name
        self.directory = directory
        self.held = held
        self.status = status


def locate(root: int, path: str) -> Located:
    """Find `path` in the directory `root`, which stays open.

    Raises:
        KernelError: with the errno of what is wrong on the way (ENOENT, ENOTDIR…); ENOENT also for what is in one of
            the kernel's windows (/proc, /sys).
    """
    clean = posixpath.normpath("/" + path).replace("//", "/")
    dotted = path in ("", ".") or path.endswith("/.")
    name = "." if dotted else posixpath.basename(clean) or "/"
    if clean == "/" or dotted or path.endswith("/"):
        directory = open_in_root(root, clean, _DIRECTORY)
        _check_window(directory, path)
        return Located(clean, name, os.fstat(directory), directory=directory)
    parent = open_in_root(root, posixpath.dirname(clean), _DIRECTORY)
    base = posixpath.basename(clean)
    try:
        # opened first and asked then: of what a name means only one answer counts
        found = open_in_root(parent, base, O_PATH | os.O_NOFOLLOW)
        os.close(parent)
        _check_window(found, path)
        status = os.fstat(found)
        if not stat.S_ISDIR(status.st_mode):
            return Located(clean, name, status, held=found)
        directory = os.open(".", _DIRECTORY, dir_fd=found)
        os.close(found)
    except OSError as error:
        if isinstance(error, KernelError):
            raise
        raise KernelError("open", error.errno or 0, path) from None
    return Located(clean, name, status, directory=directory)


def is_window(fd: int) -> bool:
    """Whether the file lies in /proc, /sys or their like."""
    return filesystem_magic(fd) in _WINDOWS


def _check_window(fd: int, path: str) -> None:
    if is_window(fd):
        raise KernelError("open", ENOENT, path)


def describe(root: int, found: Located) -> "dict[str, Any]":
    """Docker's `X-Docker-Container-Path-Stat`; `mtime` in nanoseconds since the epoch."""
    mode = found.status.st_mode
    told = stat.S_IMODE(mode) & 0o777 | _GO_TYPES.get(stat.S_IFMT(mode), 0)
    for bit, flag in ((stat.S_ISUID, _GO_SETUID), (stat.S_ISGID, _GO_SETGID), (stat.S_ISVTX, _GO_STICKY)):
        told |= flag if mode & bit else 0
    link = follow(root, found.path) if stat.S_ISLNK(mode) else ""
    return {
        "name": found.name,
        "size": found.status.st_size,
        "mode": told,
        "mtime": found.status.st_mtime_ns,
        "linkTarget": link,
    }


def follow(root: int, path: str) -> str:
    """The path that `path` leads to when every link is followed inside `root`; what is not there is taken as it is.

    Raises:
        KernelError: ELOOP.
    """
    left = [part for part in path.split("/") if part not in ("", ".")][::-1]
    done: list[str] = []
    links = 0
    while left:
        part = left.pop()
        if part == "..":
            done = done[:-1]
            continue
        here = "/" + "/".join([*done, part])
        try:
            fd = open_in_root(root, here, O_PATH | os.O_NOFOLLOW)
        except KernelError as error:
            if error.errno == ELOOP:
                raise
            done.append(part)
            continue
        try:
            target = os.readlink("", dir_fd=fd) if stat.S_ISLNK(os.fstat(fd).st_mode) else None
        finally:
            os.close(fd)
        if target is None:
            done.append(part)
            continue
        links += 1
        if links > _MAX_LINKS:
            raise KernelError("readlink", ELOOP, path)
        if target.startswith("/"):
            done = []
        left += [one for one in target.split("/") if one not in ("", ".")][::-1]
    return "/" + "/".join(done)
