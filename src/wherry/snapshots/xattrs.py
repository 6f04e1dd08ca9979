"""The extended attributes of a file that an archive of it carries (xattr(7))."""

import os
from errno import ENODATA, ENOTSUP

# overlayfs' own bookkeeping, and labels that belong to this host and mean nothing on another
_NOT_CARRIED = ("trusted.overlay.", "user.overlay.", "security.selinux", "security.ima", "security.evm")
_NOT_CARRIED_BYTES = tuple(prefix.encode() for prefix in _NOT_CARRIED)


def read_xattrs(target: "int | bytes") -> "dict[bytes, bytes] | None":
    """Read the attributes of an open file, or of a held one by its path (`inodes.path`); None where there are none.

    Raises:
        OSError: they cannot be read.
    """
    try:
        names = os.listxattr(target)
    except OSError as error:
        if error.errno == ENOTSUP:
            return None
        raise
    found: dict[bytes, bytes] = {}
    for name in names:
        if name.startswith(_NOT_CARRIED):
            continue
        try:
            value = os.getxattr(target, name)
        except OSError as error:
            if error.errno in (ENODATA, ENOTSUP):  # it went meanwhile, or is one that only some system calls know
                continue
            raise
        found[os.fsencode(name)] = value
    return found or None


def carried(said: "dict[bytes, bytes] | None") -> "dict[bytes, bytes] | None":
    """Of the attributes that an archive's entry has, those that `read_xattrs` gives of its file."""
    return {name: value for name, value in (said or {}).items() if not name.startswith(_NOT_CARRIED_BYTES)} or None
