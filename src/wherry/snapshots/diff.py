"""What a container changed, and how much it holds: walks of an upper directory from outside, by descriptor."""

import os
import stat

from wherry.errors import HostileInput, KernelError
from wherry.snapshots.measure import inodes, open_directory
from wherry.snapshots.metadata import is_opaque, is_whiteout
from wherry.snapshots.tarfields import shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

_MAX_DEPTH = 256
ADDED, CHANGED, DELETED = "A", "C", "D"


def diff_upper(
    upper_fd: int, lowers: "Sequence[int]", hidden: "Collection[bytes]" = frozenset()
) -> list[tuple[str, str]]:
    """List what an upper directory adds to, changes in and deletes from the layers below it, as `docker diff` does.

    Args:
        upper_fd: the upper directory; stays open.
        lowers: descriptors of the layers' trees, newest first; stay open.
        hidden: paths, relative to the directory, that are passed over (`scaffold`).

    Returns:
        (`A`, `C` or `D`, absolute path), in order of path. A directory in which something changed is `C` itself. Names
        that are no UTF-8 come as `os.fsdecode` has them.

    Raises:
        KernelError: something could not be read.
        HostileInput: the directory is nested more deeply than any archive may be.
    """
    changes: list[tuple[str, bytes]] = []
    try:
        _compare(
            upper_fd, list(lowers), b"", changes, frozenset(b"/" + path for path in hidden), opaque=is_opaque(upper_fd)
        )
    except KernelError:
        raise
    except OSError as error:
        raise KernelError("compare layers", error.errno or 0, str(error.filename or "") or None) from error
    return [(kind, os.fsdecode(path)) for kind, path in sorted(changes, key=lambda change: change[1])]


def usage(dir_fd: int) -> tuple[int, int]:
    """Return the bytes of all files below a directory and the number of inodes, each file with several names once.

    Bytes are those that files say they have, holes included and directories not, as Docker counts a container's size.
    What lies deeper than a path can say (4095 bytes) is not counted.

    Raises:
        KernelError: something could not be read.
    """
    total = count = 0
    for found in inodes(dir_fd):
        count += 1
        if not stat.S_ISDIR(found.st_mode):
            total += found.st_size
    return total, count


def _compare(
    upper: int,
    lowers: list[int],
    path: bytes,
    changes: list[tuple[str, bytes]],
    hidden: frozenset[bytes],
    *,
    opaque: bool,
) -> bool:
    """Compare one directory with the same one below; True where anything in it differs."""
    if path.count(b"/") > _MAX_DEPTH:
        raise HostileInput(f"{shown(path)!r} is more than {_MAX_DEPTH} directories deep", path=shown(path))
    before = len(changes)
    names = _names(upper)
    if opaque:
        own = set(names)
        changes += [(DELETED, path + b"/" + name) for name in _visible(lowers) if name not in own]
    for name in names:
        full = path + b"/" + name
        if full in hidden:
            continue
        try:
            found = os.stat(name, dir_fd=upper, follow_symlinks=False)
        except FileNotFoundError:
            continue
        below = _find(lowers, name)
        if is_whiteout(found):
            if below is not None:
                changes.append((DELETED, full))
            continue
        if not stat.S_ISDIR(found.st_mode):
            changes.append((ADDED if below is None else CHANGED, full))
            continue
        _directory(upper, lowers, name, full, found, below, changes, hidden)
    return len(changes) > before


def _directory(
    upper: int,
    lowers: list[int],
    name: bytes,
    full: bytes,
    found: os.stat_result,
    below: os.stat_result | None,
    changes: list[tuple[str, bytes]],
    hidden: frozenset[bytes],
) -> None:
    fd = open_directory(upper, name)
    if fd is None:
        return
    under: list[int] = []
    try:
        was_directory = below is not None and stat.S_ISDIR(below.st_mode)
        if was_directory:
            under = _descend(lowers, name)
        differs = _compare(fd, under, full, changes, hidden, opaque=is_opaque(fd))
        if below is None:
            changes.append((ADDED, full))
        elif differs or not was_directory or _metadata(found) != _metadata(below):
            changes.append((CHANGED, full))
    finally:
        os.close(fd)
        for one in under:
            os.close(one)


def _metadata(found: os.stat_result) -> tuple[int, ...]:
    return found.st_mode, found.st_uid, found.st_gid, found.st_mtime_ns


def _find(lowers: list[int], name: bytes) -> os.stat_result | None:
    """Return what the layers below show under `name`: the newest one that has an opinion decides."""
    for fd in lowers:
        try:
            found = os.stat(name, dir_fd=fd, follow_symlinks=False)
        except FileNotFoundError:
            continue
        return None if is_whiteout(found) else found
    return None


def _descend(lowers: list[int], name: bytes) -> list[int]:
    """Open the directory `name` in every layer that contributes to it, newest first."""
    opened: list[int] = []
    try:
        for fd in lowers:
            try:
                found = os.stat(name, dir_fd=fd, follow_symlinks=False)
            except FileNotFoundError:
                continue
            child = open_directory(fd, name) if stat.S_ISDIR(found.st_mode) else None
            if child is None:
                break
            opened.append(child)
            if is_opaque(child):
                break
    except BaseException:
        for fd in opened:
            os.close(fd)
        raise
    return opened


def _visible(lowers: list[int]) -> list[bytes]:
    names = sorted({name for fd in lowers for name in _names(fd)})
    return [name for name in names if _find(lowers, name) is not None]


def _names(fd: int) -> list[bytes]:
    return [os.fsencode(name) for name in os.listdir(fd)]
