"""A directory tree as a reproducible pax archive: for commit, import, save and export.

Entries come in order of name, a directory before what is in it, and carry numeric owners and nothing of the moment. A
layer's tree has overlayfs's whiteouts in it; they are turned back into the image specification's `.wh.` files. The tree
may change meanwhile: a file's name is resolved once, and only regular files and directories are opened (`inodes`). No
link or mount is followed.
"""

import os
import stat
from errno import ENOENT, EXDEV
from hashlib import sha256

from wherry.errors import Conflict, HostileInput, InvalidArgument, KernelError
from wherry.linux import inodes
from wherry.linux.openat import RESOLVE_BENEATH, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, RESOLVE_NO_XDEV, openat2
from wherry.snapshots.metadata import entry_of, is_opaque, is_whiteout
from wherry.snapshots.tar import FILE, HARDLINK, SYMLINK, Entry
from wherry.snapshots.tarfields import shown
from wherry.snapshots.tarwriter import END, headers, padding
from wherry.snapshots.xattrs import read_xattrs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection
    from typing import Protocol

    class Compressor(Protocol):
        """The standard library's compressor objects."""

        def compress(self, data: bytes, /) -> bytes: ...
        def flush(self) -> bytes: ...


_BENEATH = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV
_PIECE = 256 * 1024
_MAX_DEPTH = 256  # what an archive may have when it is unpacked again (`Limits.max_depth`)
_WHITEOUT = b".wh."


class Written:
    """What was written.

    Fields: `diff_id` and `size` (sha256 and bytes of the archive), `digest` and `compressed_size` (of what went out;
    the same where it was not compressed), `entries`, `content_size` (bytes of the files).
    """

    __slots__ = ("compressed_size", "content_size", "diff_id", "digest", "entries", "size")

    def __init__(self) -> None:
        self.diff_id = ""
        self.size = 0
        self.digest = ""
        self.compressed_size = 0
        self.entries = 0
        self.content_size = 0

    def to_json(self) -> "dict[str, str | int]":
        """The fields as a worker's result carries them."""
        return {name: getattr(self, name) for name in self.__slots__}


def write_archive(
    dir_fd: int,
    out_fd: int,
    *,
    gzip: bool = False,
    whiteouts: bool = True,
    exclude: "Collection[bytes]" = (),
    root: bool = False,
    newest: int | None = None,
    copy_fd: int = -1,
    patient: bool = False,
) -> Written:
    """Write the tree below a directory as an archive.

    Args:
        dir_fd: the directory; stays open.
        out_fd: file, pipe or socket; stays open.
        gzip: compress it (without a time; the compressed bytes may differ between versions of the library).
        whiteouts: the tree is a layer's: overlayfs's whiteouts become `.wh.` files. Else they are devices like others.
        exclude: paths, relative to the directory, that are left out with what is below them.
        root: begin with an entry `./` that carries the directory's own metadata.
        newest: nanoseconds since the epoch; later times become this one.
        copy_fd: takes the same archive, never compressed; stays open.
        patient: fill up a file that became shorter while it was read with zeros, as tar(1) does.

    Returns:
        Digests and sizes, made while writing.

    Raises:
        Conflict: a file became shorter while it was read.
        HostileInput: the tree is deeper than what can be unpacked again.
        InvalidArgument: a file of a layer has a name that a layer gives another meaning (`.wh.…`).
        KernelError: something could not be read or written.
    """
    try:
        return _Archiver(
            _Output(out_fd, copy_fd, gzip=gzip), whiteouts, frozenset(exclude), newest, patient=patient
        ).run(dir_fd, root)
    except KernelError:
        raise
    except OSError as error:
        raise KernelError("write archive", error.errno or 0, _text(error.filename)) from error


class _Output:
    """Bytes on their way out: hashed, perhaps compressed, hashed again, written in large pieces."""

    __slots__ = ("_buffer", "_compressor", "_copy", "_fd", "_hash", "_outer", "compressed_size", "size")

    def __init__(self, fd: int, copy: int, *, gzip: bool) -> None:
        self._fd = fd
        self._copy = copy
        self._buffer = bytearray()
        self._hash = sha256()
        self._outer = sha256() if gzip else self._hash
        self._compressor: Compressor | None = None
        self.size = 0
        self.compressed_size = 0
        if gzip:
            from isal import isal_zlib

            self._compressor = isal_zlib.compressobj(level=2, wbits=31)

    def write(self, data: bytes) -> None:
        self._buffer += data
        if len(self._buffer) >= _PIECE:
            self._flush()

    def finish(self, written: Written) -> None:
        self._flush()
        if self._compressor:
            self._send(self._compressor.flush())
        written.diff_id, written.size = f"sha256:{self._hash.hexdigest()}", self.size
        written.digest, written.compressed_size = f"sha256:{self._outer.hexdigest()}", self.compressed_size

    def _flush(self) -> None:
        data = bytes(self._buffer)
        self._buffer.clear()
        self._hash.update(data)
        self.size += len(data)
        if self._copy >= 0:
            _write_all(self._copy, data)
        if self._compressor:
            self._send(self._compressor.compress(data))
        else:
            self._send(data, hashed=True)

    def _send(self, data: bytes, *, hashed: bool = False) -> None:
        if not hashed:
            self._outer.update(data)
        self.compressed_size += len(data)
        _write_all(self._fd, data)


def _write_all(fd: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]


class _Archiver:
    __slots__ = ("_exclude", "_links", "_newest", "_out", "_patient", "_whiteouts", "_written")

    def __init__(
        self, out: _Output, whiteouts: bool, exclude: frozenset[bytes], newest: int | None, *, patient: bool
    ) -> None:
        self._out = out
        self._whiteouts = whiteouts
        self._exclude = exclude
        self._newest = newest
        self._patient = patient
        self._written = Written()
        # files with several names: the name that was written, and how many are still to come
        self._links: dict[tuple[int, int], tuple[bytes, int]] = {}

    def run(self, dir_fd: int, root: bool) -> Written:
        if root:
            entry = self._entry(b"./", os.fstat(dir_fd))
            entry.xattrs = read_xattrs(dir_fd)
            self._put(entry)
        self._opaque(dir_fd, b"")
        stack: list[tuple[int, bytes, list[bytes]]] = [(dir_fd, b"", _names(dir_fd))]
        try:
            while stack:
                fd, path, names = stack[-1]
                if not names:
                    stack.pop()
                    if stack:
                        os.close(fd)
                    continue
                name = names.pop()
                full = path + name
                if full in self._exclude:
                    continue
                try:
                    found = self._look(fd, name, full)
                    if found is None:
                        continue
                    if len(stack) >= _MAX_DEPTH:
                        raise HostileInput(f"{shown(full)!r} is {len(stack)} directories deep", path=shown(full))
                    child = self._directory(fd, name, full, found)
                except FileNotFoundError:
                    continue  # gone since the directory was read
                if child is not None:
                    stack.append((child, full + b"/", []))
                    stack[-1][2].extend(_names(child))
        finally:
            for fd, _, _ in stack[1:]:
                os.close(fd)
        self._out.write(END)
        self._out.finish(self._written)
        return self._written

    def _look(self, fd: int, name: bytes, full: bytes) -> os.stat_result | None:
        """Write what is no directory; what a directory is like is returned."""
        held = inodes.hold(name, fd)
        try:
            found = os.fstat(held)
            if stat.S_ISDIR(found.st_mode):
                return found
            self._other(held, name, full, found)
            return None
        finally:
            os.close(held)

    def _directory(self, fd: int, name: bytes, full: bytes, found: os.stat_result) -> int | None:
        """Write a directory's entry and return its descriptor; None where something is mounted on it."""
        self._check_name(name, full)
        try:
            child = openat2(fd, name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, _BENEATH)
        except OSError as error:
            if error.errno == ENOENT:
                return None
            if error.errno != EXDEV:
                raise
            self._put(self._entry(full + b"/", found))
            return None
        try:
            entry = self._entry(full + b"/", os.fstat(child))
            entry.xattrs = read_xattrs(child)
            self._put(entry)
            self._opaque(child, full + b"/")
        except BaseException:
            os.close(child)
            raise
        return child

    def _opaque(self, fd: int, path: bytes) -> None:
        if self._whiteouts and is_opaque(fd):
            self._marker(path + b".wh..wh..opq")

    def _marker(self, path: bytes) -> None:
        entry = Entry()
        entry.name, entry.type, entry.mode = path, FILE, 0o600
        self._put(entry)

    def _other(self, held: int, name: bytes, full: bytes, found: os.stat_result) -> None:
        """Write what is no directory."""
        mode = found.st_mode
        if self._whiteouts and is_whiteout(found):
            self._marker(full[: len(full) - len(name)] + _WHITEOUT + name)
            return
        if stat.S_ISSOCK(mode):
            return  # nobody listens at a socket that was copied
        self._check_name(name, full)
        key = (found.st_dev, found.st_ino)
        entry = self._entry(full, found)
        if known := self._links.pop(key, None):
            first, left = known
            entry.type, entry.linkname = HARDLINK, first
            self._put(entry)
            if left > 1:
                self._links[key] = (first, left - 1)
            return
        if stat.S_ISREG(mode):
            self._file(held, full, found)
        else:
            self._unopened(held, entry)
        if found.st_nlink > 1:
            self._links[key] = (full, found.st_nlink - 1)

    def _unopened(self, held: int, entry: Entry) -> None:
        if entry.type == SYMLINK:
            entry.linkname = os.readlink(b"", dir_fd=held)
        # There is no getxattrat(2) before Linux 6.13.
        entry.xattrs = read_xattrs(inodes.path(held))
        self._put(entry)

    def _file(self, held: int, full: bytes, found: os.stat_result) -> None:
        file = inodes.reopen(held, name=full)
        try:
            entry = self._entry(full, found)
            entry.size = left = found.st_size
            entry.xattrs = read_xattrs(file)
            self._put(entry)
            while left:
                data = os.read(file, min(left, _PIECE))
                if not data and self._patient:
                    data = bytes(min(left, _PIECE))
                if not data:
                    raise Conflict(f"{shown(full)!r} became shorter while it was read", path=shown(full))
                self._out.write(data)
                left -= len(data)
            self._out.write(padding(found.st_size))
            self._written.content_size += found.st_size
        finally:
            os.close(file)

    def _entry(self, path: bytes, found: os.stat_result) -> Entry:
        entry = entry_of(path, found)
        if self._newest is not None:
            entry.mtime_ns = min(entry.mtime_ns, self._newest)
        return entry

    def _put(self, entry: Entry) -> None:
        self._written.entries += 1
        self._out.write(headers(entry))

    def _check_name(self, name: bytes, full: bytes) -> None:
        if self._whiteouts and name.startswith(_WHITEOUT):
            raise InvalidArgument(
                f"{shown(full)!r} cannot be stored in a layer: names with .wh. in front mean deleted files there",
                path=shown(full),
            )


def _names(fd: int) -> list[bytes]:
    """The names in a directory, last one first."""
    return sorted((os.fsencode(name) for name in os.listdir(fd)), reverse=True)


def _text(name: object) -> str | None:
    return None if name is None or isinstance(name, int) else shown(os.fsencode(str(name)))
