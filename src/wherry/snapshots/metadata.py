"""What an archive says of a file on disk besides its content: read alike by who writes archives and who compares them.

A layer's tree has overlayfs's own marks in it (whiteouts, opaque directories); they are recognised here too.
"""

import os
import stat
from errno import ENODATA, ENOTSUP

from wherry.snapshots.tar import BLOCK, CHARACTER, DIRECTORY, FIFO, FILE, SYMLINK, Entry

_OPAQUE = "trusted.overlay.opaque"
_TYPES = {
    stat.S_IFREG: FILE,
    stat.S_IFLNK: SYMLINK,
    stat.S_IFCHR: CHARACTER,
    stat.S_IFBLK: BLOCK,
    stat.S_IFDIR: DIRECTORY,
    stat.S_IFIFO: FIFO,
}


def entry_of(path: bytes, found: os.stat_result) -> Entry:
    """Return the archive's entry of a file: type, permissions, owner, time, device; without size, target, attributes.

    A socket, which no archive has, is a KeyError.
    """
    entry = Entry()
    entry.name = path
    entry.type = _TYPES[stat.S_IFMT(found.st_mode)]
    entry.mode = stat.S_IMODE(found.st_mode)
    entry.uid, entry.gid = found.st_uid, found.st_gid
    entry.mtime_ns = found.st_mtime_ns
    if entry.type in (CHARACTER, BLOCK):
        entry.major, entry.minor = os.major(found.st_rdev), os.minor(found.st_rdev)
    return entry


def root_says_something(found: os.stat_result) -> bool:
    """Whether a layer's root differs from what every container's root is made with; most need no entry for it."""
    return (found.st_mode, found.st_uid, found.st_gid) != (stat.S_IFDIR | 0o755, 0, 0)


def is_whiteout(found: os.stat_result) -> bool:
    """Tell whether this is how overlayfs writes down a deleted file: a character device 0:0."""
    return stat.S_ISCHR(found.st_mode) and found.st_rdev == 0


def is_opaque(fd: int) -> bool:
    """Tell whether overlayfs shows nothing of the layers below in this directory."""
    try:
        return os.getxattr(fd, _OPAQUE) == b"y"
    except OSError as error:
        if error.errno in (ENODATA, ENOTSUP):
            return False
        raise
