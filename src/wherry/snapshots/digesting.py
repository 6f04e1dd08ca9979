"""What a build step takes from a tree, as one digest: names, metadata and contents, never a time."""

import os
from hashlib import sha256

from wherry.errors import NotFound
from wherry.linux import inodes
from wherry.linux.openat import RESOLVE_BENEATH, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, openat2
from wherry.snapshots.confine import confine_reader
from wherry.snapshots.mounted import join_layers, leave_host
from wherry.snapshots.selecting import inside, select
from wherry.snapshots.treeview import DIRECTORY, FILE, DiskView, Excluded, resolve

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Protocol

    from wherry.snapshots.treeview import Entry, View

    class Contents(View, Protocol):
        """A tree whose files can be hashed."""

        def content(self, path: str, entry: "Entry", /) -> str: ...

    class _Hash(Protocol):
        def update(self, data: bytes, /) -> None: ...


_PIECE = 1 << 20
_BENEATH = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS


class DiskContents(DiskView):
    """A tree on disk, with what is in its files; as `DiskView`."""

    __slots__ = ()

    def content(self, path: str, _entry: "Entry", /) -> str:
        fd = inodes.read_held(openat2(self.fd, path, inodes.HOLD, _BENEATH), path)
        try:
            return hash_file(fd)
        finally:
            os.close(fd)


def digest_worker(args: "dict[str, Any]", _fds: "dict[str, int]") -> "dict[str, Any]":
    """Say what a step would take from layers, by content.

    Args:
        args: `root`, `at` as `worker`; `questions`: `[patterns, exclude rules]` each.

    Returns:
        `{"digests": [hex]}`.
    """
    leave_host()
    view = DiskContents(join_layers(args["root"], args["at"]))
    confine_reader()
    return {"digests": [digest(view, patterns, Excluded(rules)) for patterns, rules in args["questions"]]}


def digest(view: "Contents", sources: "Sequence[str]", excluded: "Excluded", *, exact: bool = False) -> str:
    """Hex digest of all that these sources give a step: names, metadata and content, never a time.

    Args:
        view: the tree.
        sources: patterns as of `select`.
        excluded: what is left out.
        exact: the sources are paths, not patterns: a file may be called `[x]`.

    Raises:
        NotFound: one of them names what is not there; its `path` says what.
    """
    state = sha256()
    for source in sources:
        for path in [inside(source)] if exact else select(view, source):
            state.update(f"{path.rpartition('/')[2]}\n".encode("utf-8", "surrogateescape"))
            fingerprint(view, resolve(view, path), excluded, state)
        state.update(b"\0")
    return state.hexdigest()


def hash_file(fd: int) -> str:
    """Hex sha256 of what `fd` still gives."""
    state = sha256()
    while piece := os.read(fd, _PIECE):
        state.update(piece)
    return state.hexdigest()


def fingerprint(view: "Contents", path: str, excluded: "Excluded", state: "_Hash") -> None:
    """Feed a path and all below it into a hash: names, modes, owners, links, contents; never a time.

    Args:
        path: without links (`resolve`).
        excluded: what does not count.
    """
    entry = view.get(path)
    if entry is None:
        raise NotFound(f"{path}: file does not exist", path=path)
    _feed(view, path, "", entry, excluded, state)


def _feed(view: "Contents", path: str, shown: str, entry: "Entry", excluded: "Excluded", state: "_Hash") -> None:
    content = view.content(path, entry) if entry.kind == FILE else entry.link
    line = f"{shown}\0{entry.kind}{entry.mode:o}:{entry.uid}:{entry.gid}:{content}\0{entry.extra}\n"
    state.update(line.encode("utf-8", "surrogateescape"))
    if entry.kind != DIRECTORY:
        return
    for name in view.names(path):
        below = f"{path}/{name}" if path else name
        if excluded and excluded(f"{shown}/{name}".lstrip("/")):
            found = view.get(below)
            if found is not None and found.kind == DIRECTORY:
                _feed_kept(view, below, f"{shown}/{name}", excluded, state)
            continue
        found = view.get(below)
        if found is not None:
            _feed(view, below, f"{shown}/{name}", found, excluded, state)


def _feed_kept(view: "Contents", path: str, shown: str, excluded: "Excluded", state: "_Hash") -> None:
    """What an excluded directory still gives: files that a later rule takes back."""
    for name in view.names(path):
        below, seen = f"{path}/{name}", f"{shown}/{name}"
        found = view.get(below)
        if found is None:
            continue
        if not excluded(seen.lstrip("/")):
            _feed(view, below, seen, found, excluded, state)
        elif found.kind == DIRECTORY:
            _feed_kept(view, below, seen, excluded, state)
