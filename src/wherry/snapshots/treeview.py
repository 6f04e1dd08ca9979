"""A tree of files to choose from: on disk, or an index of one that was written down when it arrived.

Both answer the same questions (what is this path, what is in this directory; `digesting`: what does this file hash
to), so that what a build step takes, and what it is called by, is one piece of code whatever it is taken from. Paths
are relative, `/` between components, `""` is the root; names that are no UTF-8 are escaped as Python does.
"""

import os
import stat
from errno import ENODATA, ENOENT, ENOTDIR, ENOTSUP

from wherry.errors import NotFound
from wherry.linux import inodes
from wherry.linux.openat import RESOLVE_BENEATH, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, openat2
from wherry.patterns import globs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Protocol

    class View(Protocol):
        """What selecting asks of a tree."""

        def get(self, path: str) -> "Entry | None": ...
        def names(self, path: str) -> "list[str]": ...


FILE, DIRECTORY, LINK, OTHER = "f", "d", "l", "o"
_MAX_LINKS = 255
_BENEATH = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS


class Entry:
    """One path.

    Fields: `kind` (one of `FILE`, `DIRECTORY`, `LINK`, `OTHER`), `mode` (permission bits), `uid`, `gid`, `size`,
    `mtime_ns`, `link` (a link's target), `digest` (hex sha256 of a file's content, empty where not known yet),
    `extra` (what else counts: attributes, a device's number; text).
    """

    __slots__ = ("digest", "extra", "gid", "kind", "link", "mode", "mtime_ns", "size", "uid")

    def __init__(
        self,
        kind: str,
        mode: int,
        uid: int = 0,
        gid: int = 0,
        size: int = 0,
        mtime_ns: int = 0,
        link: str = "",
        digest: str = "",
        extra: str = "",
    ) -> None:
        self.kind = kind
        self.mode = mode
        self.uid = uid
        self.gid = gid
        self.size = size
        self.mtime_ns = mtime_ns
        self.link = link
        self.digest = digest
        self.extra = extra

    def to_json(self) -> "list[str | int]":
        """The fields in the order of the arguments."""
        return [
            self.kind,
            self.mode,
            self.uid,
            self.gid,
            self.size,
            self.mtime_ns,
            self.link,
            self.digest,
            self.extra,
        ]


class IndexView:
    """A tree as its index says.

    Args:
        entries: by path; every parent of an entry is among them, the root is not.
    """

    __slots__ = ("_children", "entries")

    def __init__(self, entries: "dict[str, Entry]") -> None:
        self.entries = entries
        self._children: dict[str, list[str]] | None = None

    def get(self, path: str) -> "Entry | None":
        return self.entries.get(path) if path else Entry(DIRECTORY, 0o755)

    def names(self, path: str) -> "list[str]":
        if self._children is None:
            children: dict[str, list[str]] = {}
            for known in self.entries:
                parent, _, name = known.rpartition("/")
                children.setdefault(parent, []).append(name)
            for below in children.values():
                below.sort()
            self._children = children
        return self._children.get(path, [])

    def content(self, _path: str, entry: "Entry", /) -> str:
        return entry.digest


class DiskView:
    """A tree on disk; nothing in it is followed out of it.

    Args:
        fd: its root; stays open.
        bare: entries come without extended attributes, which are read through `/proc`: for who only looks for paths.
        mine: treat every owner as root (a build context has none).
    """

    __slots__ = ("_bare", "_mine", "fd")

    def __init__(self, fd: int, *, mine: bool = False, bare: bool = False) -> None:
        self.fd = fd
        self._bare = bare
        self._mine = mine

    def get(self, path: str) -> "Entry | None":
        parent, _, name = path.rpartition("/")
        try:
            above = self._directory(parent)
        except OSError as error:
            if error.errno in (ENOENT, ENOTDIR):
                return None
            raise
        try:
            return entry_at(above, name or ".", mine=self._mine, bare=self._bare)
        finally:
            os.close(above)

    def names(self, path: str) -> "list[str]":
        fd = self._directory(path)
        try:
            return sorted(os.listdir(fd))
        finally:
            os.close(fd)

    def _directory(self, path: str) -> int:
        return openat2(self.fd, path or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, _BENEATH)


def entry_at(directory: int, name: str, *, mine: bool = False, bare: bool = False) -> "Entry | None":
    """Look at one name of an open directory; None where there is none."""
    try:
        held = inodes.hold(name, directory)
    except FileNotFoundError:
        return None
    try:
        return _entry(held, mine=mine, bare=bare)
    finally:
        os.close(held)


def _entry(held: int, *, mine: bool, bare: bool) -> "Entry":
    found = os.fstat(held)
    mode = found.st_mode
    entry = Entry(
        OTHER,
        stat.S_IMODE(mode),
        0 if mine else found.st_uid,
        0 if mine else found.st_gid,
        0,
        found.st_mtime_ns,
        extra="" if bare else _attributes(inodes.path(held)),
    )
    if stat.S_ISREG(mode):
        entry.kind, entry.size = FILE, found.st_size
    elif stat.S_ISDIR(mode):
        entry.kind = DIRECTORY
    elif stat.S_ISLNK(mode):
        entry.kind, entry.link = LINK, os.readlink("", dir_fd=held)
    else:
        entry.extra += f"{stat.S_IFMT(mode):o}:{found.st_rdev}"
    return entry


def _attributes(path: bytes) -> str:
    try:
        names = os.listxattr(path)
    except OSError as error:
        if error.errno in (ENOTSUP, ENOENT, ENODATA):
            return ""
        raise
    words = []
    for name in sorted(names):
        if name.startswith(("trusted.overlay.", "security.selinux", "security.ima")):
            continue
        try:
            words.append(f"{name}={os.getxattr(path, name).hex()};")
        except OSError as error:
            if error.errno != ENODATA:
                raise
    return "".join(words)


def resolve(view: "View", path: str, *, last: bool = True) -> str:
    """Follow the links of a path as a process whose root the tree is would.

    Args:
        view: the tree.
        path: absolute or relative, both from its root; `..` stops there.
        last: whether a link at the end is followed too.

    Returns:
        the path without links.

    Raises:
        NotFound: there is no such file, or its links never end.
    """
    todo = [part for part in path.split("/") if part not in ("", ".")][::-1]
    done: list[str] = []
    links = 0
    while todo:
        part = todo.pop()
        if part == "..":
            if done:
                done.pop()
            continue
        here = "/".join([*done, part])
        entry = view.get(here)
        if entry is None:
            raise NotFound(f"{path}: file does not exist", path=path)
        if entry.kind == LINK and (todo or last):
            links += 1
            if links > _MAX_LINKS:
                raise NotFound(f"{path}: too many links", path=path)
            if entry.link.startswith("/"):
                done = []
            todo += [word for word in entry.link.split("/") if word not in ("", ".")][::-1]
            continue
        if todo and entry.kind != DIRECTORY:
            raise NotFound(f"{path}: file does not exist", path=path)
        done.append(part)
    return "/".join(done)


class Excluded:
    """`--exclude`: which paths are left out; what is left out takes along everything below it.

    Args:
        rules: (pattern of a whole path, whether it takes back); the last one that fits decides.
    """

    __slots__ = ("_rules",)

    def __init__(self, rules: "Iterable[tuple[str, bool]]" = ()) -> None:
        self._rules = [(globs.path(pattern, below=True), back) for pattern, back in rules]

    def __bool__(self) -> bool:
        return bool(self._rules)

    def __call__(self, path: str) -> bool:
        out = False
        for fits, back in self._rules:
            if out == back and fits(path):
                out = not back
        return out
