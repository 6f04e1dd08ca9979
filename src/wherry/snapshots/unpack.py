"""Apply one layer to an empty directory, in one pass: hash, inflate, hash, write by descriptor, make durable.

Whiteouts of the archive (`.wh.name`, `.wh..wh..opq`) become overlayfs's own (a character device 0:0, the attribute
`trusted.overlay.opaque`). As the image specification has it they hide only what the layers below hold: a file that
the same layer brings stays, and a directory that it deletes and brings anew is opaque. Other `.wh..wh.*` names are
aufs's private notes and are ignored.

The tree is the one that Docker's overlay2 makes, but for three things: the root's entry gives the root its metadata,
times keep their nanoseconds, and a hard link's header changes nothing of the file that it names.

`worker` is what the spawner runs: it confines itself before it reads the first header.
"""

import os
from errno import EFBIG, EINVAL, ENAMETOOLONG, ERANGE

from wherry.errors import DigestMismatch, HostileInput, KernelError, WherryError
from wherry.linux.libc import check, libc
from wherry.snapshots.confine import confine
from wherry.snapshots.inflate import Stream
from wherry.snapshots.limits import Limits
from wherry.snapshots.tar import DIRECTORY, FILE, HARDLINK, SYMLINK, TarReader
from wherry.snapshots.tarfields import shown
from wherry.snapshots.tree import Tree, path_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from wherry.snapshots.tar import Entry

WHITEOUT_PREFIX = b".wh."
_AUFS = b".wh..wh."
OPAQUE_MARKER = b".wh..wh..opq"


class Applied:
    """What a layer turned out to be.

    Fields: `diff_id` (sha256 of the inflated archive), `size` (bytes of its files, holes included, and of its symbolic
    links, as Docker counts them), `entries`,
    `compressed_digest`, `compressed_size` (of what was read; the same as the archive's for a plain one).
    """

    __slots__ = ("compressed_digest", "compressed_size", "diff_id", "entries", "size")

    def __init__(self, diff_id: str, size: int, entries: int, compressed_digest: str, compressed_size: int) -> None:
        self.diff_id = diff_id
        self.size = size
        self.entries = entries
        self.compressed_digest = compressed_digest
        self.compressed_size = compressed_size

    def to_json(self) -> "dict[str, str | int]":
        """The fields as a worker's result carries them."""
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def from_json(cls, value: "dict[str, Any]") -> "Applied":
        """Rebuild from `to_json`; keys it does not know are ignored."""
        return cls(**{name: value[name] for name in cls.__slots__})


def apply_layer(
    source_fd: int,
    dir_fd: int,
    limits: Limits | None = None,
    *,
    expect_diff_id: str | None = None,
    sync: bool = True,
) -> Applied:
    """Read a layer (tar, plain or compressed) to its end and write it below a directory, durably.

    Args:
        source_fd: file, pipe or socket; read to its end, stays open.
        dir_fd: an empty directory that nobody else uses; stays open. It gets the metadata of the layer's root.
        limits: ceilings; the defaults where None.
        expect_diff_id: `sha256:<hex>` that the inflated archive must have.
        sync: make it durable; whoever unpacks several layers does that for all of them together, before any counts.

    Raises:
        HostileInput: the archive breaks a ceiling, or an entry cannot be what it says.
        StoreCorrupt: it is damaged or truncated.
        DigestMismatch: it is not what was expected.
        KernelError: a file could not be written (ENOSPC and the like).
        After each of them the directory holds a partial tree, which the caller removes (`remove_tree`).
    """
    limits = limits or Limits()
    return _apply(Stream(source_fd, limits), dir_fd, limits, expect_diff_id, sync=sync)


def worker(args: "dict[str, Any]", fds: "dict[str, int]") -> "dict[str, Any]":
    """Run `apply_layer` as a process of its own, confined. Nothing can be imported in it afterwards.

    Args:
        args: `{"limits": {…}, "expect_diff_id": str | null, "sync": bool}`.
        fds: `source`, `target` (the directory); what else is in it stays open.

    Returns:
        the fields of `Applied`.

    Raises:
        As `apply_layer`.
    """
    limits = Limits.from_json(args.get("limits"))
    try:
        # The first bytes name the decompressor, whose module must be imported while there is a path to it.
        stream = Stream(fds["source"], limits)
        confine(fds["target"], limits.max_bytes)
        expected, sync = args.get("expect_diff_id"), bool(args.get("sync", True))
        return _apply(stream, fds["target"], limits, expected, sync=sync).to_json()
    except MemoryError:
        raise HostileInput("layer asks for more memory than a worker has") from None


def _apply(stream: Stream, dir_fd: int, limits: Limits, expect_diff_id: str | None, *, sync: bool) -> Applied:
    reader = TarReader(stream, limits)
    tree = Tree(dir_fd)
    try:
        links = _entries(reader, tree, limits.max_depth)
        tree.finish()
    finally:
        tree.close()
    stream.drain()
    if expect_diff_id is not None and stream.digest != expect_diff_id:
        raise DigestMismatch(
            f"layer content is {stream.digest}, expected {expect_diff_id}", got=stream.digest, expected=expect_diff_id
        )
    if sync:
        check(libc.syncfs(dir_fd), "syncfs")
    return Applied(
        stream.digest, reader.total + links, reader.entries, stream.compressed_digest, stream.compressed_size
    )


def _entries(reader: TarReader, tree: Tree, max_depth: int) -> int:
    """Write every entry of the archive into the tree; returns the bytes that symbolic links hold."""
    links = 0
    while (entry := reader.next()) is not None:
        path = path_of(entry.name, max_depth)
        parent, _, name = path.rpartition(b"/")
        try:
            if _AUFS in path and is_note(parent, name):
                continue
            if name == OPAQUE_MARKER:
                tree.opaque(parent)
            elif name.startswith(WHITEOUT_PREFIX):
                hidden = name[len(WHITEOUT_PREFIX) :]
                if hidden in (b"", b".", b".."):
                    raise HostileInput(f"archive entry {shown(path)!r} hides no file", entry=shown(path))
                tree.whiteout(parent, hidden)
            else:
                place(reader, tree, entry, path, max_depth)
                if entry.type == SYMLINK:
                    links += len(entry.linkname)
        except WherryError as error:
            error.facts.setdefault("entry", shown(entry.name))
            raise
        except OSError as error:
            raise translated(error, entry.name) from error
    return links


def place(
    reader: TarReader,
    tree: Tree,
    entry: "Entry",
    path: bytes,
    max_depth: int,
    copy: "Callable[[int], None] | None" = None,
) -> None:
    """Write one entry into a tree, whatever its name would mean in a layer.

    Args:
        reader: at the entry's data.
        path: its clean name (`path_of`).
        copy: writes the data of a file to a descriptor, in place of the reader. It is called for every regular file
            that is made, also for an empty one.

    Raises:
        HostileInput, OSError: it cannot be made.
    """
    parent, _, name = path.rpartition(b"/")
    kind = entry.type
    if not name and kind != DIRECTORY:
        raise HostileInput(f"archive entry {shown(entry.name)!r} is no directory, and names the root")
    if kind == FILE:
        fd = tree.file(parent, name)
        try:
            if copy is not None:
                copy(fd)
            elif entry.size:
                reader.copy_to(fd)
            tree.finish_file(fd, entry)
        finally:
            os.close(fd)
    elif kind == DIRECTORY:
        tree.directory(parent, name, entry)
    elif kind == SYMLINK:
        tree.symlink(parent, name, entry)
    elif kind == HARDLINK:
        target_parent, _, target = path_of(entry.linkname, max_depth).rpartition(b"/")
        if not target:
            raise HostileInput(f"archive entry {shown(path)!r} is a hard link to the root", entry=shown(path))
        tree.hardlink(parent, name, target_parent, target)
    else:
        tree.special(parent, name, entry)


def is_note(parent: bytes, name: bytes) -> bool:
    """Tell whether an entry is one of aufs's notes, or below one: it is no part of the layer."""
    above = any(part.startswith(_AUFS) for part in parent.split(b"/"))
    return above or (name.startswith(_AUFS) and name != OPAQUE_MARKER)


def translated(error: OSError, name: bytes) -> WherryError:
    """A name or value that no file system takes is the archive's fault; the rest is the machine's."""
    errno = error.errno or 0
    if errno in (ENAMETOOLONG, EINVAL, ERANGE, EFBIG):
        return HostileInput(f"archive entry {shown(name)!r}: {os.strerror(errno).lower()}", entry=shown(name))
    return KernelError("unpack", errno, shown(name), entry=shown(name))
