"""Random build contexts: what the index says of each path is what an independent reader of the archive says of it.

The reader is the standard library's `tarfile`, and a file system of dictionaries on which its members are played.
"""

import hashlib
import io
import json
import os
import tarfile
import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.fuzz.test_fuzz import ROUND, for_a_while
from wherry.builder.contexts import inmemory
from wherry.errors import WherryError
from wherry.snapshots.inflate import Stream
from wherry.snapshots.limits import Limits
from wherry.snapshots.plaintar import unpack_context
from wherry.snapshots.remove import remove_tree

pytestmark = pytest.mark.root

Member = tuple[str, str, str]
"""Kind, name, content or link."""

_NAMES = st.sampled_from(["a", "b", "d", "l", "d/a", "d/b", "l/a", "l/b", "a/b", "d/e/a", "d/e", "./d//a", "d/../b"])
_FILES = st.tuples(
    st.sampled_from(["file", "sparse", "hole"]), _NAMES, st.sampled_from(["", "honest", "evil", "x" * 600])
)
_LINKS = st.tuples(st.just("link"), _NAMES, st.sampled_from(["a", "d", "/d", "../b", "l", "nowhere", "e"]))
_HARD = st.tuples(st.just("hard"), _NAMES, _NAMES)
_DIRECTORIES = st.tuples(st.just("directory"), _NAMES, st.just(""))
_MEMBERS = st.lists(_FILES | _FILES | _FILES | _LINKS | _HARD | _DIRECTORIES, max_size=10)
_HOLE = 4096


def archive_of(members: list[Member]) -> bytes:
    """Write an archive; sparse files have pax's form 1.0, those called `hole` begin with one."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for kind, name, text in members:
            info = tarfile.TarInfo(name)
            info.mode = 0o755
            body = b""
            if kind in ("sparse", "hole"):
                start = _HOLE if kind == "hole" else 0
                body = f"1\n{start}\n{len(text)}\n".encode().ljust(512, b"\0") + text.encode()
                size = str(start + len(text))
                info.name = "GNUSparseFile.0/x"
                keys = ("major", "1"), ("minor", "0"), ("name", name), ("realsize", size)
                info.pax_headers = {f"GNU.sparse.{key}": value for key, value in keys}
            elif kind == "file":
                body = text.encode()
            elif kind == "directory":
                info.type = tarfile.DIRTYPE
            else:
                info.type, info.linkname = (tarfile.SYMTYPE if kind == "link" else tarfile.LNKTYPE), text
            info.size = len(body)
            archive.addfile(info, io.BytesIO(body))
    return out.getvalue()


class Refused(Exception):
    """The archive has no tree."""


class Node:
    """A file, link or directory of the reader's."""

    def __init__(self, kind: str, value: str = "") -> None:
        self.kind = kind
        self.value = value
        self.below: dict[str, Node] = {}


def _words(path: str) -> list[str]:
    words: list[str] = []
    for word in path.split("/"):
        if word == "..":
            del words[-1:]
        elif word not in ("", "."):
            words.append(word)
    return words


class Reader:
    """The tree that an archive's members make, one after the other."""

    def __init__(self, data: bytes) -> None:
        self.root = Node("d")
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            for member in archive:
                self._take(archive, member)

    def _take(self, archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        *above, name = _words(member.name)
        parent = self._directory(above)
        there = parent.below.get(name)
        if member.isdir():
            if there is None or there.kind != "d":
                parent.below[name] = Node("d")
        elif member.issym():
            parent.below[name] = Node("l", member.linkname)
        elif member.islnk():
            target = self._linked(member.linkname)
            if there is target:
                return
            if there is not None:
                # what is in the way goes first, and with it perhaps the target, or the way to either
                del parent.below[name]
                parent, target = self._directory(above), self._linked(member.linkname)
            parent.below[name] = target
        else:
            file = archive.extractfile(member)
            assert file is not None
            parent.below[name] = Node("f", hashlib.sha256(file.read()).hexdigest())

    def _linked(self, path: str) -> Node:
        *way, last = _words(path)
        found = self._walk(way)
        target = found.below.get(last) if found is not None else None
        if target is None or target.kind == "d":
            raise Refused
        return target

    def _walk(self, words: list[str]) -> Node | None:
        """Follow a path, links too, never out of the root."""
        todo, way, links = words[::-1], [self.root], 0
        while todo:
            word = todo.pop()
            if word in ("", "."):
                continue
            if word == "..":
                way = way[:-1] or way
                continue
            node = way[-1].below.get(word)
            if node is None or node.kind == "f":
                return None
            if node.kind == "d":
                way.append(node)
                continue
            links += 1
            if links > 40:
                return None
            if node.value.startswith("/"):
                way = way[:1]
            todo += node.value.split("/")[::-1]
        return way[-1]

    def _directory(self, words: list[str]) -> Node:
        found = self._walk(words)
        if found is None:
            parent = self._directory(words[:-1])
            if words[-1] in parent.below:
                raise Refused
            found = parent.below[words[-1]] = Node("d")
        return found

    def paths(self) -> dict[str, tuple[str, str]]:
        """Kind, and digest or link, of each path."""
        found: dict[str, tuple[str, str]] = {}
        todo = [("", self.root)]
        while todo:
            path, node = todo.pop()
            for name, below in node.below.items():
                here = f"{path}/{name}" if path else name
                found[here] = (below.kind, below.value)
                todo.append((here, below))
        return found


def _unpacked(data: bytes) -> dict[str, tuple[str, str]] | None:
    """What the index of an unpacked context says, once it was held against the files; None where it was refused."""
    limits = Limits(max_bytes=4 << 20)
    with tempfile.TemporaryDirectory(prefix="wherry-fuzz-") as base:
        root = Path(base, "root")
        root.mkdir()
        source, index = os.memfd_create("archive"), os.memfd_create("index")
        target = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.write(source, data)
            os.lseek(source, 0, os.SEEK_SET)
            unpack_context(Stream(source, limits), target, index, limits)
            os.lseek(index, 0, os.SEEK_SET)
            with os.fdopen(os.dup(index), "rb") as file:
                lines = [json.loads(line) for line in file]
            for path, kind, *_, link, digest, _extra in lines:
                if kind == "f":
                    assert digest == hashlib.sha256((root / path).read_bytes()).hexdigest(), path
                elif kind == "l":
                    assert link == os.readlink(root / path)
            return {path: (kind, digest or link) for path, kind, *_, link, digest, _extra in lines}
        except WherryError:
            return None
        finally:
            for fd in (source, index, target):
                os.close(fd)
            above = os.open(base, os.O_RDONLY | os.O_DIRECTORY)
            remove_tree(above, b"root")
            os.close(above)


@ROUND
@given(_MEMBERS)
@example([("file", "a", "honest"), ("sparse", "a", "evil")])
@example([("file", "a", "honest"), ("file", "a", "")])
@example([("file", "b", "honest"), ("sparse", "b", "evil"), ("hard", "a", "b")])
@example([("file", "d/a", "honest"), ("link", "d", "e"), ("directory", "d", ""), ("hole", "d/a", "evil")])
def _contexts(members: list[Member]) -> None:
    data = archive_of(members)
    said = _unpacked(data)
    try:
        expected = Reader(data).paths()
    except Refused:
        assert said is None
        return
    assert said == expected
    small = inmemory.read(data)
    if small is not None:
        entries, contents = small
        assert {path: (entry.kind, entry.digest or entry.link) for path, entry in entries.items()} == expected
        for path, content in contents.items():
            assert hashlib.sha256(content).hexdigest() == entries[path].digest


def test_contexts() -> None:
    """Each path of a context has the kind, link and content digest that the archive gives it, in memory and on disk."""
    for_a_while(_contexts)
