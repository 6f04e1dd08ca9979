"""Deleting trees that a container wrote: by descriptor, never through a symbolic link or into another mount.

Deep trees are flattened as they are met: a directory further down than `_MAX_DEPTH` is first moved to the top, so that
neither descriptors nor the stack grow with what a stranger made.
"""

import errno
import os
import stat
import time

from wherry.errors import InvalidArgument, KernelError
from wherry.linux import fileflags, inodes
from wherry.linux.files import RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, RESOLVE_NO_XDEV, open_in_root

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_MAX_DEPTH = 64
_RETRIES = 20
_PAUSE = 0.01
_RESOLVE = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV


def worker(args: "dict[str, Any]", _fds: "dict[str, int]") -> "dict[str, Any]":
    """Delete `args["paths"]`, absolute paths of files or directories; what is not there is fine.

    Returns:
        `{"removed": n}`: paths that are gone now.

    Raises:
        KernelError: something stays (EBUSY: a mount is in it); all paths were tried.
        InvalidArgument: a path that is not absolute.
    """
    failed: KernelError | None = None
    removed = 0
    for path in args["paths"]:
        if not os.path.isabs(path) or os.path.normpath(path) == "/":
            raise InvalidArgument(f"not an absolute path: {path!r}")
        try:
            remove_tree(path)
            removed += 1
        except KernelError as error:
            failed = failed or error
    if failed is not None:
        raise failed
    return {"removed": removed}


def remove_tree(path: str) -> None:
    """Delete the file or directory `path` and everything in it; raises KernelError when something stays."""
    parent, name = os.path.split(path.rstrip("/"))
    try:
        parent_fd = os.open(parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    except OSError as error:
        raise KernelError("open", error.errno or 0, parent) from None
    try:
        if _unlink(parent_fd, name):
            return
        top = _open(parent_fd, name)
        if top < 0:
            return
        try:
            _empty(top, top, 0)
        finally:
            os.close(top)
        _rmdir(parent_fd, name)
    except OSError as error:
        raise KernelError("remove", error.errno or 0, path) from None
    finally:
        os.close(parent_fd)


def _empty(directory: int, top: int, depth: int) -> None:
    # Entries moved to the top while it is walked are met by a later round.
    while True:
        # the whole list first: deleting under an open directory stream may skip entries
        with os.scandir(directory) as entries:
            names = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
        if not names:
            return
        moved = False
        for name, is_directory in names:
            if not is_directory and _unlink(directory, name):
                continue
            if depth >= _MAX_DEPTH:
                _move_up(directory, name, top)
                moved = True
                continue
            inner = _open(directory, name)
            if inner < 0:
                continue
            try:
                _empty(inner, top, depth + 1)
            finally:
                os.close(inner)
            _rmdir(directory, name)
        if not moved and directory != top:
            return


def _move_up(directory: int, name: str, top: int) -> None:
    number = 0
    while True:
        target = f".wherry-{os.getpid()}-{number}"
        try:
            os.stat(target, dir_fd=top, follow_symlinks=False)
        except FileNotFoundError:
            _writable(directory, name)
            os.rename(name, target, src_dir_fd=directory, dst_dir_fd=top)
            return
        number += 1


def _open(directory: int, name: str) -> int:
    try:
        return open_in_root(directory, name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, resolve=_RESOLVE)
    except KernelError as error:
        if error.errno == errno.ENOENT:
            return -1
        if error.errno == errno.EXDEV:
            raise KernelError("remove", errno.EBUSY, name) from None
        raise


def _unlink(directory: int, name: str) -> bool:
    """Delete a file; false for a directory."""
    for attempt in range(_RETRIES):
        try:
            os.unlink(name, dir_fd=directory)
            return True
        except FileNotFoundError:
            return True
        except IsADirectoryError:
            return False
        except OSError as error:
            _forgive(error, directory, name, attempt)
    return True


def _rmdir(directory: int, name: str) -> None:
    for attempt in range(_RETRIES):
        try:
            os.rmdir(name, dir_fd=directory)
            return
        except FileNotFoundError:
            return
        except OSError as error:
            _forgive(error, directory, name, attempt)


def _forgive(error: OSError, directory: int, name: str, attempt: int) -> None:
    """Take away what hindered a removal, or raise: a busy entry gets a moment, an immutable one its flag cleared."""
    if attempt == _RETRIES - 1 or error.errno not in (errno.EBUSY, errno.EPERM, errno.ENOTEMPTY):
        raise error
    if error.errno == errno.EPERM:
        if attempt > 0:
            raise error
        _writable(directory, name)
    else:
        time.sleep(_PAUSE)


def _writable(directory: int, name: str) -> None:
    """Clear the immutable and append-only flags (chattr(1)) of a directory and of one entry in it."""
    _clear_flags(directory)
    try:
        held = inodes.hold(name, directory)
    except OSError:
        return
    try:
        mode = os.fstat(held).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            return  # opening a device does things; links and sockets have no flags
        fd = inodes.reopen(held)
    except OSError:
        return
    finally:
        os.close(held)
    try:
        _clear_flags(fd)
    finally:
        os.close(fd)


def _clear_flags(fd: int) -> None:
    try:
        fileflags.change(fd, take=fileflags.IMMUTABLE | fileflags.APPEND_ONLY)
    except OSError:
        return  # a file system without flags; the removal itself will say what is wrong
