"""What a bind mount brings in, where that is more than a path: a descriptor, or a place in another mount namespace."""

import os

from wherry.linux import mount as m
from wherry.linux.files import O_PATH, RESOLVE_BENEATH, open_in_root
from wherry.runtime.elsewhere import clone_from


class Source:
    """One opened source.

    Args:
        fd: the file or directory itself; or a mount namespace, where `path` says where in it.
        path: absolute path in that namespace; empty: `fd` is the thing itself.
        subpath: relative; what is mounted lies there, below the directory. A stranger writes to that directory: the
            path never leads out of it.
    """

    __slots__ = ("fd", "path", "subpath")

    def __init__(self, fd: int, path: str = "", subpath: str = "") -> None:
        self.fd = fd
        self.path = path
        self.subpath = subpath


def clone_source(source: Source, *, recursive: bool) -> int:
    """A detached copy of the mount, as a descriptor.

    Raises:
        KernelError: it is not there (any more).
    """
    if not source.path:
        return _copy(source.fd, source.subpath, recursive)

    def copy() -> int:
        return _copy(os.open(source.path, O_PATH | os.O_DIRECTORY), source.subpath, recursive)

    return clone_from(source.fd, copy, "volume")


def _copy(top: int, subpath: str, recursive: bool) -> int:
    if not subpath:
        return m.clone_tree("", at=top, recursive=recursive)
    below = open_in_root(top, subpath, O_PATH, resolve=RESOLVE_BENEATH)
    try:
        return m.clone_tree("", at=below, recursive=recursive)
    finally:
        os.close(below)
