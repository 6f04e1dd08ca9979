"""A step's own tree becomes a layer: what its making left in it is taken out, it is written, and made durable."""

import os
import stat
from errno import ELOOP, ENOENT, ENOTDIR

from wherry.linux.libc import check, libc
from wherry.linux.openat import RESOLVE_BENEATH, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, openat2
from wherry.snapshots.archive import write_archive
from wherry.snapshots.metadata import is_opaque, is_whiteout, root_says_something

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

_BENEATH = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS


def worker(args: "dict[str, Any]", fds: "dict[str, int]") -> "dict[str, Any]":
    """Write a layer.

    Args:
        args: `stubs` (paths that something was mounted on), `lowers` (trees of the layers below), `newest`
            (nanoseconds or null: later times become this one).
        fds: `upper` (the layer's tree), `blob` (an empty file).

    Returns:
        the fields of `archive.Written`.

    Raises:
        As `write_archive`.
    """
    remove_stubs(fds["upper"], args.get("stubs") or (), args.get("lowers") or ())
    if args.get("newest") is not None:
        clamp(fds["upper"], int(args["newest"]))
    root = root_says_something(os.fstat(fds["upper"]))
    written = write_archive(fds["upper"], fds["blob"], gzip=True, root=root)
    check(libc.syncfs(fds["upper"]), "syncfs")
    return written.to_json()


def remove_stubs(upper: int, paths: "Iterable[str]", lowers: "Sequence[str]") -> None:
    """Take away empty files and directories that were made only to mount something on them.

    Nothing is followed: a stub that the step has replaced by a link, or filled, stays as it is (CVE-2024-23652).

    Args:
        upper: the layer's tree.
        paths: mount points; their parents are looked at too.
        lowers: what was there before stays there.
    """
    every: set[str] = set()
    for path in paths:
        parts = [part for part in path.split("/") if part not in ("", ".", "..")]
        every.update("/".join(parts[: index + 1]) for index in range(len(parts)))
    for path in sorted(every, key=lambda text: -text.count("/")):
        parent, _, name = path.rpartition("/")
        try:
            above = openat2(upper, parent or ".", os.O_RDONLY | os.O_DIRECTORY, _BENEATH)
        except OSError as error:
            if error.errno in (ENOENT, ENOTDIR, ELOOP):
                continue
            raise
        try:
            _remove_empty(above, name, path, lowers)
        finally:
            os.close(above)


def _remove_empty(above: int, name: str, path: str, lowers: "Sequence[str]") -> None:
    try:
        found = os.stat(name, dir_fd=above, follow_symlinks=False)
    except FileNotFoundError:
        return
    plain_file = stat.S_ISREG(found.st_mode) and not found.st_size
    if not plain_file and not stat.S_ISDIR(found.st_mode):
        return
    below = _below(path, lowers)
    if below is not None and (plain_file or not _same(found, below) or _opaque(above, name)):
        return  # it was there, and the step has changed it; a directory copied up for our sake has the same metadata
    times = os.fstat(above)
    try:
        if plain_file:
            os.unlink(name, dir_fd=above)
        else:
            os.rmdir(name, dir_fd=above)
    except OSError:
        return  # something is in it: the step's own
    os.utime(above, ns=(times.st_atime_ns, times.st_mtime_ns))


def _below(path: str, lowers: "Sequence[str]") -> os.stat_result | None:
    """What the layers below, newest first, have there."""
    for lower in lowers:
        fd = os.open(lower, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            found = openat2(fd, path, os.O_PATH | os.O_NOFOLLOW, _BENEATH)
        except OSError as error:
            if error.errno in (ENOENT, ENOTDIR, ELOOP):
                continue
            raise
        finally:
            os.close(fd)
        try:
            status = os.fstat(found)
        finally:
            os.close(found)
        return None if is_whiteout(status) else status
    return None


def _same(one: os.stat_result, other: os.stat_result) -> bool:
    return (one.st_mode, one.st_uid, one.st_gid) == (other.st_mode, other.st_uid, other.st_gid)


def _opaque(above: int, name: str) -> bool:
    fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=above)
    try:
        return is_opaque(fd)
    finally:
        os.close(fd)


def clamp(upper: int, newest: int) -> None:
    """Give everything in a layer that is newer than a moment that moment (SOURCE_DATE_EPOCH)."""
    stack = [os.dup(upper)]
    while stack:
        fd = stack.pop()
        try:
            for name in os.listdir(fd):
                found = os.stat(name, dir_fd=fd, follow_symlinks=False)
                if stat.S_ISDIR(found.st_mode):
                    stack.append(os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=fd))
                if found.st_mtime_ns > newest:
                    os.utime(name, ns=(newest, newest), dir_fd=fd, follow_symlinks=False)
            if os.fstat(fd).st_mtime_ns > newest:
                os.utime(fd, ns=(newest, newest))
        finally:
            os.close(fd)
