"""Archives built by hand, and a place to unpack them in whose surroundings are watched."""

import gzip
import os
import stat
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from wherry.paths import Roots
from wherry.snapshots.limits import Limits
from wherry.snapshots.overlay import Overlay
from wherry.snapshots.unpack import Applied, apply_layer

FILE, HARDLINK, SYMLINK, CHARACTER, BLOCK, DIRECTORY, FIFO = "0", "1", "2", "3", "4", "5", "6"
END = bytes(1024)


def member(
    name: str,
    kind: str = FILE,
    data: bytes = b"",
    *,
    link: str = "",
    pax: dict[str, str] | None = None,
    encoding: Literal[0, 1, 2] = tarfile.PAX_FORMAT,
    **fields: Any,
) -> bytes:
    """One entry: header, data, padding. `fields` are TarInfo's (`mode`, `uid`, `mtime`, `devmajor`…)."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind.encode(), link, len(data)
    info.mode = 0o755 if kind == DIRECTORY else 0o644
    info.mtime = 1_700_000_000
    for key, value in fields.items():
        setattr(info, key, value)
    if pax:
        info.pax_headers = dict(pax)
    return info.tobuf(encoding, "utf-8", "surrogateescape") + data + bytes(-len(data) % 512)


def archive(*members: bytes) -> bytes:
    """A whole archive."""
    return b"".join(members) + END


def gz(data: bytes) -> bytes:
    """The archive in gzip, without a time."""
    return gzip.compress(data, 6, mtime=0)


class Place:
    """A data root, and beside it a host that no archive may touch."""

    def __init__(self, root: Path) -> None:
        self.host = root / "host"
        self.host.mkdir(parents=True)
        (self.host / "passwd").write_text("root:x:0:0\n")
        (self.host / "dir").mkdir()
        (self.host / "dir" / "file").write_text("untouched\n")
        (self.host / "tool").write_text("#!/bin/sh\n")
        (self.host / "tool").chmod(0o755)
        self.overlay = Overlay(Roots(str(root / "data"), str(root / "run")))
        self.ingest = root / "data" / "ingest"
        self._before = list(listing(self.host))

    def unpack(self, data: bytes, limits: Limits | None = None, expect: str | None = None) -> tuple[Path, Applied]:
        """Unpack as the engine does: staged, abandoned on any error. Returns the tree."""
        staging = self.overlay.stage()
        try:
            with tempfile.TemporaryFile() as source:
                source.write(data)
                source.seek(0)
                target = os.open(staging, os.O_RDONLY | os.O_DIRECTORY)
                try:
                    applied = apply_layer(source.fileno(), target, limits, expect_diff_id=expect)
                finally:
                    os.close(target)
        except BaseException:
            self.overlay.abandon(staging)
            raise
        return Path(staging), applied

    def unchanged(self) -> bool:
        """Is the host as it was, to the last attribute?"""
        return list(listing(self.host)) == self._before

    def nothing_left(self) -> bool:
        """Is there no partial tree?"""
        return os.listdir(self.ingest) == []


def listing(root: Path, *, times: bool = True) -> Iterator[tuple[object, ...]]:
    """Every file below `root` with all that identifies it, in order of name."""
    for path in sorted([root, *_below(root)]):
        found = path.lstat()
        kind = stat.S_IFMT(found.st_mode)
        content: object = None
        if kind == stat.S_IFREG:
            content = path.read_bytes()
        elif kind == stat.S_IFLNK:
            content = os.readlink(path)
        elif kind in (stat.S_IFCHR, stat.S_IFBLK):
            content = found.st_rdev
        xattrs = {
            name: os.getxattr(path, name, follow_symlinks=False) for name in os.listxattr(path, follow_symlinks=False)
        }
        links = found.st_nlink if kind == stat.S_IFREG else 1
        mtime = found.st_mtime_ns if times else 0
        yield str(path.relative_to(root)), found.st_mode, found.st_uid, found.st_gid, mtime, links, content, xattrs


def _below(root: Path) -> Iterator[Path]:
    for directory, names, files in os.walk(root):
        for name in names + files:
            yield Path(directory) / name
