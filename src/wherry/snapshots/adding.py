"""What `ADD` does with an archive: taken apart into a directory of the root."""

import os

from wherry.errors import WherryError
from wherry.snapshots.inflate import Stream, load_all
from wherry.snapshots.limits import Limits
from wherry.snapshots.plaintar import plain_entries
from wherry.snapshots.tar import TarReader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.snapshots.ownership import Owner

__all__ = ["is_archive", "load_all", "unpack_into"]


def is_archive(fd: int) -> bool:
    """Whether a file begins as a tar archive does, plain or compressed; it is at its beginning afterwards."""
    limits = Limits()
    try:
        return TarReader(Stream(fd, limits), limits).next() is not None
    except WherryError:
        return False
    finally:
        os.lseek(fd, 0, os.SEEK_SET)


def unpack_into(fd: int, directory: int, owner: "Owner | None") -> None:
    """Unpack an archive, plain or compressed, below an open directory, which may hold files already.

    Args:
        fd: the archive, at its beginning.
        owner: who gets the files, whatever the archive says.

    Raises:
        HostileInput, StoreCorrupt, KernelError: as `plain_entries`.
    """
    limits = Limits()
    plain_entries(TarReader(Stream(fd, limits), limits), directory, limits.max_depth, owner)
