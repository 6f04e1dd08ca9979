"""Archives that are no layers: build contexts, and what `ADD` unpacks. A `.wh.` name is a name like others there."""

import os
from hashlib import sha256
from json import dumps

from wherry.errors import HostileInput, WherryError
from wherry.linux import inodes
from wherry.linux.openat import RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, openat2
from wherry.snapshots.confine import confine
from wherry.snapshots.digesting import hash_file
from wherry.snapshots.harmless import disarm
from wherry.snapshots.inflate import Stream
from wherry.snapshots.limits import Limits
from wherry.snapshots.tar import DIRECTORY, TarReader
from wherry.snapshots.tarfields import shown
from wherry.snapshots.tree import Tree, path_of
from wherry.snapshots.treeview import FILE, entry_at
from wherry.snapshots.unpack import place, translated

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from wherry.snapshots.ownership import Owner
    from wherry.snapshots.tar import Entry

_PIECE = 256 * 1024


def plain_entries(
    reader: TarReader, dir_fd: int, max_depth: int, owner: "Owner | None" = None, harmless: str = ""
) -> None:
    """Write every entry of an archive below a directory, which may hold files already.

    Args:
        dir_fd: the directory; it is the archive's root.
        owner: who gets the files, whatever the archive says.
        harmless: the advice with which device nodes are refused (`harmless.disarm`); setuid bits are taken away then.

    Raises:
        HostileInput, StoreCorrupt, KernelError: the archive is not what it should be, or a file cannot be made.
        InvalidArgument: a device node that must not be.
    """
    tree = Tree(dir_fd)
    try:
        while (entry := reader.next()) is not None:
            if entry.type != DIRECTORY and entry.name.strip(b"/") in (b"", b"."):
                continue  # a file that names the root is passed over, as by Docker
            if owner is not None:
                entry.uid, entry.gid = owner.uid, owner.gid
            if harmless:
                disarm(entry, harmless)
            _place(reader, tree, entry, max_depth)
        tree.finish()
    finally:
        tree.close()


def context_worker(args: "dict[str, Any]", fds: "dict[str, int]") -> "dict[str, Any]":
    """Unpack a build context into an empty directory and write its index.

    Args:
        args: `{"limits": {…}}`.
        fds: `source` (the archive), `target` (the directory), `index` (a file: one JSON array for each path, as
            `treeview.Entry.to_json` behind the path).

    Returns:
        `{"entries", "size"}`.

    Raises:
        HostileInput, StoreCorrupt, KernelError: as for a layer.
    """
    limits = Limits.from_json(args.get("limits"))
    try:
        stream = Stream(fds["source"], limits)
        confine(fds["target"], limits.max_bytes)
        entries, size = unpack_context(stream, fds["target"], fds["index"], limits)
        return {"entries": entries, "size": size}
    except MemoryError:
        raise HostileInput("the build context asks for more memory than a worker has") from None


def unpack_context(stream: Stream, dir_fd: int, index_fd: int, limits: Limits) -> "tuple[int, int]":
    """Write a build context below an empty directory, and its index into a file.

    Returns:
        (how many paths there are, bytes of the files).

    Raises:
        HostileInput, StoreCorrupt, KernelError: as for a layer.
    """
    digests = _unpack(TarReader(stream, limits), dir_fd, limits.max_depth)
    stream.drain()
    return write_index(dir_fd, index_fd, digests)


def _unpack(reader: TarReader, target: int, max_depth: int) -> "dict[int, str]":
    """Write all entries; returns hex sha256 of files by inode number, for those whose bytes went through our hands.

    An archive may replace a file, and the file system gives the number of the old one to the new one. So whenever a
    file is made, what was known of its number is forgotten first.
    """
    digests: dict[int, str] = {}
    tree = Tree(target)
    try:
        while (entry := reader.next()) is not None:
            # a context has no owners: whoever sent it, the files are root's
            entry.uid = entry.gid = 0
            sparse = entry.sparse is not None

            def copy(fd: int, sparse: bool = sparse) -> None:
                number = os.fstat(fd).st_ino
                digests.pop(number, None)
                if sparse:
                    reader.copy_to(fd)  # its holes are no data of the archive: `write_index` reads the file
                    return
                state = sha256()
                while piece := reader.read(_PIECE):
                    state.update(piece)
                    rest = memoryview(piece)
                    while rest:
                        rest = rest[os.write(fd, rest) :]
                digests[number] = state.hexdigest()

            _place(reader, tree, entry, max_depth, copy)
        tree.finish()
    finally:
        tree.close()
    return digests


def _place(
    reader: TarReader, tree: Tree, entry: "Entry", max_depth: int, copy: "Callable[[int], None] | None" = None
) -> None:
    try:
        place(reader, tree, entry, path_of(entry.name, max_depth), max_depth, copy)
    except WherryError as error:
        error.facts.setdefault("entry", shown(entry.name))
        raise
    except OSError as error:
        raise translated(error, entry.name) from error


def write_index(dir_fd: int, index_fd: int, digests: "dict[int, str]") -> "tuple[int, int]":
    """Write down every path below a directory, parents first.

    Args:
        digests: hex sha256 of the directory's files as they are now, by inode number; a file without one is read.

    Returns:
        (how many there are, bytes of the files).
    """
    count = total = 0
    lines: list[str] = []
    stack = [""]
    while stack:
        above = stack.pop()
        fd = openat2(dir_fd, above or ".", os.O_RDONLY | os.O_DIRECTORY, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS)
        try:
            for name in sorted(os.listdir(fd)):
                entry = entry_at(fd, name, mine=True)
                if entry is None:
                    continue
                path = f"{above}/{name}" if above else name
                if entry.kind == FILE:
                    entry.digest = digests.get(os.stat(name, dir_fd=fd, follow_symlinks=False).st_ino) or _hash(
                        fd, name
                    )
                    total += entry.size
                elif entry.kind == "d":
                    stack.append(path)
                count += 1
                lines.append(dumps([path, *entry.to_json()], separators=(",", ":")))
        finally:
            os.close(fd)
        if len(lines) > 4096:
            _write(index_fd, lines)
    _write(index_fd, lines)
    return count, total


def _hash(directory: int, name: str) -> str:
    fd = inodes.open_regular(name, directory)
    try:
        return hash_file(fd)
    finally:
        os.close(fd)


def _write(fd: int, lines: "list[str]") -> None:
    rest = memoryview("".join(f"{line}\n" for line in lines).encode())
    while rest:
        rest = rest[os.write(fd, rest) :]
    lines.clear()
