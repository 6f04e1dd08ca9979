"""What an archive's entry must not bring to the machine that it is unpacked on: rights beyond the user's own.

`cp` out of a container and a build's local output write a stranger's files as whoever calls them, often root. A
set-user-ID program (chmod(2)) or a file capability (capabilities(7)) would be as strong here as in the container, and a
device node is a device of this machine (mknod(2)).
"""

import stat

from wherry.errors import InvalidArgument
from wherry.snapshots.tar import BLOCK, CHARACTER, FILE, Entry
from wherry.snapshots.tarfields import shown

_CAPABILITY = b"security.capability"


def disarm(entry: Entry, advice: str) -> None:
    """Take set-user-ID, set-group-ID and file capabilities from a file's entry.

    Args:
        entry: changed in place; directories keep their set-group-ID bit, which gives nobody a right.
        advice: how the user gets a device node if it is wanted; ends the error.

    Raises:
        InvalidArgument: it is a device node.
    """
    if entry.type in (CHARACTER, BLOCK):
        raise InvalidArgument(
            f"{shown(entry.name)!r} is a device node, which would be a device of this machine: {advice}"
        )
    if entry.type == FILE:
        entry.mode &= ~(stat.S_ISUID | stat.S_ISGID)
        if entry.xattrs:
            entry.xattrs.pop(_CAPABILITY, None)
