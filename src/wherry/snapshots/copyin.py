"""A tar stream into a directory that is in use: for `docker cp` and `PUT …/archive`.

Entries take the place of what is there; directories are joined. Names are resolved as a process in the container would
resolve them, and never out of its root; `..` that leaves the archive is refused.
"""

import os
import stat
from errno import EFBIG, EINVAL, ENAMETOOLONG, ERANGE

from wherry.errors import HostileInput, InvalidArgument, KernelError, WherryError
from wherry.snapshots.harmless import disarm
from wherry.snapshots.limits import Limits
from wherry.snapshots.tar import DIRECTORY, FILE, HARDLINK, SYMLINK, Entry, TarReader
from wherry.snapshots.tarfields import shown
from wherry.snapshots.tree import Tree, path_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from wherry.snapshots.tar import Pieces


class Into:
    """How entries are written.

    Args:
        owner: user and group of everything, in place of the archive's.
        keep_kinds: refuse to put a file in the place of a directory, or the other way round.
        shown_at: the directory's path, for errors.
        rename: gives the names in the archive, those of hard links' targets too, other ones.
        root: whether the archive's own root gives the directory its owner, mode and time.
        attributes: whether extended attributes are written, which takes root's rights.
        harmless: the advice with which device nodes are refused (`harmless.disarm`); setuid bits are taken away then.
    """

    __slots__ = ("attributes", "harmless", "keep_kinds", "owner", "rename", "root", "shown_at")

    def __init__(
        self,
        owner: "tuple[int, int] | None" = None,
        keep_kinds: bool = False,
        shown_at: str = "/",
        rename: "Callable[[bytes], bytes] | None" = None,
        attributes: bool = True,
        root: bool = False,
        harmless: str = "",
    ) -> None:
        self.harmless = harmless
        self.root = root
        self.owner = owner
        self.keep_kinds = keep_kinds
        self.shown_at = shown_at
        self.rename = rename
        self.attributes = attributes


def read_copy(source: "Pieces", target: int, within: "tuple[int, bytes] | None", how: Into, limits: Limits) -> int:
    """Write every entry of an archive below a directory.

    Args:
        source: the archive's bytes, inflated.
        target: the directory; stays open.
        within: as `Tree` has it: where links lead to.

    Returns:
        How many entries were written.

    Raises:
        HostileInput, StoreCorrupt: the archive.
        InvalidArgument: `keep_kinds` forbids an entry.
        KernelError: something could not be written.
    """
    reader = TarReader(source, limits)
    tree = Tree(target, within)
    try:
        while (entry := reader.next()) is not None:
            _change(entry, how)
            try:
                _write(reader, tree, entry, how, limits.max_depth)
            except WherryError as error:
                error.facts.setdefault("entry", shown(entry.name))
                raise
            except OSError as error:
                raise _translated(error, entry.name) from error
        tree.finish()
    finally:
        tree.close()
    return reader.entries


def _change(entry: Entry, how: Into) -> None:
    if how.harmless:
        disarm(entry, how.harmless)
    if how.owner is not None:
        entry.uid, entry.gid = how.owner
    if how.rename is not None:
        entry.name = how.rename(entry.name)
        if entry.type == HARDLINK:
            entry.linkname = how.rename(entry.linkname)
    if not how.attributes:
        entry.xattrs = None


def _write(reader: TarReader, tree: Tree, entry: Entry, how: Into, max_depth: int) -> None:
    path = path_of(entry.name, max_depth)
    parent, _, name = path.rpartition(b"/")
    if not name:
        if entry.type != DIRECTORY:
            raise HostileInput(f"archive entry {shown(entry.name)!r} is no directory, and names the root")
        if how.root:
            tree.directory(b"", b"", entry)
        return  # else the directory itself keeps what it has
    if how.keep_kinds:
        _check_kind(tree.parent(parent), name, entry, how)
    if entry.type == FILE:
        fd = tree.file(parent, name)
        try:
            if entry.size:
                reader.copy_to(fd)
            tree.finish_file(fd, entry)
        finally:
            os.close(fd)
    elif entry.type == DIRECTORY:
        tree.directory(parent, name, entry)
    elif entry.type == SYMLINK:
        tree.symlink(parent, name, entry)
    elif entry.type == HARDLINK:
        target_parent, _, target = path_of(entry.linkname, max_depth).rpartition(b"/")
        if not target:
            raise HostileInput(f"archive entry {shown(path)!r} is a hard link to the root", entry=shown(path))
        tree.hardlink(parent, name, target_parent, target)
    else:
        tree.special(parent, name, entry)


def _check_kind(fd: int, name: bytes, entry: Entry, how: Into) -> None:
    try:
        there = stat.S_ISDIR(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return
    path = f"{how.shown_at.rstrip('/')}/{shown(entry.name).rstrip('/')}"
    if there and entry.type != DIRECTORY:
        raise InvalidArgument(f'cannot overwrite directory "{path}" with non-directory "{how.shown_at}"')
    if not there and entry.type == DIRECTORY:
        raise InvalidArgument(f'cannot overwrite non-directory "{path}" with directory "{how.shown_at}"')


def _translated(error: OSError, name: bytes) -> WherryError:
    errno = error.errno or 0
    if errno in (ENAMETOOLONG, EINVAL, ERANGE, EFBIG):
        return HostileInput(f"archive entry {shown(name)!r}: {os.strerror(errno).lower()}", entry=shown(name))
    return KernelError("copy", errno, shown(name), entry=shown(name))
