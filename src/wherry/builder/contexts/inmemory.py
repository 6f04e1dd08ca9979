"""A small build context, read without writing anything: what is in it and what that hashes to.

Only what is plain is read here: files, directories and links, each once, none below a link. Whatever else an archive
may hold is for the confined worker that unpacks it.
"""

import os
from hashlib import sha256

from wherry.errors import WherryError
from wherry.snapshots.inflate import Stream
from wherry.snapshots.limits import MIB, Limits
from wherry.snapshots.tar import DIRECTORY, FILE, SYMLINK, TarReader
from wherry.snapshots.tree import path_of
from wherry.snapshots.treeview import Entry

_INFLATED = 8 * MIB
_ENTRIES = 2000


def read(data: bytes) -> tuple[dict[str, Entry], dict[str, bytes]] | None:
    """Read an archive.

    Args:
        data: all of it, plain or compressed.

    Returns:
        (entries by path, parents first; contents of the files), or None where it is not plain.
    """
    fd = os.memfd_create("wherry-context", os.MFD_CLOEXEC)
    try:
        os.write(fd, data)
        os.lseek(fd, 0, os.SEEK_SET)
        limits = Limits(max_bytes=_INFLATED, max_entries=_ENTRIES)
        stream = Stream(fd, limits)
        found = _entries(TarReader(stream, limits), limits.max_depth)
        stream.drain()
        return found
    except WherryError:
        return None  # the worker says what is wrong with it
    finally:
        os.close(fd)


def _entries(reader: TarReader, max_depth: int) -> tuple[dict[str, Entry], dict[str, bytes]] | None:
    entries: dict[str, Entry] = {}
    contents: dict[str, bytes] = {}
    while (item := reader.next()) is not None:
        path = os.fsdecode(path_of(item.name, max_depth))
        if not path and item.type == DIRECTORY:
            continue
        parent = path.rpartition("/")[0]
        if item.type not in (FILE, DIRECTORY, SYMLINK) or item.xattrs or item.sparse is not None or not path:
            return None
        if path in entries or not _have(entries, parent):
            return None
        mode = item.mode & 0o7777
        if item.type == DIRECTORY:
            entries[path] = Entry("d", mode, mtime_ns=item.mtime_ns)
        elif item.type == SYMLINK:
            entries[path] = Entry("l", 0o777, mtime_ns=item.mtime_ns, link=os.fsdecode(item.linkname))
        else:
            pieces = []
            while piece := reader.read(1 << 16):
                pieces.append(bytes(piece))
            content = contents[path] = b"".join(pieces)
            digest = sha256(content).hexdigest()
            entries[path] = Entry("f", mode, size=len(content), mtime_ns=item.mtime_ns, digest=digest)
    return entries, contents


def _have(entries: dict[str, Entry], directory: str) -> bool:
    """Whether a directory is there, or can be implied; it is in `entries` then."""
    missing: list[str] = []
    while directory and directory not in entries:
        missing.append(directory)
        directory = directory.rpartition("/")[0]
    if directory and entries[directory].kind != "d":
        return False
    for path in reversed(missing):
        entries[path] = Entry("d", 0o755)
    return True
