"""What is in a container, or in a volume, as a tar stream: for `docker cp` and `GET …/archive`, and for exports.

Unlike `archive`, this reads a tree that may change under its eyes and that other mounts lie in; windows into the kernel
(/proc, /sys) come as empty directories. A name is resolved once, no link is followed, and only regular files and
directories are opened (`inodes`).
"""

import errno
import os
import stat

from wherry.errors import Conflict, HostileInput, KernelError
from wherry.linux import inodes
from wherry.snapshots.located import Located, is_window
from wherry.snapshots.metadata import entry_of
from wherry.snapshots.tar import FILE, HARDLINK, SYMLINK, Entry
from wherry.snapshots.tarfields import shown
from wherry.snapshots.tarwriter import END, headers, padding
from wherry.snapshots.xattrs import read_xattrs

_PIECE = 256 * 1024
_MAX_DEPTH = 256
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CHANGED = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)


def write_copy(found: Located, out: int) -> int:
    """Write what was found, and all below it, as a tar archive.

    Changes this process's working directory: for a process of its own.

    Args:
        found: from `locate`; its name is the first entry's.
        out: file, pipe or socket; stays open.

    Returns:
        Bytes of the archive.

    Raises:
        Conflict: a file became shorter while it was read.
        HostileInput: the tree is nested more deeply than any archive may be.
        KernelError: something could not be read or written.
    """
    copier = _Copier(out)
    try:
        name = os.fsencode(found.name)
        if found.directory >= 0:
            copier.directory(found.directory, name if name.endswith(b"/") else name + b"/", 0)
        else:
            copier.other(found.held, name, found.status)
        copier.send(END)
        copier.flush()
    except KernelError:
        raise
    except OSError as error:
        # names come as bytes or text, and a failed read or write has a number of a descriptor, or nothing
        about = shown(os.fsencode(error.filename)) if isinstance(error.filename, bytes | str) else None
        if about and error.errno in _CHANGED:
            raise Conflict(f"{about!r} changed while it was read", path=about) from None
        raise KernelError("copy", error.errno or 0, about) from error
    return copier.size


class _Copier:
    __slots__ = ("_buffer", "_links", "_out", "size")

    def __init__(self, out: int) -> None:
        self._out = out
        self._buffer = bytearray()
        self._links: dict[tuple[int, int], bytes] = {}
        self.size = 0

    def send(self, data: bytes) -> None:
        self._buffer += data
        self.size += len(data)
        if len(self._buffer) >= _PIECE:
            self.flush()

    def flush(self) -> None:
        rest = memoryview(bytes(self._buffer))
        self._buffer.clear()
        while rest:
            rest = rest[os.write(self._out, rest) :]

    def directory(self, fd: int, path: bytes, depth: int) -> None:
        if depth > _MAX_DEPTH:
            raise HostileInput(f"{shown(path)!r} is more than {_MAX_DEPTH} directories deep", path=shown(path))
        entry = entry_of(path, os.fstat(fd))
        window = is_window(fd)
        entry.xattrs = None if window else read_xattrs(fd)
        self._put(entry)
        if window:
            return
        for text in sorted(os.listdir(fd)):
            name = os.fsencode(text)
            try:
                held = inodes.hold(name, fd)
            except FileNotFoundError:
                continue  # gone since the directory was read
            try:
                found = os.fstat(held)
                if not stat.S_ISDIR(found.st_mode):
                    self.other(held, path + name, found)
                    continue
                below = inodes.reopen(held, _DIRECTORY, path + name)
            finally:
                os.close(held)
            try:
                self.directory(below, path + name + b"/", depth + 1)
            finally:
                os.close(below)

    def other(self, held: int, path: bytes, found: os.stat_result) -> None:
        """Write what is no directory; `held` stays open."""
        if stat.S_ISSOCK(found.st_mode):
            return  # nobody listens at a socket that was copied
        entry = entry_of(path, found)
        key = (found.st_dev, found.st_ino)
        if found.st_nlink > 1:
            first = self._links.setdefault(key, path)
            if first != path:
                entry.type, entry.linkname = HARDLINK, first
                self._put(entry)
                return
        if entry.type == FILE:
            self._file(held, path, found)
            return
        if entry.type == SYMLINK:
            entry.linkname = os.readlink(b"", dir_fd=held)
        entry.xattrs = read_xattrs(inodes.path(held))
        self._put(entry)

    def _file(self, held: int, path: bytes, found: os.stat_result) -> None:
        file = inodes.reopen(held, name=path)
        try:
            entry = entry_of(path, found)
            entry.size = left = found.st_size
            entry.xattrs = read_xattrs(file)
            self._put(entry)
            while left:
                data = os.read(file, min(left, _PIECE))
                if not data:
                    raise Conflict(f"{shown(path)!r} became shorter while it was read", path=shown(path))
                self.send(data)
                left -= len(data)
            self.send(padding(found.st_size))
        finally:
            os.close(file)

    def _put(self, entry: Entry) -> None:
        self.send(headers(entry))
