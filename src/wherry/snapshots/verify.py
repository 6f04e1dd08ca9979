"""Compare a layer's tree on disk with the archive that it was unpacked from: in one pass, and nothing is written.

Every entry is held against the file of its name: type, content, permissions, owner, time, attributes, target. That
nothing was added is a sum over all names, made of the archive's and of the tree's (a keyed hash of each, which nobody
who writes a layer can know): it takes no memory, however many there are.

Equal is certain. Different is not: an archive may bring a file twice, or into a directory that no entry makes, and only
unpacking tells what comes of that. Such a layer is unpacked again, and the archive of that tree (`write_archive`, which
says everything once, parents first) is compared here: then different is certain too.

`worker` is what the spawner runs: it confines itself before it reads the first header.
"""

import os
import stat
from errno import EINVAL, ELOOP, ENOENT, ENOTDIR, ENXIO, EXDEV
from hashlib import blake2b

from wherry.errors import DigestMismatch, HostileInput, KernelError
from wherry.linux import inodes
from wherry.linux.openat import RESOLVE_BENEATH, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, RESOLVE_NO_XDEV, openat2
from wherry.snapshots.confine import confine_reader
from wherry.snapshots.inflate import Stream
from wherry.snapshots.limits import Limits
from wherry.snapshots.metadata import entry_of, is_opaque, is_whiteout, root_says_something
from wherry.snapshots.tar import DIRECTORY, FILE, HARDLINK, SYMLINK, Entry, TarReader
from wherry.snapshots.tarfields import shown
from wherry.snapshots.tree import bounded, path_of
from wherry.snapshots.unpack import OPAQUE_MARKER, WHITEOUT_PREFIX, is_note
from wherry.snapshots.xattrs import carried, read_xattrs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_BENEATH = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
# What was a file a moment ago may be a FIFO now, which would block.
_OPEN_DIRECTORIES = 128
_MAX_DEPTH = 256
_PIECE = 256 * 1024
_OPAQUE = b"/\0opaque"  # what is counted beside the name of an opaque directory: no file is called that
_MODULUS = 1 << 128
_NAMED = 200_000  # names that are remembered too, so that one that was added can be told


def verify_layer(
    source_fd: int, tree_fd: int, limits: Limits | None = None, *, expect_diff_id: str | None = None
) -> str:
    """Read a layer to its end and compare it with a tree.

    Args:
        source_fd: the layer (tar, plain or compressed); file or pipe, stays open.
        tree_fd: the directory that should hold it; stays open.
        expect_diff_id: what the inflated archive must hash to; None takes what comes.

    Returns:
        what differs, for people; nothing where the tree is what the archive says.

    Raises:
        DigestMismatch, HostileInput, StoreCorrupt: the archive itself is not what it should be.
        KernelError: something could not be read.
    """
    limits = limits or Limits()
    return _verify(Stream(source_fd, limits), tree_fd, limits, expect_diff_id)


def worker(args: "dict[str, Any]", fds: "dict[str, int]") -> "dict[str, Any]":
    """Run `verify_layer` as a process of its own, confined. Nothing can be imported in it afterwards.

    Args:
        args: `{"expect_diff_id": str | null}`.
        fds: `source`, `tree`.

    Returns:
        `{"difference": str}`.

    Raises:
        As `verify_layer`.
    """
    limits = Limits()
    try:
        # The first bytes name the decompressor, whose module must be imported while there is a path to it.
        stream = Stream(fds["source"], limits)
        confine_reader()
        return {"difference": _verify(stream, fds["tree"], limits, args.get("expect_diff_id"))}
    except MemoryError:
        raise HostileInput("layer asks for more memory than a worker has") from None


def _verify(stream: Stream, tree_fd: int, limits: Limits, expect_diff_id: str | None) -> str:
    comparison = _Comparison(TarReader(stream, limits), tree_fd, limits.max_depth)
    try:
        difference = comparison.run()
    except KernelError:
        raise
    except OSError as error:
        raise KernelError("compare", error.errno or 0, _name_of(error)) from error
    finally:
        comparison.close()
    # read to its end in any case: an archive that is damaged says nothing about the tree
    stream.drain()
    if expect_diff_id is not None and stream.digest != expect_diff_id:
        raise DigestMismatch(
            f"layer content is {stream.digest}, expected {expect_diff_id}", got=stream.digest, expected=expect_diff_id
        )
    return difference


class _Different(Exception):
    """What differs."""


class _Comparison:
    __slots__ = ("_key", "_max_depth", "_names", "_open", "_reader", "_root", "_root_told", "_sum")

    def __init__(self, reader: TarReader, root_fd: int, max_depth: int) -> None:
        self._reader = reader
        self._root = root_fd
        self._root_told = False
        self._max_depth = max_depth
        self._open: dict[bytes, int] = {b"": root_fd}
        self._key = os.urandom(32)
        self._sum = 0
        self._names: set[int] | None = set()

    def close(self) -> None:
        for path, fd in self._open.items():
            if path:
                os.close(fd)
        self._open = {b"": self._root}

    def run(self) -> str:
        try:
            while (entry := self._reader.next()) is not None:
                self._entry(entry)
            if not self._root_told and root_says_something(os.fstat(self._root)):
                raise _Different("the permissions or owner of '/' changed")
            self._walk()
        except _Different as difference:
            return str(difference)
        return "it has files that are not in the layer" if self._sum else ""

    # -- the archive's side

    def _entry(self, entry: Entry) -> None:
        path = path_of(entry.name, self._max_depth)
        parent, _, name = path.rpartition(b"/")
        if is_note(parent, name):
            return
        if name == OPAQUE_MARKER:
            self._count(parent + _OPAQUE)
            self._same(parent, "whiteouts", is_opaque(self._directory(parent)), wanted=(True,))
        elif name.startswith(WHITEOUT_PREFIX):
            hidden = name.removeprefix(WHITEOUT_PREFIX)
            path = parent + b"/" + hidden if parent else hidden
            self._count(path)
            self._same(path, "whiteouts", is_whiteout(self._stat(parent, hidden)), wanted=(True,))
        else:
            self._count(path)
            self._compare(entry, path, parent, name)

    def _compare(self, entry: Entry, path: bytes, parent: bytes, name: bytes) -> None:
        if entry.type == DIRECTORY:
            self._root_told |= not path
            fd = self._directory(path)
            self._metadata(entry, path, os.fstat(fd), fd)
            return
        found = self._stat(parent, name)
        if entry.type == HARDLINK:
            above, _, target = path_of(entry.linkname, self._max_depth).rpartition(b"/")
            other = self._stat(above, target)
            self._same(path, "link", found.st_dev, found.st_ino, wanted=(other.st_dev, other.st_ino))
            return
        above_fd = self._directory(parent)
        if entry.type == FILE and stat.S_ISREG(found.st_mode):
            self._file(entry, path, above_fd, name)
            return
        held = inodes.hold(name, above_fd)
        try:
            self._metadata(entry, path, found, inodes.path(held))
            if entry.type == SYMLINK:
                self._same(path, "target", os.readlink(b"", dir_fd=held), wanted=(entry.linkname,))
        finally:
            os.close(held)

    def _file(self, entry: Entry, path: bytes, above: int, name: bytes) -> None:
        fd = inodes.open_regular(name, above)
        try:
            found = os.fstat(fd)
            self._same(path, "size", found.st_size, wanted=(entry.size,))
            end = 0
            for offset, data in self._reader.pieces():
                if entry.sparse is not None:
                    self._hole(path, fd, end, offset)
                self._same(path, "content", os.pread(fd, len(data), offset), wanted=(data,))
                end = offset + len(data)
            if entry.sparse is not None:
                self._hole(path, fd, end, entry.size)
            self._metadata(entry, path, found, fd)
        finally:
            os.close(fd)

    def _hole(self, path: bytes, fd: int, start: int, end: int) -> None:
        """Hold that there are only zeros from `start` to `end`; what is not on the disk is not read."""
        while start < end:
            try:
                start = os.lseek(fd, start, os.SEEK_DATA)
            except OSError as error:
                if error.errno == ENXIO:
                    return
                if error.errno != EINVAL:
                    raise
            if start < end:
                data = os.pread(fd, min(_PIECE, end - start), start)
                self._same(path, "content", bool(data) and not any(data), wanted=(True,))
                start += len(data)

    def _metadata(self, entry: Entry, path: bytes, found: os.stat_result, target: "int | bytes") -> None:
        there = entry_of(path, found)
        self._same(path, "type", there.type, wanted=(entry.type,))
        if entry.type != SYMLINK:
            self._same(path, "permissions", there.mode, wanted=(entry.mode,))
        self._same(path, "owner", there.uid, there.gid, wanted=(entry.uid, entry.gid))
        self._same(path, "device number", there.major, there.minor, wanted=(entry.major, entry.minor))
        self._same(path, "attributes", read_xattrs(target), wanted=(carried(entry.xattrs),))
        if entry.type != DIRECTORY:  # a directory's is the moment of unpacking where no entry makes it
            self._same(path, "time", there.mtime_ns, wanted=(bounded(entry.mtime_ns),))

    @staticmethod
    def _same(path: bytes, what: str, *found: object, wanted: tuple[object, ...]) -> None:
        if found != wanted:
            raise _Different(f"the {what} of {shown(path) or '/'!r} changed")

    def _stat(self, parent: bytes, name: bytes) -> os.stat_result:
        try:
            return os.stat(name or b".", dir_fd=self._directory(parent), follow_symlinks=False)
        except FileNotFoundError:
            path = parent + b"/" + name if parent else name
            raise _Different(f"{shown(path)!r} is missing") from None

    def _directory(self, path: bytes) -> int:
        """Return the descriptor of a directory of the tree; the newest stay open, for the files in them."""
        fd = self._open.get(path)
        if fd is not None:
            return fd
        try:
            fd = openat2(self._root, path, _DIRECTORY, _BENEATH)
        except OSError as error:
            if error.errno in (ENOENT, ENOTDIR, ELOOP, EXDEV):
                words = "is missing" if error.errno == ENOENT else "is no directory"
                raise _Different(f"{shown(path)!r} {words}") from None
            raise
        if len(self._open) >= _OPEN_DIRECTORIES:
            for old in list(self._open)[1 : _OPEN_DIRECTORIES // 2]:
                os.close(self._open.pop(old))
        self._open[path] = fd
        return fd

    # -- the tree's side

    def _walk(self) -> None:
        """Take every name of the tree off the sum; nothing is left of it where they are those of the archive."""
        if self._root_told:
            self._take_off(b"")
        self._opaque(self._root, b"")
        # one directory of each level is open
        stack = [(os.dup(self._root), b"", os.listdir(self._root))]
        try:
            while stack:
                fd, prefix, names = stack[-1]
                if not names:
                    stack.pop()
                    os.close(fd)
                    continue
                name = os.fsencode(names.pop())
                found = os.stat(name, dir_fd=fd, follow_symlinks=False)
                if stat.S_ISSOCK(found.st_mode):
                    continue  # no archive has them
                path = prefix + name
                self._take_off(path)
                if stat.S_ISDIR(found.st_mode):
                    if len(stack) > _MAX_DEPTH:
                        raise HostileInput(f"{shown(path)!r} is more than {_MAX_DEPTH} directories deep")
                    child = self._below(fd, name, path)
                    stack.append((child, path + b"/", os.listdir(child)))
        finally:
            for fd, _, _ in stack:
                os.close(fd)

    def _below(self, above: int, name: bytes, path: bytes) -> int:
        """Open a directory that the walk comes to."""
        try:
            fd = openat2(above, name, _DIRECTORY, _BENEATH)
        except OSError as error:
            if error.errno == EXDEV:
                raise _Different(f"something is mounted on {shown(path)!r}") from None
            raise
        try:
            self._opaque(fd, path)
        except BaseException:
            os.close(fd)
            raise
        return fd

    def _opaque(self, fd: int, path: bytes) -> None:
        if is_opaque(fd):
            self._take_off(path + _OPAQUE)

    # -- the sum

    def _count(self, path: bytes) -> None:
        value = self._value(path)
        self._sum = (self._sum + value) % _MODULUS
        if self._names is not None:
            self._names.add(value)
            if len(self._names) > _NAMED:
                self._names = None

    def _take_off(self, path: bytes) -> None:
        value = self._value(path)
        self._sum = (self._sum - value) % _MODULUS
        if self._names is not None and value not in self._names:
            opaque = path.endswith(_OPAQUE)
            words = "hides what is below it" if opaque else "is there"
            raise _Different(f"{shown(path.removesuffix(_OPAQUE)) or '/'!r} {words}, and the layer does not say so")

    def _value(self, path: bytes) -> int:
        return int.from_bytes(blake2b(path, digest_size=16, key=self._key).digest(), "little")


def _name_of(error: OSError) -> str | None:
    name = error.filename
    return None if name is None or isinstance(name, int) else shown(os.fsencode(str(name)))
