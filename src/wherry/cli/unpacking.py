"""An archive into a directory of the user's: nothing of it lands outside, whatever its names say, or gives rights."""

import os

_ADVICE = "use --output type=tar, which keeps everything"


def unpack(fd: int, directory: str) -> None:
    """Write an archive's files below a directory; whoever is not root owns them.

    Args:
        fd: the archive, at its beginning.
        directory: exists; files in the way are replaced.

    Raises:
        HostileInput, StoreCorrupt, KernelError: the archive is not what it should be.
        InvalidArgument: it has a device node.
    """
    # only here: the short-lived command does not pay for a tar reader that it does not use
    from wherry.snapshots.inflate import Stream
    from wherry.snapshots.limits import Limits
    from wherry.snapshots.ownership import Owner
    from wherry.snapshots.plaintar import plain_entries
    from wherry.snapshots.tar import TarReader

    limits = Limits()
    target = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        owner = None if os.geteuid() == 0 else Owner(os.geteuid(), os.getegid())
        plain_entries(TarReader(Stream(fd, limits), limits), target, limits.max_depth, owner, _ADVICE)
    finally:
        os.close(target)
