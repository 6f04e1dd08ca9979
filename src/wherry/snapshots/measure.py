"""How much room trees take: walked by descriptor, each file with several names once, no link or mount followed."""

import os
import stat
from errno import ELOOP, ENAMETOOLONG, ENOENT, ENOTDIR, EXDEV

from wherry.errors import KernelError
from wherry.linux.openat import RESOLVE_BENEATH, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, RESOLVE_NO_XDEV, openat2

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

_BENEATH = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV
_BLOCK = 512  # what st_blocks counts in


def inodes(dir_fd: int) -> "Iterator[os.stat_result]":
    """Yield what is known of every inode below a directory, once.

    What lies deeper than a path can say (4095 bytes) is passed over, and so is what goes while it is walked.

    Raises:
        KernelError: something could not be read.
    """
    seen: set[tuple[int, int]] = set()
    # One directory is open at a time, found by its path from the top: a tree may be deeper than descriptors reach.
    pending = [b"."]
    while pending:
        path = pending.pop()
        fd = open_directory(dir_fd, path)
        if fd is None:
            continue
        try:
            for name in (os.fsencode(name) for name in os.listdir(fd)):
                try:
                    found = os.stat(name, dir_fd=fd, follow_symlinks=False)
                except FileNotFoundError:
                    continue
                if found.st_nlink > 1 and not stat.S_ISDIR(found.st_mode):
                    key = (found.st_dev, found.st_ino)
                    if key in seen:
                        continue
                    seen.add(key)
                if stat.S_ISDIR(found.st_mode):
                    pending.append(path + b"/" + name)
                yield found
        except OSError as error:
            raise KernelError("measure", error.errno or 0, os.fsdecode(path)) from error
        finally:
            os.close(fd)


def open_directory(fd: int, name: bytes) -> int | None:
    """Open a directory below `fd`; None where there is none (any more), or something is mounted on it."""
    try:
        return openat2(fd, name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, _BENEATH)
    except OSError as error:
        if error.errno in (ENOENT, ENOTDIR, ELOOP, EXDEV, ENAMETOOLONG):
            return None
        raise


def disk_usage(path: str) -> int:
    """Bytes that a directory and all below it take on the disk, as du(1) counts them; 0 where there is none."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return 0
    try:
        return (os.fstat(fd).st_blocks + sum(found.st_blocks for found in inodes(fd))) * _BLOCK
    finally:
        os.close(fd)


def measure_worker(args: "dict[str, Any]", _fds: "dict[str, int]") -> "Mapping[str, Any]":
    """Measure many directories. A process of its own.

    Args:
        args: `{"paths": [directory, …]}`.

    Returns:
        `{"sizes": [bytes, …]}`, in the same order.

    Raises:
        KernelError: something could not be read.
    """
    return {"sizes": [disk_usage(path) for path in args["paths"]]}
