"""Remove a directory tree by descriptors: no path is resolved twice, no link followed, no mount entered."""

import os
import stat
from errno import EBUSY, EISDIR, ENOENT, ENOTEMPTY, EXDEV

from wherry.errors import KernelError
from wherry.linux.openat import RESOLVE_BENEATH, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, RESOLVE_NO_XDEV, openat2
from wherry.snapshots.tarfields import shown

_BENEATH = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV
_DEEP = 64  # levels that are held open at once: a container may nest deeper than descriptors or paths reach


def remove_tree(dir_fd: int, name: "bytes | str") -> None:
    """Remove `name` in `dir_fd`, whatever it is, with all that is below it; that it is not there is no error.

    Args:
        dir_fd: descriptor of the parent directory.
        name: one component.

    Raises:
        KernelError: something could not be removed, a mount inside (EXDEV) among it; what is mounted is not touched.
    """
    target = os.fsencode(name)
    if b"/" in target or target in (b"", b".", b".."):
        raise ValueError(name)
    try:
        if _unlink(dir_fd, target):
            return
        top = openat2(dir_fd, target, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, _BENEATH)
    except OSError as error:
        if error.errno == ENOENT:
            return
        raise _failed(error, target) from None
    try:
        _empty(top)
    finally:
        os.close(top)
    _rmdir(dir_fd, target)


def _empty(top: int) -> None:
    """Remove everything in the directory `top`, depth first, at most `_DEEP` levels open."""
    moved = 0
    # Each level: its descriptor, its name in the level above, and what is still in it.
    stack: list[tuple[int, bytes, list[bytes]]] = [(top, b"", _names(top))]
    try:
        while stack:
            fd, own, names = stack[-1]
            if not names:
                # Something may have been moved to the top meanwhile.
                if len(stack) == 1 and (again := _names(top)):
                    stack[-1] = (fd, own, again)
                    continue
                stack.pop()
                if stack:
                    os.close(fd)
                    _rmdir(stack[-1][0], own)
                continue
            name = names.pop()
            try:
                if _unlink(fd, name):
                    continue
                if len(stack) >= _DEEP:
                    moved = _lift(fd, name, top, moved)
                    continue
                child = openat2(fd, name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, _BENEATH)
            except OSError as error:
                if error.errno == ENOENT:
                    continue
                raise _failed(error, name) from None
            try:
                stack.append((child, name, _names(child)))
            except OSError:
                os.close(child)
                raise
    finally:
        for fd, _, _ in stack[1:]:
            os.close(fd)


def _lift(fd: int, name: bytes, top: int, moved: int) -> int:
    """Move a directory that lies too deep up to `top`, where it is met again; returns the counter of such names."""
    while True:
        moved += 1
        free = b".deep-%d" % moved
        try:
            os.stat(free, dir_fd=top, follow_symlinks=False)
        except FileNotFoundError:
            os.rename(name, free, src_dir_fd=fd, dst_dir_fd=top)
            return moved


def _names(fd: int) -> list[bytes]:
    return [os.fsencode(name) for name in os.listdir(fd)]


def _unlink(fd: int, name: bytes) -> bool:
    """Unlink a non-directory; False where `name` is a directory."""
    try:
        os.unlink(name, dir_fd=fd)
    except OSError as error:
        # Linux says EISDIR for a directory; POSIX allows EPERM, which an immutable file gives too.
        if error.errno == EISDIR:
            return False
        if error.errno == ENOENT:
            return True
        if stat.S_ISDIR(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode):
            return False
        raise
    return True


def _rmdir(fd: int, name: bytes) -> None:
    try:
        os.rmdir(name, dir_fd=fd)
    except OSError as error:
        if error.errno != ENOENT:
            raise _failed(error, name) from None


def _failed(error: OSError, name: bytes) -> KernelError:
    what = {EXDEV: "remove a tree with a mount inside", EBUSY: "remove a mount point", ENOTEMPTY: "remove a directory"}
    errno = error.errno or 0
    return KernelError(what.get(errno, "remove"), errno, shown(name))
