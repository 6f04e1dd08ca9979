"""What the engine itself puts into a container's upper directory: places to mount on, where the image has none, and
the empty file by which programs see that they are in a container.

Docker keeps these in a layer of their own, below the container's; here they are told apart by what they are. Each has
something mounted on it as long as the container runs, so that nothing of the container's can be in it.
"""

import os
import stat

from wherry.snapshots.metadata import is_opaque

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_DIRECTORIES = (b"dev", b"proc", b"sys")
_FILES = (b"hostname", b"hosts", b"resolv.conf")
_PARENT = b"etc"
_MARK = b".dockerenv"


def scaffold(upper_fd: int, lowers: "Sequence[int]") -> frozenset[bytes]:
    """Return the paths, relative to the upper directory, that are only there to be mounted on.

    Args:
        upper_fd: the upper directory; stays open.
        lowers: descriptors of the layers' trees, newest first; stay open.
    """
    found = {name for name in _DIRECTORIES if _is_empty_directory(upper_fd, name)} | mark(upper_fd)
    parent = _open(upper_fd, _PARENT)
    if parent is None:
        return frozenset(found)
    try:
        names = {os.fsencode(name) for name in os.listdir(parent)}
        made = {name for name in names.intersection(_FILES) if _is_empty_file(parent, name)}
        found |= {_PARENT + b"/" + name for name in made}
        # the directory was copied up only for their sake, or made for it
        if made == names and not is_opaque(parent) and _same_below(os.fstat(parent), lowers):
            found.add(_PARENT)
    finally:
        os.close(parent)
    return frozenset(found)


def _is_empty_directory(fd: int, name: bytes) -> bool:
    directory = _open(fd, name)
    if directory is None:
        return False
    try:
        return not os.listdir(directory)
    finally:
        os.close(directory)


def mark(upper_fd: int) -> frozenset[bytes]:
    """Return the path of the file that says "a container", which is there from the beginning, if it is still ours."""
    try:
        return frozenset({_MARK}) if _is_empty_file(upper_fd, _MARK) else frozenset()
    except FileNotFoundError:
        return frozenset()


def _is_empty_file(fd: int, name: bytes) -> bool:
    found = os.stat(name, dir_fd=fd, follow_symlinks=False)
    return stat.S_ISREG(found.st_mode) and found.st_size == 0


def _same_below(found: os.stat_result, lowers: "Sequence[int]") -> bool:
    """Whether the layers below have the directory with the same owner and mode, or nothing of that name."""
    for fd in lowers:
        try:
            below = os.stat(_PARENT, dir_fd=fd, follow_symlinks=False)
        except FileNotFoundError:
            continue
        return (below.st_mode, below.st_uid, below.st_gid) == (found.st_mode, found.st_uid, found.st_gid)
    return True


def _open(fd: int, name: bytes) -> int | None:
    try:
        return os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError:
        if stat.S_ISLNK(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode):
            return None
        raise
